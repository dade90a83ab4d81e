//! The types of a unit's text, as far as initialisers need them: which records hold
//! which by value.

use std::cell::RefCell;
use std::collections::HashMap;

use super::definition::{Definition, body, definitions};
use super::member::{Declared, declared_name, members, specifiers};
use super::plan::{Plan, RecordPlan};
use super::tokens::{Tokens, is_name};

/// What an initialiser is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything that holds no record of interest.
    Scalar,
    /// A record, by the number of its definition.
    Record(usize),
    /// An array.
    Array(Box<Kind>),
}

/// A record of the unit, named or not.
pub(super) struct Record<'a> {
    pub(super) open: usize,
    /// Members in order; an error where they cannot be read.
    pub(super) members: Result<Vec<Declared>, String>,
    /// What the plan does to it.
    pub(super) plan: Option<&'a RecordPlan>,
}

impl Record<'_> {
    /// Whether its members will stand in another order.
    pub(super) fn reorders(&self) -> bool {
        self.plan.is_some_and(RecordPlan::reorders)
    }
}

/// Where a declaration's specifiers and declarator are.
type Declaration = ((usize, usize), (usize, usize));

/// How deep records may lie in records and typedefs in typedefs.
const DEEPEST: usize = 64;

pub(super) struct Types<'a> {
    pub(super) tokens: &'a Tokens<'a>,
    pub(super) records: Vec<Record<'a>>,
    by_open: HashMap<usize, usize>,
    by_tag: HashMap<(&'a str, &'a str), usize>,
    typedefs: HashMap<&'a str, Declaration>,
    /// For each record, the one among what it holds that is reordered.
    reordered: RefCell<HashMap<usize, Option<usize>>>,
}

impl<'a> Types<'a> {
    pub(super) fn of(
        tokens: &'a Tokens<'a>,
        plan: &'a Plan,
        file_of: &dyn Fn(&str) -> String,
    ) -> Self {
        let mut types = Self {
            tokens,
            records: Vec::new(),
            by_open: HashMap::new(),
            by_tag: HashMap::new(),
            typedefs: HashMap::new(),
            reordered: RefCell::default(),
        };
        let mut named: HashMap<usize, Definition> = definitions(tokens)
            .into_iter()
            .map(|definition| (definition.open, definition))
            .collect();
        for keyword in 0..tokens.list.len() {
            let word = tokens.get(keyword);
            if word == "typedef" {
                types.read_typedef(keyword + 1);
            }
            if !matches!(word, "struct" | "union") {
                continue;
            }
            let Some((tag, open)) = body(tokens, keyword) else {
                continue;
            };
            let number = types.records.len();
            types.by_open.insert(open, number);
            if let Some(tag) = tag {
                types.by_tag.entry((word, tag)).or_insert(number);
            }
            let definition = named.remove(&open);
            let planned = definition
                .as_ref()
                .and_then(|d| plan.record(&d.key(file_of)));
            types.records.push(Record {
                open,
                members: members(tokens, open, tokens.behind(open) - 1),
                plan: planned,
            });
        }
        types
    }

    fn read_typedef(&mut self, start: usize) {
        let behind = specifiers(self.tokens, start, self.tokens.list.len());
        let mut at = behind;
        loop {
            let end = self.declarator_end(at);
            if let Some(name) = declared_name(self.tokens, at, end) {
                self.typedefs.insert(name, ((start, behind), (at, end)));
            }
            if self.tokens.get(end) != "," {
                return;
            }
            at = end + 1;
        }
    }

    /// The token that ends the declarator at `at`: a comma, semicolon, `=` or brace.
    pub(super) fn declarator_end(&self, mut at: usize) -> usize {
        while at < self.tokens.list.len() {
            at = match self.tokens.get(at) {
                "," | ";" | "=" | "{" | "}" | ")" => return at,
                "(" | "[" => self.tokens.behind(at),
                _ => at + 1,
            };
        }
        at
    }

    /// What a member is.
    pub(super) fn member(&self, member: &Declared) -> Kind {
        self.kind(member.specifiers, member.declarator, DEEPEST)
    }

    /// What specifiers and a declarator declare.
    pub(super) fn declared(&self, specifiers: (usize, usize), declarator: (usize, usize)) -> Kind {
        self.kind(specifiers, declarator, DEEPEST)
    }

    fn kind(&self, spelt: (usize, usize), declarator: (usize, usize), depth: usize) -> Kind {
        let Some(depth) = depth.checked_sub(1) else {
            return Kind::Scalar;
        };
        self.arrays(self.base(spelt, depth), declarator)
    }

    /// The record or typedef that specifiers name.
    fn base(&self, (start, behind): (usize, usize), depth: usize) -> Kind {
        let mut at = start;
        while at < behind {
            let skipped = self.tokens.skip_attributes(at);
            if skipped != at {
                at = skipped;
                continue;
            }
            let word = self.tokens.get(at);
            match word {
                "struct" | "union" => {
                    let found = if let Some((_, open)) = body(self.tokens, at) {
                        self.by_open.get(&open)
                    } else {
                        let tag = self.tokens.get(self.tokens.skip_attributes(at + 1));
                        self.by_tag.get(&(word, tag))
                    };
                    return found.map_or(Kind::Scalar, |number| Kind::Record(*number));
                }
                "enum" => return Kind::Scalar,
                _ => {
                    if let Some((spelt, declarator)) = self.typedefs.get(word) {
                        return self.kind(*spelt, *declarator, depth);
                    }
                }
            }
            at += 1;
        }
        Kind::Scalar
    }

    /// Arrays around `base`, by the brackets behind the declared name; with a star
    /// before it, of pointers.
    fn arrays(&self, base: Kind, (start, end): (usize, usize)) -> Kind {
        let mut at = start;
        let mut points = false;
        while at < end {
            let skipped = self.tokens.skip_attributes(at);
            if skipped != at {
                at = skipped;
                continue;
            }
            match self.tokens.get(at) {
                "*" => points = true,
                "(" => {}
                text if is_name(text) => {
                    at += 1;
                    break;
                }
                _ => break,
            }
            at += 1;
        }
        let mut kind = if points { Kind::Scalar } else { base };
        while self.tokens.get(at) == ")" && !points && at < end {
            at += 1;
        }
        if self.tokens.get(at) == "(" {
            return Kind::Scalar;
        }
        while self.tokens.get(at) == "[" && at < end {
            kind = Kind::Array(Box::new(kind));
            at = self.tokens.behind(at);
        }
        kind
    }

    /// A record among what a value of that kind holds, itself included, whose members
    /// will be reordered, or one that cannot be read.
    pub(super) fn reordered(&self, kind: &Kind) -> Option<usize> {
        self.reordered_in(kind, DEEPEST)
    }

    fn reordered_in(&self, kind: &Kind, depth: usize) -> Option<usize> {
        let depth = depth.checked_sub(1)?;
        match kind {
            Kind::Scalar => None,
            Kind::Array(inner) => self.reordered_in(inner, depth),
            Kind::Record(number) => {
                if let Some(known) = self.reordered.borrow().get(number) {
                    return *known;
                }
                let record = &self.records[*number];
                let found = match &record.members {
                    _ if record.reorders() => Some(*number),
                    Err(_) => None,
                    Ok(members) => members
                        .iter()
                        .find_map(|member| self.reordered_in(&self.member(member), depth)),
                };
                self.reordered.borrow_mut().insert(*number, found);
                found
            }
        }
    }
}
