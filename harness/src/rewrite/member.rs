//! Takes the body of a record apart into declarations of one member each.

use super::definition::body;
use super::tokens::{Tokens, is_name};

/// One member of a record as its text declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Its name; empty for a nameless record that is a member itself.
    pub name: String,
    /// Tokens of the specifiers: from, behind.
    pub specifiers: (usize, usize),
    /// Tokens of the declarator with its width and attributes: from, behind.
    pub declarator: (usize, usize),
    /// Whether it shares its specifiers with the member before it.
    pub shares: bool,
}

/// The members between two braces, in order. Unnamed bit-fields and static
/// assertions are none.
///
/// # Errors
/// What cannot be read, in words.
pub fn members(tokens: &Tokens<'_>, open: usize, close: usize) -> Result<Vec<Declared>, String> {
    let mut found = Vec::new();
    let mut at = open + 1;
    while at < close {
        let end = semicolon(tokens, at, close);
        if tokens.get(at) != "_Static_assert" && at < end {
            declaration(tokens, at, end, &mut found)?;
        }
        at = end + 1;
    }
    Ok(found)
}

/// The semicolon that ends the declaration at `at`, or `close`.
fn semicolon(tokens: &Tokens<'_>, mut at: usize, close: usize) -> usize {
    while at < close && tokens.get(at) != ";" {
        at = match tokens.get(at) {
            "(" | "[" | "{" => tokens.behind(at),
            _ => at + 1,
        };
    }
    at.min(close)
}

fn declaration(
    tokens: &Tokens<'_>,
    start: usize,
    end: usize,
    found: &mut Vec<Declared>,
) -> Result<(), String> {
    let behind = specifiers(tokens, start, end);
    let mut at = behind;
    let mut shares = false;
    loop {
        let comma = comma(tokens, at, end);
        let name = declared_name(tokens, at, comma);
        let specifiers = (start, behind);
        match name {
            Some(name) => found.push(Declared {
                name: name.to_owned(),
                specifiers,
                declarator: (at, comma),
                shares,
            }),
            // `unsigned : 3`
            None if tokens.get(at) == ":" => {}
            None if at == end && !shares && is_nameless_record(tokens, start, behind) => {
                found.push(Declared {
                    name: String::new(),
                    specifiers,
                    declarator: (at, comma),
                    shares,
                });
            }
            // `struct tag { … };` inside of a record declares no member.
            None if at == end && !shares => {}
            None => {
                let text = tokens.get(at);
                return Err(format!("the declarator at `{text}` cannot be read"));
            }
        }
        if comma == end {
            return Ok(());
        }
        at = comma + 1;
        shares = true;
    }
}

/// Names that are types by themselves and never a member's.
const TYPE_WORDS: &[&str] = &[
    "void",
    "char",
    "short",
    "int",
    "long",
    "float",
    "double",
    "signed",
    "unsigned",
    "_Bool",
    "_Complex",
    "__int128",
    "__signed__",
    "__complex__",
];

/// The token behind the specifiers of the declaration at `start`: the declarator's
/// first star, bracket, or name.
pub(super) fn specifiers(tokens: &Tokens<'_>, start: usize, end: usize) -> usize {
    let mut at = start;
    // Whether a type was named, and the last name that may be the declarator's.
    let mut has_type = false;
    let mut last = None;
    while at < end {
        let skipped = tokens.skip_attributes(at);
        if skipped != at {
            at = skipped;
            continue;
        }
        match tokens.get(at) {
            "typeof" | "__typeof__" | "__typeof" | "_Atomic" if tokens.get(at + 1) == "(" => {
                at = tokens.behind(at + 1);
                has_type = true;
            }
            "struct" | "union" | "enum" => {
                at = match body(tokens, at) {
                    Some((_, open)) => tokens.behind(open),
                    None => tokens.skip_attributes(at + 1) + 1,
                };
                has_type = true;
            }
            "[" | ":" | "," | "=" | ";" => break,
            text if TYPE_WORDS.contains(&text) => {
                has_type = true;
                last = None;
                at += 1;
            }
            "static" | "extern" | "register" | "auto" | "inline" | "typedef" | "_Thread_local"
            | "__thread" | "_Atomic" => at += 1,
            text if is_name(text) => {
                // The first name that stands alone is a typedef's.
                if has_type {
                    last = Some(at);
                }
                has_type = true;
                at += 1;
            }
            _ => return at,
        }
    }
    last.unwrap_or(at)
}

fn comma(tokens: &Tokens<'_>, mut at: usize, end: usize) -> usize {
    while at < end && tokens.get(at) != "," {
        at = match tokens.get(at) {
            "(" | "[" | "{" => tokens.behind(at),
            _ => at + 1,
        };
    }
    at.min(end)
}

/// The name that a declarator declares: the first name in it, wherever
/// parentheses put it.
pub(super) fn declared_name<'a>(tokens: &Tokens<'a>, mut at: usize, end: usize) -> Option<&'a str> {
    while at < end {
        let skipped = tokens.skip_attributes(at);
        if skipped != at {
            at = skipped;
            continue;
        }
        match tokens.get(at) {
            "*" | "(" => at += 1,
            text if is_name(text) => return Some(text),
            _ => return None,
        }
    }
    None
}

fn is_nameless_record(tokens: &Tokens<'_>, start: usize, end: usize) -> bool {
    (start..end)
        .find(|at| matches!(tokens.get(*at), "struct" | "union"))
        .and_then(|keyword| body(tokens, keyword))
        .is_some_and(|(tag, _)| tag.is_none())
}
