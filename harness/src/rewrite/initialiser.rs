//! Makes positional initialisers of records whose members change places designated:
//! `{ 1, "a" }` becomes `{ .count = 1, .name = "a" }`.

use super::RewriteError;
use super::member::{declared_name, specifiers};
use super::plan::{Plan, RecordPlan};
use super::tokens::{Tokens, is_name};
use super::types::{Kind, Types};

/// The text with all initialisers of reordered records designated; `None` if there is
/// nothing to do.
///
/// # Errors
/// An initialiser whose positions cannot be told: braces left out, say.
pub(super) fn designate(
    text: &str,
    plan: &Plan,
    file_of: &dyn Fn(&str) -> String,
) -> Result<Option<String>, RewriteError> {
    if !plan.records.iter().any(RecordPlan::reorders) {
        return Ok(None);
    }
    let tokens = Tokens::of(text);
    let types = Types::of(&tokens, plan, file_of);
    let mut finder = Finder {
        types: &types,
        insertions: Vec::new(),
    };
    finder.all()?;
    let mut insertions = finder.insertions;
    if insertions.is_empty() {
        return Ok(None);
    }
    insertions.sort();
    let mut designated = String::with_capacity(text.len() + 16 * insertions.len());
    let mut done = 0;
    for (at, what) in insertions {
        designated.push_str(&text[done..at]);
        designated.push_str(&what);
        done = at;
    }
    designated.push_str(&text[done..]);
    Ok(Some(designated))
}

struct Finder<'a> {
    types: &'a Types<'a>,
    /// Where which designator goes.
    insertions: Vec<(usize, String)>,
}

/// What keeps an initialiser from being understood, and where.
type Refusal = (usize, String);

