//! Which member of a record's new version each member of the old one becomes. Pure.

use super::convert::{Elements, Step};
use super::identifier;
use super::pairing::{Pairing, Place, joined, last};
use crate::binary::dwarf::graph::{Field, Scalar, Shape, TypeGraph, TypeId};

impl Pairing<'_> {
    pub(super) fn record(&mut self, place: Place, path: &str, steps: &mut Vec<Step>) {
        let before = flatten(self.old, place.old);
        let after = flatten(self.new, place.new);
        for field in &after {
            let Some(old) = self.predecessor(place.old, &before, field) else {
                self.added(place, path, field, &before, &after, steps);
                continue;
            };
            let path = if field.name.is_empty() {
                path.to_owned()
            } else {
                format!("{path}.{}", field.name)
            };
            if is_flexible(self.old, old.of) || is_flexible(self.new, field.of) {
                continue;
            }
            if old.bits.is_some() || field.bits.is_some() {
                self.bits(place, &path, &old, field, steps);
                continue;
            }
            let inner = Place {
                old: old.of,
                new: field.of,
                from: place.from + old.offset,
                to: place.to + field.offset,
                depth: place.depth + 1,
            };
            self.pair(inner, &path, steps);
        }
    }

    /// The old member that a new one continues: the one that a rule says, one of the same
    /// name, or a nameless union of the same members.
    fn predecessor(&self, record: TypeId, before: &[Field], field: &Field) -> Option<Field> {
        let name = match self.old.key(record) {
            Some(key) => self.rules.predecessor(key, &field.name)?,
            None => &field.name,
        };
        let same = |other: &&Field| {
            if field.name.is_empty() {
                let names = |graph: &TypeGraph, of| -> Vec<String> {
                    let fields = graph.fields(of).iter();
                    fields.map(|field| field.name.clone()).collect()
                };
                other.name.is_empty() && names(self.old, other.of) == names(self.new, field.of)
            } else {
                other.name == name
            }
        };
        before.iter().find(same).cloned()
    }

    fn bits(&mut self, place: Place, path: &str, old: &Field, new: &Field, steps: &mut Vec<Step>) {
        let extent = |graph: &TypeGraph, field: &Field| {
            field
                .bits
                .unwrap_or((8 * field.offset, 8 * graph.size(field.of)))
        };
        let (from, from_bits) = extent(self.old, old);
        let (to, to_bits) = extent(self.new, new);
        let kind = |graph: &TypeGraph, of: TypeId| match graph.get(of).map(|of| &of.shape) {
            Some(Shape::Scalar { kind, .. }) => *kind,
            _ => Scalar::Other,
        };
        let signed = kind(self.old, old.of) == Scalar::Signed;
        if to_bits < from_bits {
            self.gap(
                "retyped-member",
                path,
                format!(
                    "{path} has {to_bits} bits instead of {from_bits}; the upper ones are dropped"
                ),
                format!("/* in transform.c */ new->{0} = … old->{0} …;", last(path)),
            );
        }
        steps.push(Step::Integer {
            from: 8 * place.from + from,
            from_bits,
            to: 8 * place.to + to,
            to_bits,
            signed,
        });
    }

    fn added(
        &mut self,
        place: Place,
        path: &str,
        field: &Field,
        before: &[Field],
        after: &[Field],
        steps: &mut Vec<Step>,
    ) {
        let (to, bits) = field
            .bits
            .unwrap_or((8 * field.offset, 8 * self.new.size(field.of)));
        steps.push(Step::Added {
            to: 8 * place.to + to,
            bits,
        });
        if self.initialised || field.name.is_empty() {
            return;
        }
        // One that went and has the same type may be the same under another name.
        let gone = before.iter().find(|old| {
            !old.name.is_empty()
                && self.old.spell(old.of) == self.new.spell(field.of)
                && !after.iter().any(|new| new.name == old.name)
        });
        let name = &field.name;
        let kind = self.new.readable(field.of);
        let (hint, value) = match gone {
            Some(gone) => (
                format!("; it may be `{}` under another name", gone.name),
                format!("old->{}", gone.name),
            ),
            None => (String::new(), "…".to_owned()),
        };
        let record = identifier(path);
        self.gap(
            "added-member",
            &format!("{path}.{name}"),
            format!("{path} gains `{name}` ({kind}), whose value in old instances is not known: zero is used{hint}"),
            format!("/* in transform.c, from kairos_each_{record} */ new->{name} = {value};"),
        );
    }

    /// A flexible array at the end of both.
    pub(super) fn tail(&mut self, old: TypeId, new: TypeId, path: &str) -> Option<Elements> {
        let before = flatten(self.old, old);
        let after = flatten(self.new, new);
        let old = before.iter().find(|f| is_flexible(self.old, f.of))?;
        let new = after
            .iter()
            .find(|f| is_flexible(self.new, f.of) && f.name == old.name)?;
        let element = |graph: &TypeGraph, of: TypeId| match graph.get(of).map(|of| &of.shape) {
            Some(Shape::Array { element, .. }) => Some(*element),
            _ => None,
        };
        let (from, to) = (element(self.old, old.of)?, element(self.new, new.of)?);
        let mut steps = Vec::new();
        let start = Place {
            old: from,
            new: to,
            from: 0,
            to: 0,
            depth: 1,
        };
        self.pair(start, &format!("{path}.{}", old.name), &mut steps);
        Some(Elements {
            count: 0,
            from: old.offset,
            from_stride: self.old.size(from).max(1),
            to: new.offset,
            to_stride: self.new.size(to).max(1),
            steps: joined(steps),
        })
    }
}

/// Whether the type is an array without a number of elements.
fn is_flexible(graph: &TypeGraph, of: TypeId) -> bool {
    matches!(
        graph.get(of).map(|of| &of.shape),
        Some(Shape::Array { count: None, .. })
    )
}

/// Members of a record; those of a nameless struct stand for themselves.
fn flatten(graph: &TypeGraph, of: TypeId) -> Vec<Field> {
    let mut found = Vec::new();
    for field in graph.fields(of) {
        let nameless = field.name.is_empty()
            && matches!(
                graph.get(field.of).map(|of| &of.shape),
                Some(Shape::Record { union: false, .. })
            );
        if nameless {
            found.extend(flatten(graph, field.of).into_iter().map(|inner| Field {
                offset: field.offset + inner.offset,
                bits: inner.bits.map(|(at, size)| (8 * field.offset + at, size)),
                ..inner
            }));
        } else {
            found.push(field.clone());
        }
    }
    found
}
