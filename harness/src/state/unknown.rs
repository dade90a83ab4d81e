//! What types alone do not say: members that may lead to changed records in a way that
//! is not known, records that are gone, constants that changed their meaning.

use super::gaps::Gap;
use super::identifier;
use super::prepare::Preparation;
use crate::binary::dwarf::graph::{Shape, TypeId};
use crate::change::{Changes, HowRecord};

impl Preparation<'_> {
    /// Members that may lead to changed records, but how is not known.
    pub(super) fn unknown_parts(&self, gaps: &mut Vec<Gap>) {
        let mut types: Vec<TypeId> = self.numbers.keys().copied().collect();
        types.sort_unstable();
        for id in types {
            let Some(Shape::Record { fields, union, key }) = self.old.get(id).map(|of| &of.shape)
            else {
                continue;
            };
            // Members of a nameless record have no name that a rule could say.
            if key.is_none() {
                continue;
            }
            let record = self.old.readable(id);
            for field in fields {
                let subject = format!("{record}.{}", field.name);
                let ruled = self.named.count(Some(id), &field.name).is_some()
                    || self.named.cast(Some(id), &field.name).is_some()
                    || self.named.condition(id, &field.name).is_some();
                if !ruled {
                    gaps.extend(self.unknown(field.of, &subject, *union));
                }
            }
        }
        for variable in &self.old.variables {
            let ruled = self.named.count(None, &variable.name).is_some()
                || self.named.cast(None, &variable.name).is_some();
            if !ruled {
                gaps.extend(self.unknown(variable.of, &variable.name, false));
            }
        }
    }

    /// The gap that a pointer, a union or a flexible array leaves.
    fn unknown(&self, of: TypeId, subject: &str, in_union: bool) -> Option<Gap> {
        let shape = self.old.get(of).map(|of| &of.shape)?;
        let reaches = self.reaching.contains(&of);
        let length = || format!("[[array]] of = \"{subject}\", length = \"…\"");
        if in_union && reaches {
            return Some(Gap::new(
                "union",
                subject,
                format!("{subject} is in a union and leads to changed records; it is not followed"),
                format!("[[union]] of = \"{subject}\", when = \"…\", is = […]"),
            ));
        }
        match shape {
            Shape::Pointer(None) => Some(Gap::new(
                "void-pointer",
                subject,
                format!("{subject} is a void *; what it points to is not followed"),
                format!("[[cast]] of = \"{subject}\", to = \"struct …\""),
            )),
            Shape::Pointer(Some(target)) if reaches => {
                let many = matches!(
                    self.old.get(*target).map(|of| &of.shape),
                    Some(Shape::Pointer(_))
                );
                many.then(|| {
                    Gap::new(
                        "unknown-length",
                        subject,
                        format!("{subject} may point to an array of pointers; one is followed"),
                        length(),
                    )
                })
            }
            Shape::Array { count: None, .. } if reaches => Some(Gap::new(
                "unknown-length",
                subject,
                format!("{subject} is a flexible array; none of its elements is followed"),
                length(),
            )),
            Shape::Record {
                key: None,
                union: true,
                ..
            } if reaches => Some(Gap::new(
                "union",
                subject,
                format!("{subject} is a union that leads to changed records; it is not followed"),
                format!("[[union]] of = \"{subject}.…\", when = \"…\", is = […]"),
            )),
            _ => None,
        }
    }
}

/// Records that the new version lacks: nothing says what becomes of their instances.
pub(super) fn deleted(changes: &Changes) -> Vec<Gap> {
    let gone = changes
        .records
        .iter()
        .filter(|record| record.how == HowRecord::Deleted);
    gone.map(|record| {
        Gap::new(
            "deleted-type",
            &record.name,
            format!(
                "{} is gone from the new version; its instances are left as they are",
                record.name
            ),
            format!(
                "/* in transform.c */ … = … kairos_old_{} …;",
                identifier(&record.name)
            ),
        )
    })
    .collect()
}

/// Stored constants whose meaning changed. Those behind macros leave no trace.
pub(super) fn renumbered(changes: &Changes) -> Vec<Gap> {
    let of = |changed: &crate::change::ChangedEnum| {
        Gap::new(
            "renumbered-constant",
            &changed.name,
            format!(
                "enumerators of {} have other values or are gone; stored values keep their \
                 old meaning",
                changed.name
            ),
            "/* in transform.c, for each member or variable that stores one */ new->… = …;"
                .to_owned(),
        )
    };
    changes.enums.iter().map(of).collect()
}