impl Finder<'_> {
    fn tokens(&self) -> &Tokens<'_> {
        self.types.tokens
    }

    fn all(&mut self) -> Result<(), RewriteError> {
        for at in 0..self.tokens().list.len() {
            let begins =
                at == 0 || matches!(self.tokens().get(at - 1), ";" | "{" | "}" | "(" | ":" | ")");
            if begins && is_name(self.tokens().get(at)) {
                self.declaration(at)?;
            }
            if self.tokens().get(at) == "(" {
                self.literal(at)?;
            }
        }
        Ok(())
    }

    /// The initialisers of a declaration at `start`, if one is there.
    fn declaration(&mut self, start: usize) -> Result<(), RewriteError> {
        if !self.names_record(start) {
            return Ok(());
        }
        let behind = specifiers(self.tokens(), start, self.tokens().list.len());
        let mut at = behind;
        loop {
            let end = self.types.declarator_end(at);
            if declared_name(self.tokens(), at, end).is_none() || self.tokens().get(end) == "{" {
                return Ok(());
            }
            let mut next = end;
            if self.tokens().get(end) == "=" {
                if self.tokens().get(end + 1) == "{" {
                    let kind = self.types.declared((start, behind), (at, end));
                    self.value(end + 1, &kind)?;
                }
                next = self.expression_end(end + 1);
            }
            if self.tokens().get(next) != "," {
                return Ok(());
            }
            at = next + 1;
        }
    }

    /// Whether a type is spelt at `start` that holds a reordered record.
    fn names_record(&self, start: usize) -> bool {
        let mut at = start;
        loop {
            let skipped = self.tokens().skip_attributes(at);
            let word = self.tokens().get(skipped);
            let is_storage = matches!(word, "static" | "extern" | "register" | "auto" | "inline");
            if !is_storage {
                at = skipped;
                break;
            }
            at = skipped + 1;
        }
        let behind = match self.tokens().get(at) {
            "struct" | "union" => specifiers(self.tokens(), at, self.tokens().list.len()),
            _ => at + 1,
        };
        let kind = self
            .types
            .declared((at, behind.max(at + 1)), (behind, behind));
        self.types.reordered(&kind).is_some()
    }

    /// A compound literal `(struct x){ … }`, whose parenthesis is at `open`.
    fn literal(&mut self, open: usize) -> Result<(), RewriteError> {
        let close = self.tokens().behind(open) - 1;
        if self.tokens().get(close + 1) != "{" || !self.names_record(open + 1) {
            return Ok(());
        }
        let behind = specifiers(self.tokens(), open + 1, close);
        // A parameter of a function definition has a name.
        if declared_name(self.tokens(), behind, close).is_some() {
            return Ok(());
        }
        let kind = self.types.declared((open + 1, behind), (behind, close));
        self.value(close + 1, &kind)
    }

    fn expression_end(&self, mut at: usize) -> usize {
        while at < self.tokens().list.len() {
            at = match self.tokens().get(at) {
                "," | ";" | ")" | "}" => return at,
                "(" | "[" | "{" => self.tokens().behind(at),
                _ => at + 1,
            };
        }
        at
    }

    /// The initialiser whose brace is at `open`.
    fn value(&mut self, open: usize, kind: &Kind) -> Result<(), RewriteError> {
        let Some(record) = self.types.reordered(kind) else {
            return Ok(());
        };
        let done = self.insertions.len();
        self.braces(open, kind).map_err(|(at, why)| {
            self.insertions.truncate(done);
            let record = &self.types.records[record];
            let key = record.plan.map(|plan| &plan.key);
            RewriteError::at(self.types.tokens, at, key, why)
        })
    }

    fn braces(&mut self, open: usize, kind: &Kind) -> Result<(), Refusal> {
        if self.types.reordered(kind).is_none() {
            return Ok(());
        }
        let elements = self.elements(open);
        // `{ 0 }` clears the whole, whatever comes first.
        if let [(only, end)] = elements.as_slice()
            && end - only == 1
            && self.tokens().get(*only) == "0"
        {
            return Ok(());
        }
        match kind {
            Kind::Scalar => Ok(()),
            Kind::Array(inner) => {
                for (start, end) in elements {
                    let (value, kind) = if self.tokens().get(start) == "[" {
                        self.designated(start, end, kind)?
                    } else {
                        (start, inner.as_ref().clone())
                    };
                    self.element(value, &kind)?;
                }
                Ok(())
            }
            Kind::Record(number) => self.record(*number, &elements, kind),
        }
    }

    fn record(
        &mut self,
        number: usize,
        elements: &[(usize, usize)],
        kind: &Kind,
    ) -> Result<(), Refusal> {
        let record = &self.types.records[number];
        let members = record
            .members
            .as_ref()
            .map_err(|why| (record.open, why.clone()))?;
        let mut next = 0;
        for (start, end) in elements {
            let is_old_form =
                self.tokens().get(start + 1) == ":" && is_name(self.tokens().get(*start));
            if self.tokens().get(*start) == "." || is_old_form {
                let name = self
                    .tokens()
                    .get(if is_old_form { *start } else { start + 1 });
                let (member, _) = self.find(number, name).ok_or_else(|| {
                    (
                        *start,
                        format!("`{name}` is initialised, which is no member"),
                    )
                })?;
                next = member + 1;
                let (value, kind) = self.designated(*start, *end, kind)?;
                self.element(value, &kind)?;
                continue;
            }
            let member = members
                .get(next)
                .ok_or_else(|| (*start, "it has more initialisers than members".to_owned()))?;
            next += 1;
            let kind = self.types.member(member);
            if record.reorders() {
                if member.name.is_empty() {
                    return Err((
                        *start,
                        "a nameless member is initialised by position".to_owned(),
                    ));
                }
                let at = self.tokens().list[*start].start;
                self.insertions.push((at, format!(".{} = ", member.name)));
                self.whole(*start, &kind)?;
            }
            self.element(*start, &kind)?;
        }
        Ok(())
    }

    /// A value that must stand for a whole member: braces must not be left out.
    fn whole(&self, start: usize, kind: &Kind) -> Result<(), Refusal> {
        let text = self.tokens().get(start);
        let elided = match kind {
            Kind::Scalar => false,
            Kind::Array(_) => text != "{" && !text.starts_with('"') && !matches!(text, "L" | "u8"),
            Kind::Record(_) => text != "{" && !self.is_literal(start),
        };
        if elided {
            return Err((start, "an initialiser leaves out braces".to_owned()));
        }
        Ok(())
    }

    fn element(&mut self, start: usize, kind: &Kind) -> Result<(), Refusal> {
        if self.types.reordered(kind).is_none() {
            return Ok(());
        }
        if self.tokens().get(start) == "{" {
            return self.braces(start, kind);
        }
        self.whole(start, kind)
    }

    fn is_literal(&self, start: usize) -> bool {
        self.tokens().get(start) == "(" && {
            let behind = self.tokens().behind(start);
            self.tokens().get(behind) == "{"
        }
    }

    /// The value behind the designators at `start`, and what it is for.
    fn designated(&self, start: usize, end: usize, kind: &Kind) -> Result<(usize, Kind), Refusal> {
        let (mut at, mut kind) = (start, kind.clone());
        while at < end {
            let step = match self.tokens().get(at) {
                "=" => return Ok((at + 1, kind)),
                ":" => return Ok((at + 1, kind)),
                "." => {
                    at += 1;
                    continue;
                }
                "[" => {
                    at = self.tokens().behind(at);
                    match &kind {
                        Kind::Array(inner) => Some(inner.as_ref().clone()),
                        _ => None,
                    }
                }
                name => {
                    at += 1;
                    match &kind {
                        Kind::Record(number) => self.find(*number, name).map(|(_, kind)| kind),
                        _ => None,
                    }
                }
            };
            kind = step.ok_or_else(|| (start, "a designator cannot be followed".to_owned()))?;
        }
        Err((start, "a designator has no value".to_owned()))
    }

    /// The member of that name and what it is; the number of the nameless member that
    /// holds it, where one does.
    fn find(&self, number: usize, name: &str) -> Option<(usize, Kind)> {
        let members = self.types.records[number].members.as_ref().ok()?;
        members.iter().enumerate().find_map(|(place, member)| {
            let kind = self.types.member(member);
            if member.name == name {
                return Some((place, kind));
            }
            match kind {
                Kind::Record(inner) if member.name.is_empty() => {
                    self.find(inner, name).map(|(_, kind)| (place, kind))
                }
                _ => None,
            }
        })
    }

    /// The elements between braces: first token, token behind.
    fn elements(&self, open: usize) -> Vec<(usize, usize)> {
        let close = self.tokens().behind(open) - 1;
        let mut found = Vec::new();
        let mut start = open + 1;
        let mut at = start;
        while at <= close {
            match self.tokens().get(at) {
                _ if at == close => {
                    if start < at {
                        found.push((start, at));
                    }
                    break;
                }
                "," => {
                    found.push((start, at));
                    at += 1;
                    start = at;
                }
                "(" | "[" | "{" => at = self.tokens().behind(at),
                _ => at += 1,
            }
        }
        found
    }
}
