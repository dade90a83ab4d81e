//! From uses and the machine code to a table: for each return address of the
//! old program, the uses that can still follow.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use rayon::prelude::*;

use super::code::{self, Code};
use super::found::{Found, Place};
use super::padding::Padded;
use super::rules::Rule;
use super::syntax::{Call, Syntax, UnitSyntax};
use super::table::{Finder, FunctionUses, Use, UseKind, UseTable};
use crate::binary::{Address, Function, FunctionName, Lines};
use crate::patch::version::Version;

/// All that the table is made of besides the uses.
pub(super) struct Continuation<'a> {
    pub(super) old: &'a Version,
    pub(super) lines: &'a Lines,
    pub(super) syntax: &'a Syntax,
    /// Sources that are not C.
    pub(super) others: &'a [String],
    /// Rules that a test switched off.
    pub(super) off: &'a [Rule],
}

/// The uses of one function and what is reachable from each of its calls.
struct Analysed {
    entry: Address,
    name: FunctionName,
    size: u64,
    unknown: Option<String>,
    uses: BTreeSet<Use>,
    sites: Vec<(Address, BTreeSet<Use>)>,
}

impl Continuation<'_> {
    /// Makes the table.
    pub(super) fn table(&self, mut found: Vec<Found>, padded: Padded) -> UseTable {
        found.extend(padded.found);
        found.retain(|found| self.counts(found));
        let mut by_function: HashMap<Address, Vec<Found>> = HashMap::new();
        for mut use_found in found {
            self.locate(&mut use_found);
            by_function
                .entry(use_found.function)
                .or_default()
                .push(use_found);
        }
        let failed: BTreeMap<&str, &str> = padded
            .failed
            .iter()
            .map(|(source, why)| (source.as_str(), why.as_str()))
            .collect();
        let never_returning = code::never_returning(&self.old.program);
        let empty = Vec::new();
        let mut analysed: Vec<Analysed> = self
            .old
            .program
            .functions()
            .par_iter()
            .filter_map(|function| {
                let own = by_function.get(&function.entry).unwrap_or(&empty);
                self.function(function, own, &failed, &never_returning)
            })
            .collect();
        analysed.sort_by_key(|function| function.entry);
        let mut table = intern(analysed);
        table.finders = self.finders();
        table.gaps = self.gaps(&padded.failed);
        table
    }

    fn holds(&self, rule: Rule) -> bool {
        !self.off.contains(&rule)
    }

    /// Gives uses at an instruction the instruction's line.
    fn locate(&self, found: &mut Found) {
        if let Place::Instruction(address) = found.place
            && let Some((file, line)) = self.lines.at(address)
        {
            self.lines.file(file).clone_into(&mut found.what.file);
            found.what.line = line;
        }
    }

    fn finders(&self) -> Vec<String> {
        let mut finders = vec![
            "references of the machine code".to_owned(),
            "padding differential".to_owned(),
        ];
        if let Ok(version) = &self.syntax.version {
            finders.push(format!("syntax trees ({version})"));
        }
        finders
    }

    fn gaps(&self, failed: &[(String, String)]) -> Vec<String> {
        let mut gaps = Vec::new();
        if let Err(why) = &self.syntax.version {
            let why = why.lines().next().unwrap_or_default();
            gaps.push(format!(
                "without libclang ({why}) enumerators, unions and members that padding does not \
                 move are not seen; install the Debian package libclang1-14 or newer"
            ));
        }
        for (source, unit) in &self.syntax.units {
            if let Some(why) = &unit.failed {
                gaps.push(format!("{source} could not be parsed ({why})"));
            }
        }
        for (source, why) in failed {
            gaps.push(format!(
                "{source} could not be compiled with padding ({why})"
            ));
        }
        gaps
    }

    /// `None` for a function that uses nothing.
    fn function(
        &self,
        function: &Function,
        own: &[Found],
        failed: &BTreeMap<&str, &str>,
        never_returning: &HashSet<u64>,
    ) -> Option<Analysed> {
        let unit = self.syntax.units.get(&function.name.file);
        let name = function.name.name.split('.').next().unwrap_or_default();
        let unknown = self
            .unknown(function, name, unit, failed)
            .filter(|_| self.holds(Rule::Unknown));
        let mut code = Code::read(
            &self.old.program,
            function.entry,
            function.size,
            never_returning,
        );
        code.unresolved &= self.holds(Rule::UnresolvedJump);
        let rows: Vec<Option<(u32, u32)>> = code
            .instructions
            .iter()
            .map(|instruction| self.lines.at(Address(instruction.ip())))
            .collect();
        let inlined = self.inlined(function, name, &code, unit, &rows);
        let uses: Vec<&Found> = own.iter().chain(&inlined).collect();
        if uses.is_empty() && unknown.is_none() {
            return None;
        }
        let sites = code
            .calls()
            .map(|call| {
                let what = self.after(&code, &rows, call, &uses, name, unit);
                (Address(code.instructions[call].next_ip()), what)
            })
            .collect();
        Some(Analysed {
            entry: function.entry,
            name: function.name.clone(),
            size: function.size,
            unknown,
            uses: worth_telling(&uses),
            sites,
        })
    }

    fn unknown(
        &self,
        function: &Function,
        name: &str,
        unit: Option<&UnitSyntax>,
        failed: &BTreeMap<&str, &str>,
    ) -> Option<String> {
        let file = &function.name.file;
        if self.others.contains(file) {
            return Some(format!("`{name}` is not written in C"));
        }
        if self.syntax.version.is_err() {
            let why = failed.get(file.as_str())?;
            return Some(format!("{file} could not be compiled with padding ({why})"));
        }
        let Some(unit) = unit else {
            return Some(format!("{file} was not parsed"));
        };
        if let Some(why) = &unit.failed {
            return Some(format!("{file} could not be parsed ({why})"));
        }
        let known = unit.functions.iter().any(|known| known.name == name);
        (!known).then(|| format!("the syntax tree of {file} has no `{name}`"))
    }

    /// Uses in bodies that were inlined although they should not have been: of
    /// functions of the unit whose lines this function contains, and of those that
    /// its source calls and its code does not. The latter's lines may be gone, and
    /// their uses then count everywhere.
    fn inlined(
        &self,
        function: &Function,
        name: &str,
        code: &Code,
        unit: Option<&UnitSyntax>,
        rows: &[Option<(u32, u32)>],
    ) -> Vec<Found> {
        let Some(unit) = unit.filter(|_| self.holds(Rule::InlinedBody)) else {
            return Vec::new();
        };
        let lines: BTreeSet<(u32, u32)> = rows.iter().flatten().copied().collect();
        let called: BTreeSet<String> = code.calls().map(|call| self.callee(code, call)).collect();
        let mut inlined: BTreeSet<&str> = BTreeSet::new();
        let mut callers = vec![name];
        while let Some(caller) = callers.pop() {
            let calls = unit.calls.get(caller);
            for other in &unit.functions {
                let by_call = || {
                    let named = |call: &Call| call.callee == other.name;
                    calls.into_iter().flatten().any(named) && !called.contains(&other.name)
                };
                let by_line = || {
                    self.lines.file_number(&other.file).is_some_and(|file| {
                        let inside = (file, other.first)..=(file, other.last);
                        lines.range(inside).next().is_some()
                    })
                };
                if other.name != name
                    && !inlined.contains(other.name.as_str())
                    && (by_call() || by_line())
                {
                    inlined.insert(&other.name);
                    callers.push(&other.name);
                }
            }
        }
        inlined
            .into_iter()
            .flat_map(|other| unit.found(other, function.entry))
            .filter(|found| self.counts(found))
            .collect()
    }

    /// Whether no rule that a test switched off is what makes the use count.
    fn counts(&self, found: &Found) -> bool {
        !self.off.iter().any(|rule| rule.alone_keeps(found))
    }

    /// The uses that can follow once the call returned.
    fn after(
        &self,
        code: &Code,
        rows: &[Option<(u32, u32)>],
        call: usize,
        uses: &[&Found],
        name: &str,
        unit: Option<&UnitSyntax>,
    ) -> BTreeSet<Use> {
        let seen = code.reachable_after(call);
        let reached: BTreeSet<(u32, u32)> = rows
            .iter()
            .zip(&seen)
            .filter_map(|(row, seen)| row.filter(|_| *seen))
            .collect();
        let all: BTreeSet<(u32, u32)> = rows.iter().flatten().copied().collect();
        let again = seen[call] && self.holds(Rule::CallReachedAgain);
        let over =
            |found: &Found| !again && self.is_over(found, code, call, rows[call], name, unit);
        let following: Vec<&Found> = uses
            .iter()
            .copied()
            .filter(|found| match &found.place {
                Place::Whole => true,
                Place::Instruction(address) => {
                    let at = code
                        .instructions
                        .binary_search_by_key(&address.0, iced_x86::Instruction::ip);
                    // What is not an instruction of the function cannot be ruled out.
                    at.map_or(true, |at| seen[at])
                }
                Place::Lines { file, first, last } => {
                    let Some(file) = self.lines.file_number(file) else {
                        return true;
                    };
                    let inside = (file, *first)..=(file, *last);
                    let has_row = all.range(inside.clone()).next().is_some();
                    (!has_row && self.holds(Rule::LinesWithoutRow))
                        || (reached.range(inside).next().is_some() && !over(found))
                }
            })
            .collect();
        worth_telling(&following)
    }

    /// Whether a use in the arguments of the call that the frame waits in is
    /// over: the call must be the only one of that function on its lines.
    fn is_over(
        &self,
        found: &Found,
        code: &Code,
        call: usize,
        row: Option<(u32, u32)>,
        name: &str,
        unit: Option<&UnitSyntax>,
    ) -> bool {
        let Place::Lines { file, first, last } = &found.place else {
            return false;
        };
        if found.arguments_of.is_empty() {
            return false;
        }
        let Some((row_file, line)) = row else {
            return false;
        };
        let same_place = self.lines.file_number(file) == Some(row_file);
        if !same_place || line < *first || line > *last {
            return false;
        }
        let callee = self.callee(code, call);
        let calls = unit.and_then(|unit| unit.calls.get(name));
        let matching = calls
            .into_iter()
            .flatten()
            .filter(|known| known.callee == callee && known.first <= line && line <= known.last);
        let alone = matching.count() == 1 || !self.holds(Rule::CalledTwice);
        alone && found.arguments_of.contains(&callee)
    }

    /// Name of the function that a call instruction calls; `*` through a pointer.
    fn callee(&self, code: &Code, call: usize) -> String {
        let instruction = &code.instructions[call];
        if !instruction.is_call_near() {
            return "*".to_owned();
        }
        let target = Address(instruction.near_branch_target());
        match self.old.program.function_with_entry(target) {
            Some(function) => {
                let name = function.name.name.split('.').next();
                name.unwrap_or_default().to_owned()
            }
            None => self
                .old
                .program
                .library_function(target)
                .unwrap_or("?")
                .to_owned(),
        }
    }
}

