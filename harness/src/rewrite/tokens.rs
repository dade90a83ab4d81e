//! Preprocessed C as tokens, with the file and line of each.

/// A token and where it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Its text: a name or number, a literal, or one character.
    pub text: &'a str,
    /// Its first byte.
    pub start: usize,
}

impl Token<'_> {
    /// The byte behind it.
    #[must_use]
    pub const fn end(&self) -> usize {
        self.start + self.text.len()
    }
}

/// A line marker: `# 12 "dir/file.h" 1 3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    start: usize,
    /// The number of the next line.
    line: u32,
    /// File as it is written.
    pub file: String,
    quoted: String,
    flags: String,
}

/// A unit's tokens, and its line markers.
pub struct Tokens<'a> {
    /// The whole text.
    pub text: &'a str,
    /// Its tokens.
    pub list: Vec<Token<'a>>,
    markers: Vec<Marker>,
}

impl<'a> Tokens<'a> {
    /// Takes `text` apart.
    #[must_use]
    pub fn of(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let mut tokens = Self {
            text,
            list: Vec::new(),
            markers: Vec::new(),
        };
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
                    tokens.markers.extend(marker(&text[at..end], start));
                    at = end;
                    continue;
                }
                b'"' | b'\'' => at = literal_end(bytes, at),
                letter if letter.is_ascii_alphanumeric() || letter == b'_' => {
                    while at < bytes.len()
                        && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_')
                    {
                        at += 1;
                    }
                }
                _ => {
                    at += 1;
                    while !text.is_char_boundary(at) {
                        at += 1;
                    }
                }
            }
            tokens.list.push(Token {
                text: &text[start..at],
                start,
            });
            at_line_start = false;
        }
        tokens
    }

    /// The text of a token; nothing behind the end.
    #[must_use]
    pub fn get(&self, index: usize) -> &'a str {
        self.list.get(index).map_or("", |token| token.text)
    }

    fn marker(&self, at: usize) -> Option<&Marker> {
        let behind = self.markers.partition_point(|marker| marker.start <= at);
        self.markers.get(behind.checked_sub(1)?)
    }

    /// The file, as line markers have it, that the byte at `at` comes from.
    #[must_use]
    pub fn file(&self, at: usize) -> &str {
        self.marker(at).map_or("", |marker| &marker.file)
    }

    /// Its line.
    #[must_use]
    pub fn line(&self, at: usize) -> u32 {
        let (start, first) = match self.marker(at) {
            Some(marker) => (marker.start, marker.line.saturating_sub(1)),
            None => (0, 1),
        };
        let passed = self.text[start..at].bytes().filter(|byte| *byte == b'\n');
        first.saturating_add(u32::try_from(passed.count()).unwrap_or(u32::MAX))
    }

    /// Text that puts what follows where the byte at `at` is now: a line marker,
    /// and blanks up to its column.
    #[must_use]
    pub fn resume(&self, at: usize) -> String {
        let Some(marker) = self.marker(at) else {
            return "\n".to_owned();
        };
        let column = at - self.text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        format!(
            "\n# {} \"{}\"{}\n{}",
            self.line(at),
            marker.quoted,
            marker.flags,
            " ".repeat(column)
        )
    }

    /// The number of the token behind the bracket that closes the one at `open`.
    #[must_use]
    pub fn behind(&self, open: usize) -> usize {
        let mut depth = 0_usize;
        let mut at = open;
        while let Some(token) = self.list.get(at) {
            match token.text {
                "(" | "[" | "{" => depth += 1,
                ")" | "]" | "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            at += 1;
            if depth == 0 {
                break;
            }
        }
        at
    }

    /// Skips `__attribute__((…))`, `_Alignas(…)` and qualifiers.
    #[must_use]
    pub fn skip_attributes(&self, mut at: usize) -> usize {
        loop {
            match self.get(at) {
                "const" | "volatile" | "restrict" | "__restrict" | "__extension__" | "__const"
                | "__volatile__" => at += 1,
                "__attribute__" | "__attribute" | "_Alignas" | "__asm__" | "asm" => {
                    at = self.behind(at + 1);
                }
                _ => return at,
            }
        }
    }
}

/// Whether a token is a name (or a keyword).
#[must_use]
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
}

fn literal_end(bytes: &[u8], start: usize) -> usize {
    let quote = bytes[start];
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote && bytes[at] != b'\n' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn marker(line: &str, start: usize) -> Option<Marker> {
    let rest = line.strip_prefix('#')?.trim_start();
    let rest = rest.strip_prefix("line ").unwrap_or(rest);
    let quoted = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &rest[..rest.len() - quoted.len()];
    let name = quoted.trim_start().strip_prefix('"')?;
    let (name, flags) = name.split_at(name.rfind('"')?);
    Some(Marker {
        start,
        line: number.parse().ok()?,
        file: name.replace("\\\\", "\\").replace("\\\"", "\""),
        quoted: name.to_owned(),
        flags: flags[1..].trim_end().to_owned(),
    })
}
