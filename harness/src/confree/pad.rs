//! Puts unnamed bit-fields at the front of chosen structs in preprocessed C, so
//! that all their members move. Unnamed bit-fields are no members: positional
//! initialisers keep their meaning.

/// A struct definition in preprocessed text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    /// `struct`, or `typedef` for a nameless one that a typedef names.
    pub(super) tag: &'static str,
    pub(super) name: String,
    /// File as the line markers have it.
    pub(super) file: String,
    /// Just behind the opening brace.
    at: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Token<'a> {
    text: &'a str,
    start: usize,
}

/// The struct definitions of a preprocessed unit.
pub(super) fn definitions(text: &str) -> Vec<Definition> {
    let (tokens, files) = tokens(text);
    let mut found = Vec::new();
    for (number, token) in tokens.iter().enumerate() {
        if token.text != "struct" {
            continue;
        }
        let mut at = skip_attributes(&tokens, number + 1);
        let mut tag = None;
        if let Some(token) = tokens.get(at)
            && is_name(token.text)
        {
            tag = Some(token.text);
            at = skip_attributes(&tokens, at + 1);
        }
        let Some(brace) = tokens.get(at).filter(|token| token.text == "{") else {
            continue;
        };
        let (tag, name) = match tag {
            Some(name) => ("struct", name),
            None => match typedef_name(&tokens, number, at) {
                Some(name) => ("typedef", name),
                None => continue,
            },
        };
        let file = files.partition_point(|(start, _)| *start <= token.start);
        found.push(Definition {
            tag,
            name: name.to_owned(),
            file: file
                .checked_sub(1)
                .map(|at| files[at].1.clone())
                .unwrap_or_default(),
            at: brace.start + 1,
        });
    }
    found
}

/// The text with a pad of `words(definition)` eight-byte units in each
/// definition that has one.
pub(super) fn insert(
    text: &str,
    definitions: &[Definition],
    mut words: impl FnMut(&Definition) -> Option<usize>,
) -> (String, usize) {
    let mut padded = String::with_capacity(text.len() + 4096);
    let (mut done, mut count) = (0, 0);
    for definition in definitions {
        let Some(words) = words(definition) else {
            continue;
        };
        padded.push_str(&text[done..definition.at]);
        padded.push_str(&"unsigned long :64;".repeat(words));
        done = definition.at;
        count += 1;
    }
    padded.push_str(&text[done..]);
    (padded, count)
}

/// The name that `typedef struct { … } name` gives.
fn typedef_name<'a>(tokens: &[Token<'a>], keyword: usize, brace: usize) -> Option<&'a str> {
    let before = tokens[..keyword]
        .iter()
        .rev()
        .take_while(|token| is_name(token.text))
        .any(|token| token.text == "typedef");
    if !before {
        return None;
    }
    let mut depth = 0_usize;
    let mut at = brace;
    loop {
        match tokens.get(at)?.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    let name = tokens.get(skip_attributes(tokens, at))?;
    is_name(name.text).then_some(name.text)
}

/// Skips `__attribute__((…))`, `_Alignas(…)` and qualifiers.
fn skip_attributes(tokens: &[Token<'_>], mut at: usize) -> usize {
    while let Some(token) = tokens.get(at) {
        match token.text {
            "const" | "volatile" | "__extension__" => at += 1,
            "__attribute__" | "__attribute" | "_Alignas" => {
                at += 1;
                let mut depth = 0_usize;
                while let Some(token) = tokens.get(at) {
                    match token.text {
                        "(" => depth += 1,
                        ")" => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    at += 1;
                    if depth == 0 {
                        break;
                    }
                }
            }
            _ => break,
        }
    }
    at
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

/// Tokens, and where which file begins.
fn tokens(text: &str) -> (Vec<Token<'_>>, Vec<(usize, String)>) {
    let bytes = text.as_bytes();
    let (mut tokens, mut files) = (Vec::new(), Vec::new());
    let mut at = 0;
    let mut at_line_start = true;
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'\n' => {
                at_line_start = true;
                at += 1;
                continue;
            }
            b' ' | b'\t' | b'\r' | 0x0c => {
                at += 1;
                continue;
            }
            b'#' if at_line_start => {
                let end = text[at..].find('\n').map_or(bytes.len(), |end| at + end);
                if let Some(file) = marker(&text[at..end]) {
                    files.push((start, file));
                }
                at = end;
                continue;
            }
            quote @ (b'"' | b'\'') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote && bytes[at] != b'\n' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at = (at + 1).min(bytes.len());
            }
            letter if letter.is_ascii_alphanumeric() || letter == b'_' => {
                while at < bytes.len() && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_') {
                    at += 1;
                }
                tokens.push(Token {
                    text: &text[start..at],
                    start,
                });
            }
            letter if letter.is_ascii() => {
                at += 1;
                tokens.push(Token {
                    text: &text[start..at],
                    start,
                });
            }
            _ => at += 1,
        }
        at_line_start = false;
    }
    (tokens, files)
}

/// The file of a line marker: `# 12 "dir/file.h" 1 3`.
fn marker(line: &str) -> Option<String> {
    let rest = line.strip_prefix('#')?.trim_start();
    let rest = rest.strip_prefix("line ").unwrap_or(rest);
    let quoted = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    if quoted.len() == rest.len() {
        return None;
    }
    let name = quoted.trim_start().strip_prefix('"')?;
    Some(
        name[..name.rfind('"')?]
            .replace("\\\\", "\\")
            .replace("\\\"", "\""),
    )
}

#[cfg(test)]
mod tests {
    use super::{definitions, insert};

    #[test]
    fn structs_are_found_with_their_names_and_files_and_padded() {
        let text = "# 1 \"dir/a.h\" 1\nstruct one { int a; };\ntypedef struct {\n struct { int x; } in; \
                    } two, *twos;\n# 9 \"b.c\"\nstruct __attribute__((packed)) three\n{ char *s; };\n\
                    struct one *pointer; const char *t = \"struct four {\";\n";
        let found = definitions(text);
        let names: Vec<_> = found
            .iter()
            .map(|d| (d.tag, d.name.as_str(), d.file.as_str()))
            .collect();
        assert_eq!(
            names,
            [
                ("struct", "one", "dir/a.h"),
                ("typedef", "two", "dir/a.h"),
                ("struct", "three", "b.c")
            ]
        );
        let (padded, count) = insert(text, &found, |d| (d.name == "two").then_some(2));
        assert_eq!(count, 1);
        assert!(padded.contains("typedef struct {unsigned long :64;unsigned long :64;\n struct {"));
    }
}
