//! Members that carry on under another name: no type tells it, so that a person says it
//! of a pair. What is said must be true of both versions.

use serde::Serialize;

use super::rules::Rules;
use crate::binary::dwarf::{Member, TypeKey, Types};

/// A member of a record that has another name in the new version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RenameRule {
    /// The record: `struct entry`, or the name of a typedef.
    pub record: String,
    /// The member's name in the old version.
    pub old: String,
    /// Its name in the new version.
    pub new: String,
    /// Where the rule is written: file and line.
    pub at: String,
}

/// A rule about a member that a version does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{at}: the {version} version has no member `{member}` in `{record}`; correct [[renamed]]")]
pub struct NoSuchMember {
    /// Where the rule is written.
    pub at: String,
    /// Which version.
    pub version: &'static str,
    /// The record.
    pub record: String,
    /// The member.
    pub member: String,
}

impl Rules {
    /// The member of the old version's `record` that the new version's member `name`
    /// carries on; none if a member of that name carries on under another one.
    #[must_use]
    pub fn predecessor<'n>(&'n self, record: &TypeKey, name: &'n str) -> Option<&'n str> {
        let of = || self.renamed.iter().filter(|rule| is(record, &rule.record));
        if let Some(rule) = of().find(|rule| rule.new == name) {
            return Some(&rule.old);
        }
        (!of().any(|rule| rule.old == name)).then_some(name)
    }

    /// Checks that both versions have what the rules about renamed members name.
    ///
    /// # Errors
    /// The first that is missing, with the place of the rule.
    pub fn check_renamed(&self, old: &Types, new: &Types) -> Result<(), NoSuchMember> {
        for rule in &self.renamed {
            for (version, types, member) in [("old", old, &rule.old), ("new", new, &rule.new)] {
                if !has(types, &rule.record, member) {
                    return Err(NoSuchMember {
                        at: rule.at.clone(),
                        version,
                        record: rule.record.clone(),
                        member: member.clone(),
                    });
                }
            }
        }
        Ok(())
    }
}

/// Whether that is what the record is called.
fn is(record: &TypeKey, name: &str) -> bool {
    match name.strip_prefix(record.tag.as_str()) {
        Some(rest) => rest.strip_prefix(' ') == Some(&record.name),
        None => record.tag == "typedef" && record.name == name,
    }
}

fn has(types: &Types, record: &str, member: &str) -> bool {
    let records = types.records.iter().filter(|(key, _)| is(key, record));
    let mut layouts = records.flat_map(|(_, layouts)| layouts);
    layouts.any(|layout| names(&layout.members, member))
}

/// Whether one of the members, or of those of nameless records among them, is called so.
fn names(members: &[Member], name: &str) -> bool {
    let mut members = members.iter();
    members.any(|m| m.name == name || m.name.is_empty() && names(&m.inner, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tag: &str, name: &str) -> TypeKey {
        TypeKey {
            tag: tag.to_owned(),
            name: name.to_owned(),
            file: "a.c".to_owned(),
        }
    }

    fn rules(record: &str) -> Rules {
        Rules {
            renamed: vec![RenameRule {
                record: record.to_owned(),
                old: "y".to_owned(),
                new: "column".to_owned(),
                at: "pair.toml:7".to_owned(),
            }],
            ..Rules::default()
        }
    }

    #[test]
    fn a_renamed_member_carries_on_and_its_old_name_is_free() {
        let rules = rules("struct place");
        let of = key("struct", "place");
        assert_eq!(rules.predecessor(&of, "column"), Some("y"));
        assert_eq!(rules.predecessor(&of, "y"), None);
        assert_eq!(rules.predecessor(&of, "row"), Some("row"));
        for other in [key("struct", "places"), key("union", "place")] {
            assert_eq!(rules.predecessor(&other, "column"), Some("column"));
        }
        let typedef = key("typedef", "place_t");
        assert_eq!(
            super::tests::rules("place_t").predecessor(&typedef, "column"),
            Some("y")
        );
    }

    #[test]
    fn a_name_that_a_version_lacks_is_told_with_the_place_of_the_rule() {
        let none = Types::default();
        let error = rules("struct place")
            .check_renamed(&none, &none)
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "pair.toml:7: the old version has no member `y` in `struct place`; correct [[renamed]]"
        );
    }
}
