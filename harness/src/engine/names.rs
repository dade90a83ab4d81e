//! Names for people: which function an address lies in, which role a process has.

use std::collections::BTreeMap;

use super::spec::{OwnFunction, RoleRule};
use crate::binary::Address;
use crate::patch::Patch;
use crate::trace::RoleInstance;
use crate::tracee::maps::MappedFile;

/// Names of functions by address: the program's, the patch image's.
#[derive(Debug)]
pub struct FunctionNames {
    own: Vec<OwnFunction>,
    image: Vec<(Address, u64, String)>,
}

impl FunctionNames {
    /// Takes functions ascending by entry, and those of the patch.
    #[must_use]
    pub fn new(own: &[OwnFunction], patch: Option<&Patch>) -> Self {
        let redirected = patch.iter().flat_map(|patch| {
            let replaced = patch
                .redirects
                .iter()
                .map(|r| (r.new, r.new_size, &r.function.name));
            let added = patch
                .added
                .iter()
                .map(|a| (a.new, a.new_size, &a.function.name));
            replaced.chain(added)
        });
        Self {
            own: own.to_vec(),
            image: redirected
                .map(|(entry, size, name)| (entry, size, name.clone()))
                .collect(),
        }
    }

    /// The own function that `address` lies in.
    #[must_use]
    pub fn own(&self, address: Address) -> Option<&OwnFunction> {
        let after = self.own.partition_point(|f| f.entry <= address);
        let candidate = self.own.get(after.checked_sub(1)?)?;
        (address.since(candidate.entry) < candidate.size).then_some(candidate)
    }

    fn in_image(&self, address: Address) -> Option<&str> {
        self.image
            .iter()
            .find(|(entry, size, _)| address.since(*entry) < *size)
            .map(|(_, _, name)| name.as_str())
    }

    /// The function, old or new, that `address` lies in.
    #[must_use]
    pub fn of_either_version(&self, address: Address) -> Option<&str> {
        match self.own(address) {
            Some(own) => Some(&own.name),
            None => self.in_image(address),
        }
    }

    /// A name for any address: the function's, or the library's with an offset.
    #[must_use]
    pub fn describe(&self, address: Address, mapped: &[MappedFile]) -> String {
        if let Some(own) = self.own(address) {
            return own.name.clone();
        }
        if let Some(name) = self.in_image(address) {
            return format!("{name} (new)");
        }
        mapped
            .iter()
            .find(|file| (file.start..file.end).contains(&address))
            .map_or_else(
                || address.to_string(),
                |file| {
                    let name = file.path.rsplit('/').next().unwrap_or(&file.path);
                    format!("{name}+{:#x}", address.since(file.base))
                },
            )
    }
}

/// Gives processes their role instances.
#[derive(Debug)]
pub struct RoleNames<'a> {
    rules: &'a [RoleRule],
    counts: RoleCounts,
}

/// How many processes there are of each role.
pub type RoleCounts = BTreeMap<String, u32>;

impl<'a> RoleNames<'a> {
    /// Starts counting for a new run.
    #[must_use]
    pub fn new(rules: &'a [RoleRule]) -> Self {
        Self {
            rules,
            counts: RoleCounts::new(),
        }
    }

    /// Goes on counting where another left off.
    #[must_use]
    pub fn resumed(rules: &'a [RoleRule], counts: RoleCounts) -> Self {
        Self { rules, counts }
    }

    /// How many there are of each role.
    #[must_use]
    pub fn into_counts(self) -> RoleCounts {
        self.counts
    }

    /// How many there are of each role by now.
    #[must_use]
    pub const fn counts(&self) -> &RoleCounts {
        &self.counts
    }

    /// The first process.
    pub fn first(&mut self) -> RoleInstance {
        let role = self
            .rules
            .iter()
            .find(|rule| rule.first)
            .map_or("server", |rule| rule.name.as_str())
            .to_owned();
        self.number(role)
    }

    /// Whether any rule for children of `parent` needs the stack at the fork.
    #[must_use]
    pub fn needs_stack(&self, parent: &RoleInstance) -> bool {
        self.rules.iter().any(|rule| {
            rule.forked_in.is_some() && rule.parent.as_deref().is_none_or(|p| p == parent.role)
        })
    }

    /// A child that `parent` forked with these own functions on its stack.
    pub fn child(&mut self, parent: &RoleInstance, stack: &[&str]) -> RoleInstance {
        let role = self
            .rules
            .iter()
            .filter(|rule| !rule.first)
            .find(|rule| {
                rule.parent.as_deref().is_none_or(|p| p == parent.role)
                    && rule
                        .forked_in
                        .as_deref()
                        .is_none_or(|function| stack.contains(&function))
            })
            .map_or_else(
                || format!("{}-child", parent.role),
                |rule| rule.name.clone(),
            );
        self.number(role)
    }

    fn number(&mut self, role: String) -> RoleInstance {
        let count = self.counts.entry(role.clone()).or_insert(0);
        *count += 1;
        RoleInstance {
            role,
            number: *count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str, parent: Option<&str>, forked_in: Option<&str>) -> RoleRule {
        RoleRule {
            name: name.to_owned(),
            first: parent.is_none(),
            parent: parent.map(str::to_owned),
            forked_in: forked_in.map(str::to_owned),
        }
    }

    #[test]
    fn the_first_matching_rule_names_a_child() {
        let rules = [
            rule("listener", None, None),
            rule("resolver", Some("listener"), Some("resolve")),
            rule("session", Some("listener"), None),
        ];
        let mut names = RoleNames::new(&rules);
        let listener = names.first();
        assert!(names.needs_stack(&listener));
        assert_eq!(
            names.child(&listener, &["main", "resolve"]).to_string(),
            "resolver#1"
        );
        assert_eq!(names.child(&listener, &["main"]).to_string(), "session#1");
        let session = names.child(&listener, &["main"]);
        assert_eq!(session.to_string(), "session#2");
        assert_eq!(names.child(&session, &[]).to_string(), "session-child#1");
    }
}
