//! Which member of the new version each member of the old one becomes: from the
//! types of both versions to the steps of a conversion. Pure.

use std::collections::BTreeSet;

use super::convert::{Conversion, Elements, Step};
use super::gaps::Gap;
use super::identifier;
use super::plan::Manner;
use crate::binary::dwarf::TypeKey;
use crate::binary::dwarf::graph::{Field, Scalar, Shape, TypeGraph, TypeId};

/// Deeper nesting than C programs have; debug information that is damaged ends here.
const DEEPEST: u32 = 64;

/// Types of both versions, and the old records that differ.
pub(super) struct Pairing<'a> {
    pub(super) old: &'a TypeGraph,
    pub(super) new: &'a TypeGraph,
    /// Changed records of the old version, by their number in the plan.
    pub(super) changed: &'a [TypeKey],
    /// Whether members without a predecessor have a value that is known: those of a
    /// global, from its initialiser.
    pub(super) initialised: bool,
    pub(super) gaps: BTreeSet<Gap>,
}

/// A pair of types and where their instances lie.
#[derive(Clone, Copy)]
struct Place {
    old: TypeId,
    new: TypeId,
    from: u64,
    to: u64,
    depth: u32,
}

impl Pairing<'_> {
    /// The conversion of an old type's instances into a new type's.
    /// `name` is what they are called in gaps.
    pub(super) fn conversion(&mut self, old: TypeId, new: TypeId, name: &str) -> Conversion {
        let mut steps = Vec::new();
        let place = Place {
            old,
            new,
            from: 0,
            to: 0,
            depth: 0,
        };
        self.pair(place, name, &mut steps);
        Conversion {
            manner: Manner::Own,
            tail: self.tail(old, new, name),
            name: name.to_owned(),
            old_size: self.old.size(old),
            new_size: self.new.size(new),
            steps: joined(steps),
        }
    }

    /// Number of the changed record that a type is.
    pub(super) fn changed(&self, old: TypeId) -> Option<usize> {
        let key = self.old.key(old)?;
        self.changed.iter().position(|changed| changed == key)
    }

    fn gap(&mut self, kind: &str, subject: &str, message: String, line: String) {
        self.gaps.insert(Gap::new(kind, subject, message, line));
    }

    /// Whether both have one layout, and no changed record is in it by value.
    fn same(&self, old: TypeId, new: TypeId, depth: u32) -> bool {
        let (Some(before), Some(after)) = (self.old.get(old), self.new.get(new)) else {
            return false;
        };
        if before.size != after.size || self.changed(old).is_some() || depth > DEEPEST {
            return false;
        }
        match (&before.shape, &after.shape) {
            (
                Shape::Array { element, count },
                Shape::Array {
                    element: other,
                    count: others,
                },
            ) => count == others && self.same(*element, *other, depth + 1),
            (Shape::Record { fields, .. }, Shape::Record { fields: others, .. }) => {
                fields.len() == others.len()
                    && fields.iter().zip(others).all(|(a, b)| {
                        a.name == b.name
                            && (a.offset, a.bits) == (b.offset, b.bits)
                            && self.same(a.of, b.of, depth + 1)
                    })
            }
            _ => self.old.spell(old) == self.new.spell(new),
        }
    }

    fn pair(&mut self, place: Place, path: &str, steps: &mut Vec<Step>) {
        let Place {
            old,
            new,
            from,
            to,
            depth,
        } = place;
        if depth > DEEPEST {
            return;
        }
        let size = self.old.size(old);
        if self.same(old, new, 0) {
            steps.push(Step::Copy { from, to, size });
            return;
        }
        let mut path = path;
        let record_name;
        if let Some(record) = self.changed(old) {
            steps.push(Step::Instance { record, from, to });
            // What is not known of its members is not known wherever it lies.
            record_name = self.old.readable(old);
            path = &record_name;
        }
        let (Some(before), Some(after)) = (self.old.get(old).cloned(), self.new.get(new).cloned())
        else {
            return;
        };
        match (before.shape, after.shape) {
            (Shape::Record { union: false, .. }, Shape::Record { union: false, .. }) => {
                self.record(place, path, steps);
            }
            (Shape::Record { union: true, .. }, Shape::Record { union: true, .. }) => {
                let size = before.size.min(after.size);
                steps.push(Step::Copy { from, to, size });
                self.gap(
                    "union",
                    path,
                    format!(
                        "{path} is a union whose members differ between the versions; its \
                         bytes are copied as they are"
                    ),
                    format!("/* in transform.c */ new->{} = …;", last(path)),
                );
            }
            (
                Shape::Array { element, count },
                Shape::Array {
                    element: other,
                    count: others,
                },
            ) => {
                if let (Some(count), Some(others)) = (count, others) {
                    self.array(place, [element, other], [count, others], path, steps);
                }
            }
            (
                Shape::Scalar { kind, .. },
                Shape::Scalar {
                    kind: other_kind, ..
                },
            ) => {
                let keeps = match (kind, other_kind) {
                    (Scalar::Other, _) | (_, Scalar::Other) => false,
                    (Scalar::Signed, Scalar::Unsigned) => false,
                    (Scalar::Unsigned, Scalar::Signed) => after.size > before.size,
                    _ => after.size >= before.size,
                };
                let integers = kind != Scalar::Other && other_kind != Scalar::Other;
                if integers {
                    steps.push(Step::Integer {
                        from: 8 * from,
                        from_bits: 8 * before.size,
                        to: 8 * to,
                        to_bits: 8 * after.size,
                        signed: kind == Scalar::Signed,
                    });
                }
                if !keeps {
                    self.retyped(place, path, steps, integers);
                }
            }
            (Shape::Pointer(target), Shape::Pointer(other)) => {
                // A pointer to nothing in particular keeps its value.
                let free = target.is_none() || other.is_none();
                // A record that was an unnamed one behind a typedef may have got a tag.
                let names = |spelt: String| spelt.replace("typedef ", "").replace("struct ", "");
                if free || names(self.old.spell(old)) == names(self.new.spell(new)) {
                    steps.push(Step::Copy { from, to, size });
                } else {
                    self.retyped(place, path, steps, false);
                }
            }
            _ => self.retyped(place, path, steps, false),
        }
    }

    /// Elements that both versions have.
    fn array(
        &mut self,
        place: Place,
        [old, new]: [TypeId; 2],
        [count, others]: [u64; 2],
        path: &str,
        steps: &mut Vec<Step>,
    ) {
        if count > others {
            self.gap(
                "array-shrinks",
                path,
                format!("{path} has {others} elements instead of {count}; the last are dropped"),
                format!("/* in transform.c */ … = old->{};", last(path)),
            );
        }
        let mut inner = Vec::new();
        let start = Place {
            old,
            new,
            from: 0,
            to: 0,
            depth: place.depth + 1,
        };
        self.pair(start, path, &mut inner);
        steps.push(repeat(Elements {
            count: count.min(others),
            from: place.from,
            from_stride: self.old.size(old),
            to: place.to,
            to_stride: self.new.size(new),
            steps: joined(inner),
        }));
    }

    fn retyped(&mut self, place: Place, path: &str, steps: &mut Vec<Step>, kept: bool) {
        let (before, after) = (self.old.readable(place.old), self.new.readable(place.new));
        if !kept {
            steps.push(Step::Added {
                to: 8 * place.to,
                bits: 8 * self.new.size(place.new),
            });
        }
        let instead = if kept {
            "its lower bits are kept"
        } else {
            "it gets the initial value or zero"
        };
        self.gap(
            "retyped-member",
            path,
            format!("{path} was {before} and becomes {after}; {instead}"),
            format!("/* in transform.c */ new->{0} = … old->{0} …;", last(path)),
        );
    }

    fn record(&mut self, place: Place, path: &str, steps: &mut Vec<Step>) {
        let before = flatten(self.old, place.old);
        let after = flatten(self.new, place.new);
        for field in &after {
            let Some(old) = predecessor(self.old, &before, self.new, field) else {
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
    fn tail(&mut self, old: TypeId, new: TypeId, path: &str) -> Option<Elements> {
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

/// The last member of a path.
fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

/// Whether the type is an array without a number of elements.
pub(super) fn is_flexible(graph: &TypeGraph, of: TypeId) -> bool {
    matches!(
        graph.get(of).map(|of| &of.shape),
        Some(Shape::Array { count: None, .. })
    )
}

/// The old member that a new one continues: of the same name, or a nameless union of
/// the same members.
fn predecessor(old: &TypeGraph, before: &[Field], new: &TypeGraph, field: &Field) -> Option<Field> {
    let same = |other: &&Field| {
        if field.name.is_empty() {
            let names = |graph: &TypeGraph, of| -> Vec<String> {
                let fields = graph.fields(of).iter();
                fields.map(|field| field.name.clone()).collect()
            };
            other.name.is_empty() && names(old, other.of) == names(new, field.of)
        } else {
            other.name == field.name
        }
    };
    before.iter().find(same).cloned()
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

/// One copy in place of an array whose elements are copied without a gap.
fn repeat(elements: Elements) -> Step {
    match elements.steps.as_slice() {
        [
            Step::Copy {
                from: 0,
                to: 0,
                size,
            },
        ] if *size == elements.from_stride && *size == elements.to_stride => Step::Copy {
            from: elements.from,
            to: elements.to,
            size: size.saturating_mul(elements.count),
        },
        _ => Step::Repeat(elements),
    }
}

/// Copies of neighbours that stay neighbours, as one.
fn joined(steps: Vec<Step>) -> Vec<Step> {
    let mut found: Vec<Step> = Vec::new();
    for step in steps {
        if let (
            Step::Copy { from, to, size },
            Some(Step::Copy {
                from: last_from,
                to: last_to,
                size: last_size,
            }),
        ) = (&step, found.last_mut())
            && *last_from + *last_size == *from
            && *last_to + *last_size == *to
        {
            *last_size += size;
            continue;
        }
        found.push(step);
    }
    found
}
