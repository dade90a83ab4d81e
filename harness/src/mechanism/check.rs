//! Whether a rewritten build has the layouts that were planned, by its own debug
//! information.

use super::place::first_bit;
use super::plan::{Expected, LayoutPlan, Outcome, RecordLayout};
use crate::binary::dwarf::{TypeKey, Types};

/// A rewritten build that differs from the plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// A member lies elsewhere.
    #[error(
        "{record}: `{member}` lies at bit {found} of the rewritten {version} version, planned was {expected}"
    )]
    Member {
        /// The record.
        record: String,
        /// The member.
        member: String,
        /// `old` or `new`.
        version: &'static str,
        /// Planned first bit.
        expected: u64,
        /// First bit in the build.
        found: u64,
    },
    /// The record has another size.
    #[error("{record}: {found} bytes in the rewritten {version} version, planned were {expected}")]
    Size {
        /// The record.
        record: String,
        /// `old` or `new`.
        version: &'static str,
        /// Planned size in bytes.
        expected: u64,
        /// Size in the build.
        found: u64,
    },
    /// The record has other members.
    #[error("{record}: its members in the rewritten {version} version are not the planned ones")]
    Members {
        /// The record.
        record: String,
        /// `old` or `new`.
        version: &'static str,
    },
}

/// Compares the debug information of both rewritten builds with the plan.
///
/// # Errors
/// The first difference, with the record's and the member's name.
pub fn check(plan: &LayoutPlan, old: &Types, new: &Types) -> Result<(), Mismatch> {
    for record in &plan.records {
        if matches!(record.outcome, Outcome::Own(_)) {
            continue;
        }
        one(record, "old", &record.old, &record.old_members, old)?;
        if let Some(key) = &record.new {
            one(record, "new", key, &record.new_members, new)?;
        }
    }
    Ok(())
}

fn one(
    record: &RecordLayout,
    version: &'static str,
    key: &TypeKey,
    expected: &[Expected],
    types: &Types,
) -> Result<(), Mismatch> {
    let name = || record.name.clone();
    for layout in types.records.get(key).into_iter().flatten() {
        if layout.size != record.size {
            return Err(Mismatch::Size {
                record: name(),
                version,
                expected: record.size,
                found: layout.size,
            });
        }
        // What makes a union larger is no member of the version.
        let members = layout.members.iter().filter(|m| m.name != "kairos_room");
        let found: Vec<_> = members.map(|m| (m.name.as_str(), first_bit(m))).collect();
        if found.len() != expected.len() {
            return Err(Mismatch::Members {
                record: name(),
                version,
            });
        }
        for ((member, found), expected) in found.into_iter().zip(expected) {
            if member != expected.name {
                return Err(Mismatch::Members {
                    record: name(),
                    version,
                });
            }
            if found != expected.bit {
                return Err(Mismatch::Member {
                    record: name(),
                    member: member.to_owned(),
                    version,
                    expected: expected.bit,
                    found,
                });
            }
        }
    }
    Ok(())
}
