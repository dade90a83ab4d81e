//! Finds the definitions of records in preprocessed C.

use super::tokens::{Tokens, is_name};
use crate::binary::dwarf::TypeKey;

/// The definition of a record that has a name of some kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// `struct`, `union`, or `typedef` for a nameless one that a typedef names.
    pub tag: &'static str,
    /// Tag, or the typedef's name.
    pub name: String,
    /// File as the line markers have it.
    pub file: String,
    /// Whether it is a union, whatever names it.
    pub is_union: bool,
    /// Number of the opening brace among the tokens.
    pub open: usize,
    /// Number of the closing brace.
    pub close: usize,
}

impl Definition {
    /// What debug information calls it.
    #[must_use]
    pub fn key(&self, file_of: &dyn Fn(&str) -> String) -> TypeKey {
        TypeKey {
            tag: self.tag.to_owned(),
            name: self.name.clone(),
            file: file_of(&self.file),
        }
    }
}

/// The record definitions of a unit, in order of their opening braces.
#[must_use]
pub fn definitions(tokens: &Tokens<'_>) -> Vec<Definition> {
    (0..tokens.list.len())
        .filter(|keyword| matches!(tokens.get(*keyword), "struct" | "union"))
        .filter_map(|keyword| {
            let (tag, open) = body(tokens, keyword)?;
            let close = tokens.behind(open) - 1;
            let is_union = tokens.get(keyword) == "union";
            let (tag, name) = match tag {
                Some(name) if is_union => ("union", name),
                Some(name) => ("struct", name),
                None => ("typedef", typedef_name(tokens, keyword, close)?),
            };
            Some(Definition {
                tag,
                name: name.to_owned(),
                file: tokens.file(tokens.list[keyword].start).to_owned(),
                is_union,
                open,
                close,
            })
        })
        .collect()
}

/// The tag and the opening brace of the record specifier at `keyword`, if it has a
/// body.
pub(super) fn body<'a>(tokens: &Tokens<'a>, keyword: usize) -> Option<(Option<&'a str>, usize)> {
    let mut at = tokens.skip_attributes(keyword + 1);
    let mut tag = None;
    if is_name(tokens.get(at)) {
        tag = Some(tokens.get(at));
        at = tokens.skip_attributes(at + 1);
    }
    (tokens.get(at) == "{").then_some((tag, at))
}

/// The name that `typedef struct { … } name` gives.
fn typedef_name<'a>(tokens: &Tokens<'a>, keyword: usize, close: usize) -> Option<&'a str> {
    let before = tokens.list[..keyword]
        .iter()
        .rev()
        .take_while(|token| is_name(token.text))
        .any(|token| token.text == "typedef");
    let name = tokens.get(tokens.skip_attributes(close + 1));
    (before && is_name(name)).then_some(name)
}
