//! What each frame of the old program may still use, by its return address:
//! small enough to be stored with a run, so that policies need no binary.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::binary::{Address, FunctionName};

/// How a changed thing is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UseKind {
    /// A member is read, written or its address taken.
    Member,
    /// A value of the whole record is copied, passed or returned.
    Value,
    /// A pointer to it is moved by a multiple of its size.
    Arithmetic,
    /// Its size or a member's offset is taken.
    Size,
    /// A variable of the type is declared.
    Declaration,
    /// A pointer into an instance is kept across statements.
    Interior,
    /// An instruction depends on the layout, whatever the source says.
    Layout,
    /// A global is read, written or its address taken.
    Global,
    /// A function is called, or its address taken.
    Function,
    /// A function is called through a pointer to a prototype that some changed
    /// function had.
    IndirectCall,
    /// An enumerator is named.
    Enumerator,
}

impl UseKind {
    const fn verb(self) -> &'static str {
        match self {
            Self::Member => "uses",
            Self::Value => "copies or passes a whole",
            Self::Arithmetic => "steps over instances of",
            Self::Size => "takes the size or an offset of",
            Self::Declaration => "has a variable of",
            Self::Interior => "keeps a pointer into",
            Self::Layout => "depends on the layout of",
            Self::Global => "uses the global",
            Self::Function => "calls or takes the address of",
            Self::IndirectCall => "calls through a pointer of the type",
            Self::Enumerator => "names the enumerator",
        }
    }
}

/// Who found a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finder {
    /// The syntax tree.
    Syntax,
    /// The padding differential.
    Padding,
    /// References of the machine code.
    References,
}

/// A concrete use of something that the update changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Use {
    /// How.
    pub kind: UseKind,
    /// The type, global or function for people (`struct client`, `commands`).
    pub name: String,
    /// The member, where one is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// Source file.
    pub file: String,
    /// Line; 0 where the whole function is meant.
    pub line: u32,
    /// Whether it counts for policies that tell members apart: the member
    /// changed, or the use depends on a size that changed.
    pub by_member: bool,
    /// Who found it.
    pub finder: Finder,
}

impl Use {
    /// The use for a person, after the function's name.
    #[must_use]
    pub fn text(&self) -> String {
        let member = self.member.as_ref();
        let what = match member {
            Some(member) => format!("`{member}` of {}", self.name),
            None => format!("`{}`", self.name),
        };
        let place = match (self.file.as_str(), self.line) {
            ("", _) | (_, 0) => String::new(),
            (file, line) => format!(" ({file}:{line})"),
        };
        format!("{} {what}{place}", self.kind.verb())
    }
}

/// Uses of one function of the old program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionUses {
    /// Its size in bytes.
    pub size: u64,
    /// Why nothing is known of what it uses: every frame of it refuses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// All its uses, as numbers of [`UseTable::uses`].
    pub uses: Vec<u32>,
    /// For each return address in it, the number of a set of [`UseTable::sets`]:
    /// the uses that can follow.
    pub sites: BTreeMap<Address, u32>,
}

/// What the old program's functions use of what an update changes. A function
/// that is not listed uses none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UseTable {
    /// How the uses were found, for people.
    pub finders: Vec<String>,
    /// What could not be seen, for people.
    pub gaps: Vec<String>,
    /// Distinct uses.
    pub uses: Vec<Use>,
    /// Distinct sets of uses.
    pub sets: Vec<Vec<u32>>,
    /// Functions by entry.
    pub functions: BTreeMap<Address, FunctionUses>,
    /// Names of these functions.
    pub names: BTreeMap<Address, FunctionName>,
}

impl UseTable {
    fn get(&self, number: u32) -> Option<&Use> {
        self.uses.get(usize::try_from(number).ok()?)
    }

    /// Functions that count as changed for what they use, or because that is
    /// not known.
    #[must_use]
    pub fn users(&self) -> BTreeSet<FunctionName> {
        self.functions
            .iter()
            .filter(|(_, uses)| uses.unknown.is_some() || !uses.uses.is_empty())
            .filter_map(|(entry, _)| self.names.get(entry).cloned())
            .collect()
    }

    /// All uses of the function at `entry`.
    pub fn of_function(&self, entry: Address) -> impl Iterator<Item = &Use> {
        let numbers = self.functions.get(&entry).map(|uses| uses.uses.as_slice());
        let numbers = numbers.unwrap_or_default();
        numbers.iter().filter_map(|number| self.get(*number))
    }

    /// Uses that can follow once control returns to `site` in the function at
    /// `entry`. A return address that is not known has all of the function's.
    pub fn after(&self, entry: Address, site: Address) -> impl Iterator<Item = &Use> {
        let numbers = self.functions.get(&entry).map(|uses| {
            let set = uses.sites.get(&site).and_then(|set| {
                let set = usize::try_from(*set).ok()?;
                self.sets.get(set)
            });
            set.unwrap_or(&uses.uses).as_slice()
        });
        let numbers = numbers.unwrap_or_default();
        numbers.iter().filter_map(|number| self.get(*number))
    }

    /// Why nothing is known of the function at `entry`, if so.
    #[must_use]
    pub fn unknown(&self, entry: Address) -> Option<&str> {
        self.functions.get(&entry)?.unknown.as_deref()
    }

    /// Entry of the listed function that `address` lies in.
    #[must_use]
    pub fn covering(&self, address: Address) -> Option<Address> {
        let (entry, function) = self.functions.range(..=address).next_back()?;
        (address.since(*entry) < function.size.max(1)).then_some(*entry)
    }

    /// Return addresses after which an instruction depends on a layout that no
    /// use in the syntax tree explains: blind spots of that finder.
    #[must_use]
    pub fn uncovered(&self) -> Vec<Address> {
        let mut found = Vec::new();
        for (entry, function) in &self.functions {
            for site in function.sites.keys() {
                let by = |finder: Finder| {
                    self.after(*entry, *site)
                        .any(move |what| what.finder == finder)
                };
                if by(Finder::Padding) && !by(Finder::Syntax) {
                    found.push(*site);
                }
            }
        }
        found
    }
}