/// The uses that say something: not the layout uses that padding found on lines
/// where the source names the type, and with it the member; nor a record's use
/// without a member on a line that has one with a member.
fn worth_telling(uses: &[&Found]) -> BTreeSet<Use> {
    let in_source = || {
        uses.iter()
            .filter(|found| found.what.finder == Finder::Syntax)
    };
    let covers = |found: &Found, what: &Use| match &found.place {
        Place::Lines { file, first, last } => {
            found.what.name == what.name
                && *file == what.file
                && (*first..=*last).contains(&what.line)
        }
        _ => false,
    };
    let place = |what: &Use| (what.name.clone(), what.file.clone(), what.line);
    let with_member: BTreeSet<_> = in_source()
        .filter(|found| found.what.member.is_some())
        .map(|found| place(&found.what))
        .collect();
    let tells = |what: &Use| match what.finder {
        Finder::Padding => !in_source().any(|found| covers(found, what)),
        Finder::Syntax if what.kind == UseKind::Member && what.member.is_none() => {
            what.by_member || !with_member.contains(&place(what))
        }
        _ => true,
    };
    let all = uses.iter().map(|found| &found.what);
    all.filter(|what| tells(what)).cloned().collect()
}

/// Numbers uses and sets.
fn intern(analysed: Vec<Analysed>) -> UseTable {
    let mut table = UseTable::default();
    let mut numbers: HashMap<Use, u32> = HashMap::new();
    let mut sets: HashMap<Vec<u32>, u32> = HashMap::new();
    let narrow = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    for function in analysed {
        let mut number = |set: &BTreeSet<Use>| -> Vec<u32> {
            set.iter()
                .map(|what| {
                    *numbers.entry(what.clone()).or_insert_with(|| {
                        table.uses.push(what.clone());
                        narrow(table.uses.len() - 1)
                    })
                })
                .collect()
        };
        let uses = number(&function.uses);
        let numbered: Vec<(Address, Vec<u32>)> = function
            .sites
            .iter()
            .map(|(site, set)| (*site, number(set)))
            .collect();
        let sites = numbered
            .into_iter()
            .map(|(site, set)| {
                let next = narrow(table.sets.len());
                let number = *sets.entry(set.clone()).or_insert(next);
                if number == next {
                    table.sets.push(set);
                }
                (site, number)
            })
            .collect();
        table.names.insert(function.entry, function.name);
        table.functions.insert(
            function.entry,
            FunctionUses {
                size: function.size,
                unknown: function.unknown,
                uses,
                sites,
            },
        );
    }
    table
}
