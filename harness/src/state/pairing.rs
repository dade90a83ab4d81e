//! What a value of each old type becomes in the new version: from the types of both
//! versions to the steps of a conversion. Pure.

use std::collections::BTreeSet;

use super::convert::{Conversion, Elements, Step};
use super::gaps::Gap;
use super::plan::Manner;
use super::rules::Rules;
use crate::binary::dwarf::TypeKey;
use crate::binary::dwarf::graph::{Scalar, Shape, TypeGraph, TypeId};

/// Deeper nesting than C programs have; debug information that is damaged ends here.
const DEEPEST: u32 = 64;

/// Types of both versions, and the old records that differ.
pub(super) struct Pairing<'a> {
    pub(super) old: &'a TypeGraph,
    pub(super) new: &'a TypeGraph,
    /// Changed records of the old version, by their number in the plan.
    pub(super) changed: &'a [TypeKey],
    /// Which members carry on under another name.
    pub(super) rules: &'a Rules,
    /// Whether members without a predecessor have a value that is known: those of a
    /// global, from its initialiser.
    pub(super) initialised: bool,
    pub(super) gaps: BTreeSet<Gap>,
}

/// A pair of types and where their instances lie.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) old: TypeId,
    pub(super) new: TypeId,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) depth: u32,
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

    pub(super) fn gap(&mut self, kind: &str, subject: &str, message: String, line: String) {
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

    pub(super) fn pair(&mut self, place: Place, path: &str, steps: &mut Vec<Step>) {
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
}

/// The last member of a path.
pub(super) fn last(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
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
pub(super) fn joined(steps: Vec<Step>) -> Vec<Step> {
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
