//! Writes down for a plan what leads to changed records: types with their parts and
//! conversions, variables, and locals of functions.

use super::plan::{Count, FrameRoot, FrameRoots, Manner, Part, Root, Tail, Walked};
use super::prepare::Preparation;
use crate::binary::dwarf::graph::{Shape, TypeId};
use crate::binary::dwarf::locals::FrameVariables;

impl Preparation<'_> {
    /// The number of a type in the plan, which is made if need be.
    fn number(&mut self, id: TypeId) -> usize {
        if let Some(number) = self.numbers.get(&id) {
            return *number;
        }
        let number = self.plan.types.len();
        self.numbers.insert(id, number);
        self.plan.types.push(Walked {
            name: self.old.readable(id),
            size: self.old.size(id),
            alignment: self.old.alignment(id),
            conversion: None,
            parts: Vec::new(),
            tail: self.tail(id),
        });
        let mut parts = Vec::new();
        match self.old.get(id).map(|of| of.shape.clone()) {
            Some(Shape::Pointer(_)) => {
                let count = Count::Fixed(1);
                parts.extend(self.part(id, None, 0, count));
            }
            Some(Shape::Array { element, count }) => {
                let count = Count::Fixed(count.unwrap_or(0));
                parts.extend(self.part(element, None, 0, count));
            }
            Some(Shape::Record { fields, union, .. }) => {
                for field in &fields {
                    let when = self.named.condition(id, &field.name);
                    if union && when.is_none() {
                        continue;
                    }
                    let count = self.named.count(Some(id), &field.name);
                    let cast = self.named.cast(Some(id), &field.name);
                    let length = count.clone().unwrap_or(Count::Fixed(1));
                    let part = match cast {
                        Some(to) => Some(self.pointer(to, field.offset, length)),
                        None => self.member(field.of, field.offset, count),
                    };
                    parts.extend(part.map(|part| Part { when, ..part }));
                }
            }
            _ => {}
        }
        self.plan.types[number].parts = parts;
        if self.holds_changed(id, 0) {
            self.plan.types[number].conversion = self.conversion(id);
        }
        number
    }

    /// The length of the flexible array that a record ends in, if a rule names it.
    fn tail(&self, id: TypeId) -> Option<Tail> {
        let field = self.old.fields(id).last()?;
        match self.old.get(field.of).map(|of| &of.shape)? {
            Shape::Array {
                element,
                count: None,
            } => Some(Tail {
                offset: field.offset,
                stride: self.old.size(*element),
                count: self.named.count(Some(id), &field.name)?,
            }),
            _ => None,
        }
    }

    /// A member at `offset`: if it is a pointer or a flexible array, of `count`
    /// elements.
    fn member(&mut self, of: TypeId, offset: u64, count: Option<Count>) -> Option<Part> {
        if !self.reaching.contains(&of) {
            return None;
        }
        match self.old.get(of).map(|of| of.shape.clone()) {
            Some(Shape::Array {
                element,
                count: None,
            }) => self.part(
                element,
                Some(element),
                offset,
                count.unwrap_or(Count::Fixed(0)),
            ),
            _ => self.part(of, Some(of), offset, count.unwrap_or(Count::Fixed(1))),
        }
    }

    fn pointer(&mut self, to: TypeId, offset: u64, count: Count) -> Part {
        Part {
            offset,
            pointer: true,
            of: self.number(to),
            count,
            when: None,
        }
    }

    /// A part of type `of`: a pointer leads away, everything else lies there. With
    /// `whole` it is a member, whose count is that of what it points to.
    fn part(
        &mut self,
        of: TypeId,
        whole: Option<TypeId>,
        offset: u64,
        count: Count,
    ) -> Option<Part> {
        if !self.reaching.contains(&of) {
            return None;
        }
        match self.old.get(of).map(|of| of.shape.clone()) {
            Some(Shape::Pointer(target)) => {
                let single = count == Count::Fixed(1);
                if whole.is_some() || single {
                    return Some(self.pointer(target?, offset, count));
                }
                // An array of pointers.
                Some(Part {
                    offset,
                    pointer: false,
                    of: self.number(of),
                    count,
                    when: None,
                })
            }
            _ => Some(Part {
                offset,
                pointer: false,
                of: self.number(of),
                count,
                when: None,
            }),
        }
    }

    fn conversion(&mut self, id: TypeId) -> Option<usize> {
        let counterpart = self.counterpart(id)?;
        let name = self.old.readable(id);
        let mut conversion = self.pairing.conversion(id, counterpart, &name);
        if self.lies_alike(id, 0) {
            conversion.manner = Manner::Common;
        }
        self.plan.conversions.push(conversion);
        Some(self.plan.conversions.len() - 1)
    }

    /// The new version's type of an old one that holds changed records.
    fn counterpart(&self, id: TypeId) -> Option<TypeId> {
        let new = self.pairing.new;
        if let Some(key) = self.old.key(id) {
            let exact = new.records(key).next();
            let by_name = || {
                let mut same = (0..new.types.len()).filter(|other| {
                    new.key(*other)
                        .is_some_and(|other| other.tag == key.tag && other.name == key.name)
                });
                same.next().filter(|_| same.next().is_none())
            };
            return exact.or_else(by_name);
        }
        let spelt = self.old.spell(id);
        (0..new.types.len()).find(|other| new.spell(*other) == spelt)
    }

    pub(super) fn roots(&mut self) {
        for variable in &self.old.variables {
            let count = self.named.count(None, &variable.name);
            let cast = self.named.cast(None, &variable.name);
            let pointer = matches!(
                self.old.get(variable.of).map(|of| &of.shape),
                Some(Shape::Pointer(_))
            );
            if !self.reaching.contains(&variable.of) && cast.is_none() {
                continue;
            }
            // A pointer whose length is named is a type of its own.
            let of = match (cast, pointer, count) {
                (None, true, None) | (None, false, _) => self.number(variable.of),
                (cast, _, count) => {
                    let Some(to) = cast.or_else(|| self.leads_to(variable.of).first().copied())
                    else {
                        continue;
                    };
                    let part = self.pointer(to, 0, count.unwrap_or(Count::Fixed(1)));
                    self.plan.types.push(Walked {
                        name: self.old.readable(variable.of),
                        size: 8,
                        alignment: 8,
                        conversion: None,
                        parts: vec![part],
                        tail: None,
                    });
                    self.plan.types.len() - 1
                }
            };
            self.plan.roots.push(Root {
                name: variable.name.clone(),
                address: variable.address,
                of,
                count: 1,
            });
        }
    }

    pub(super) fn frames(&mut self, functions: &[FrameVariables]) {
        for function in functions {
            let mut roots = Vec::new();
            for local in &function.locals {
                if self.reaching.contains(&local.of) {
                    roots.push(FrameRoot {
                        name: local.name.clone(),
                        of: self.number(local.of),
                        count: 1,
                        places: local.places.clone(),
                    });
                }
            }
            if !roots.is_empty() {
                self.plan.frames.push(FrameRoots {
                    function: function.function.clone(),
                    range: function.range.clone(),
                    base: function.base.clone(),
                    roots,
                });
            }
        }
    }
}
