//! Placeholders in the texts of a manifest: `{word}` and `{word:name}`.
//!
//! Configuration files are full of braces, so only these two forms count;
//! every other brace is text.

use std::ops::Range;

use super::{Placeholders, Port};

/// One placeholder as written.
pub(super) struct Found<'a> {
    /// Where, braces included.
    pub range: Range<usize>,
    /// The word.
    pub word: &'a str,
    /// What follows the colon.
    pub name: Option<&'a str>,
}

/// The placeholders of `text`, in order.
pub(super) fn find(text: &str) -> impl Iterator<Item = Found<'_>> {
    text.match_indices('{').filter_map(|(start, _)| {
        let inner = &text[start + 1..];
        let inner = &inner[..inner.find('}')?];
        let (word, name) = match inner.split_once(':') {
            Some((word, name)) => (word, Some(name)),
            None => (inner, None),
        };
        let is_word = |c: char| c.is_ascii_lowercase() || c == '_';
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
        let matches = !word.is_empty()
            && word.chars().all(is_word)
            && name.is_none_or(|name| !name.is_empty() && name.chars().all(is_name));
        matches.then(|| Found {
            range: start..start + inner.len() + 2,
            word,
            name,
        })
    })
}

/// The value of a placeholder, or `None` if there is no such placeholder.
pub(super) fn value(found: &Found<'_>, ports: &[Port], values: Placeholders<'_>) -> Option<String> {
    match (found.word, found.name) {
        ("run", None) => Some(values.run.to_owned()),
        ("program", None) => Some(values.program.to_owned()),
        ("port", None) => ports.first().map(|port| port.number.to_string()),
        ("port", Some(name)) => ports
            .iter()
            .find(|port| port.name == name)
            .map(|port| port.number.to_string()),
        _ => None,
    }
}

/// `text` with every placeholder replaced that has a value.
pub(super) fn expand(text: &str, ports: &[Port], values: Placeholders<'_>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut done = 0;
    for found in find(text) {
        if let Some(value) = value(&found, ports, values) {
            expanded.push_str(&text[done..found.range.start]);
            expanded.push_str(&value);
            done = found.range.end;
        }
    }
    expanded.push_str(&text[done..]);
    expanded
}
