//! Writes the bodies of planned records anew.

use std::fmt::Write as _;

use super::RewriteError;
use super::definition::{Definition, definitions};
use super::member::{Declared, members};
use super::plan::{Item, Plan, RecordPlan};
use super::tokens::Tokens;

/// The text with all planned records declared as `plan` says.
pub(super) fn rewrite(
    text: &str,
    plan: &Plan,
    file_of: &dyn Fn(&str) -> String,
) -> Result<String, RewriteError> {
    let tokens = Tokens::of(text);
    let planned = definitions(&tokens)
        .into_iter()
        .filter_map(|definition| {
            let record = plan.record(&definition.key(file_of))?;
            Some((definition, record))
        })
        .collect();
    let writer = Writer { tokens, planned };
    writer.copy(0, text.len())
}

struct Writer<'a> {
    tokens: Tokens<'a>,
    /// In order of their opening braces; some may lie in others.
    planned: Vec<(Definition, &'a RecordPlan)>,
}

impl Writer<'_> {
    /// The bytes from `start` to `end`, with the records that begin there rewritten.
    fn copy(&self, start: usize, end: usize) -> Result<String, RewriteError> {
        let mut text = String::with_capacity(end - start + 256);
        let mut done = start;
        for (definition, record) in &self.planned {
            let open = self.tokens.list[definition.open].end();
            if open <= done || open > end {
                continue;
            }
            let close = self.tokens.list[definition.close].start;
            text.push_str(&self.tokens.text[done..open]);
            text.push_str(&self.body(definition, record)?);
            text.push('}');
            if let Some(bytes) = record.aligned {
                _ = write!(text, " __attribute__((aligned({bytes})))");
            }
            done = close + 1;
        }
        text.push_str(&self.tokens.text[done..end]);
        Ok(text)
    }

    fn body(&self, definition: &Definition, record: &RecordPlan) -> Result<String, RewriteError> {
        let open = self.tokens.list[definition.open].end();
        let close = self.tokens.list[definition.close].start;
        if record.only_appends() {
            let mut text = self.copy(open, close)?;
            let members = record.members().count();
            record.items[members..]
                .iter()
                .for_each(|item| append(&mut text, *item));
            return Ok(text);
        }
        let refused =
            |why: String| RewriteError::at(&self.tokens, definition.open, Some(&record.key), why);
        let declared = members(&self.tokens, definition.open, definition.close).map_err(refused)?;
        if declared.len() != record.members().count() {
            return Err(refused(format!(
                "the text has {} members, the debug information {}",
                declared.len(),
                record.members().count()
            )));
        }
        let mut text = String::new();
        for item in &record.items {
            match item {
                Item::Member(number) => {
                    let member = declared
                        .get(*number)
                        .ok_or_else(|| refused(format!("it has no member of number {number}")))?;
                    self.member(&mut text, &declared, member, *number).map_err(
                        |error| match error {
                            MemberError::Rewrite(error) => error,
                            MemberError::Shares => refused(format!(
                                "`{}` is declared together with others after a definition",
                                member.name
                            )),
                        },
                    )?;
                }
                other => append(&mut text, *other),
            }
        }
        text.push_str(&self.tokens.resume(close));
        Ok(text)
    }

    fn member(
        &self,
        text: &mut String,
        all: &[Declared],
        member: &Declared,
        number: usize,
    ) -> Result<(), MemberError> {
        let shared = member.shares || all.get(number + 1).is_some_and(|next| next.shares);
        let (start, behind) = member.specifiers;
        // A definition can be written once only.
        if shared && (start..behind).any(|at| self.tokens.get(at) == "{") {
            return Err(MemberError::Shares);
        }
        for (from, behind) in [member.specifiers, member.declarator] {
            if from < behind {
                let start = self.tokens.list[from].start;
                let end = self.tokens.list[behind - 1].end();
                text.push(' ');
                text.push_str(&self.copy(start, end)?);
            }
        }
        text.push(';');
        Ok(())
    }
}

enum MemberError {
    Rewrite(RewriteError),
    Shares,
}

impl From<RewriteError> for MemberError {
    fn from(error: RewriteError) -> Self {
        Self::Rewrite(error)
    }
}

/// Writes what is no member of the version. Unnamed bit-fields have no alignment of
/// their own and take no place in an initialiser.
fn append(text: &mut String, item: Item) {
    match item {
        Item::Member(_) => {}
        Item::Bytes(bytes) => _ = write!(text, " char kairos_room[{bytes}];"),
        Item::Gap { at, bits } => {
            let (mut at, end) = (at, at + bits);
            while at < end {
                let (width, kind) = match (at % 64, at % 8, end - at) {
                    (0, _, 64..) => (64, "unsigned long"),
                    (_, 0, 8..) => (8, "unsigned char"),
                    (_, inside, left) => (left.min(8 - inside), "unsigned char"),
                };
                _ = write!(text, " {kind} :{width};");
                at += width;
            }
        }
    }
}
