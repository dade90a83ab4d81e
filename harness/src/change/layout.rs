//! Old and new layout of a record, row beside row.

use serde::Serialize;

use super::records::{ChangedRecord, HowRecord};
use crate::binary::dwarf::{Layout, Member};

/// What became of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Same place, size and type.
    Same,
    /// Same type at another place.
    Moved,
    /// Another type or width.
    Retyped,
    /// Only the new version has it.
    Added,
    /// Only the old version has it.
    Removed,
}

impl Fate {
    /// The word for people; nothing for what is the same.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Moved => "moved",
            Self::Retyped => "retyped",
            Self::Added => "added",
            Self::Removed => "removed",
        }
    }
}

/// One member in one version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Offset in bytes from the start of the record.
    pub offset: u64,
    /// Offset in bits from the start of the record and width, for bit-fields.
    pub bits: Option<(u64, u64)>,
    /// Size in bytes.
    pub size: u64,
    /// Type for people.
    pub kind: String,
}

/// One row: a member in both versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Name, with the names of nameless records' members after a point; inner
    /// members of a nameless member stand for themselves.
    pub name: String,
    /// In the old version.
    pub old: Option<Place>,
    /// In the new version.
    pub new: Option<Place>,
    /// What became of it.
    pub fate: Fate,
}

fn flatten(layout: &Layout) -> Vec<(String, Place)> {
    let mut rows = Vec::new();
    push(&layout.members, "", 0, &mut rows);
    rows
}

fn push(members: &[Member], prefix: &str, base: u64, rows: &mut Vec<(String, Place)>) {
    for member in members {
        let name = match (prefix, member.name.as_str()) {
            (prefix, "") => prefix.to_owned(),
            ("", name) => name.to_owned(),
            (prefix, name) => format!("{prefix}.{name}"),
        };
        // A bit-field may have no byte offset of its own.
        let offset = match member.bit_offset {
            Some(bits) if member.offset == 0 => bits / 8,
            _ => member.offset,
        };
        let first_inner = rows.len();
        push(&member.inner, &name, base + offset, rows);
        if rows.len() == first_inner {
            rows.push((
                name,
                Place {
                    offset: base + offset,
                    bits: member
                        .bit_size
                        .map(|size| (member.bit_offset.unwrap_or(0), size)),
                    size: member.size,
                    kind: readable(&member.signature),
                },
            ));
        }
    }
}

/// The rows of a changed record, in order of place, removed members among the
/// others.
#[must_use]
pub fn rows(record: &ChangedRecord) -> Vec<Row> {
    let old = record.old.as_ref().map(flatten).unwrap_or_default();
    let mut new = record.new.as_ref().map(flatten).unwrap_or_default();
    let mut rows: Vec<Row> = Vec::new();
    for (name, before) in old {
        let at = new.iter().position(|(other, _)| *other == name);
        let after = at.map(|at| new.remove(at).1);
        let fate = match &after {
            None => Fate::Removed,
            Some(after) => {
                let width = |place: &Place| place.bits.map(|(_, size)| size);
                let offset = |place: &Place| (place.offset, place.bits.map(|(at, _)| at));
                let sizes_differ = after.size != before.size || width(after) != width(&before);
                if after.kind != before.kind || sizes_differ {
                    Fate::Retyped
                } else if offset(after) != offset(&before) {
                    Fate::Moved
                } else {
                    Fate::Same
                }
            }
        };
        rows.push(Row {
            name,
            old: Some(before),
            new: after,
            fate,
        });
    }
    rows.extend(new.into_iter().map(|(name, after)| Row {
        name,
        old: None,
        new: Some(after),
        fate: Fate::Added,
    }));
    rows.sort_by_key(|row| {
        let place = |place: &Option<Place>| place.as_ref().map(|place| place.offset);
        place(&row.new).or(place(&row.old))
    });
    rows
}

/// One line about a changed record: sizes, or what it embeds.
#[must_use]
pub fn headline(record: &ChangedRecord) -> String {
    let size = |layout: &Option<Layout>| {
        layout
            .as_ref()
            .map_or_else(|| "-".to_owned(), |layout| layout.size.to_string())
    };
    let sizes = format!("{} → {} bytes", size(&record.old), size(&record.new));
    match &record.how {
        HowRecord::Deleted => format!("{}: gone (was {} bytes)", record.name, size(&record.old)),
        HowRecord::Layout => format!("{}: {sizes}", record.name),
        HowRecord::Embeds(inner) => {
            let names: Vec<&str> = inner.iter().map(|key| key.name.as_str()).collect();
            format!("{}: {sizes}, holds {}", record.name, names.join(", "))
        }
    }
}

/// A canonical spelling for people: without the sizes of base types.
#[must_use]
pub fn readable(signature: &str) -> String {
    let mut text = String::with_capacity(signature.len());
    let mut rest = signature.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter == '/' && rest.peek().is_some_and(char::is_ascii_digit) {
            while rest.next_if(char::is_ascii_digit).is_some() {}
        } else if letter == '*' && text.ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            text.push_str(" *");
        } else {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn sizes_of_base_types_are_left_out() {
        assert_eq!(readable("unsigned int/4*"), "unsigned int *");
        assert_eq!(
            readable("(int/4(struct s*,...))*[3]"),
            "(int(struct s *,...))*[3]"
        );
    }
}
