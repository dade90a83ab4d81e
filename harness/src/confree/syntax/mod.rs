//! Uses that the syntax tree shows, by libclang, which is loaded when the
//! program runs and need not be there.

mod names;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use clang::diagnostic::{Diagnostic, Severity};
use clang::{Clang, EntityKind, Index, TranslationUnit};

use super::found::Found;
use super::preprocess::{Preprocessed, file_of};
use super::table::{Use, UseKind};
use super::{ConFreeError, found::Place};
use crate::binary::Address;
use crate::binary::dwarf::Types;
use crate::change::Changes;
use crate::patch::version::Version;
use crate::subject::BuiltVersion;
use names::Wanted;
use walk::Walk;

/// Set to anything, this variable keeps libclang from being used.
pub const OFF: &str = "KAIROS_NO_LIBCLANG";

/// What clang lacks of gcc's types.
const PRELUDE: &str = "typedef float _Float32; typedef double _Float64; typedef double _Float32x; \
                       typedef long double _Float64x; typedef long double _Float128;\n";

/// How many names are changed in one file before it counts as not parsed.
const MOST_RENAMED: usize = 16;

/// A call in a function's source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Call {
    pub(super) first: u32,
    pub(super) last: u32,
    /// The function called; `*` through a pointer.
    pub(super) callee: String,
    /// Tells equal calls of one statement apart.
    pub(super) serial: usize,
}

/// Where a function's source lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) first: u32,
    pub(super) last: u32,
}

/// What the syntax tree of one unit shows.
#[derive(Debug, Default)]
pub(super) struct UnitSyntax {
    /// Why it could not be parsed.
    pub(super) failed: Option<String>,
    pub(super) functions: Vec<Extent>,
    /// Uses and calls by function name.
    pub(super) uses: BTreeMap<String, Vec<(Place, Vec<String>, Use)>>,
    pub(super) calls: BTreeMap<String, BTreeSet<Call>>,
    /// Calls through pointers, by function name: the type called through.
    indirect: Vec<(String, Place, Vec<String>, String, Use)>,
    /// Types of changed functions that the unit defines.
    changed_types: BTreeSet<String>,
}

impl UnitSyntax {
    /// Uses in the source of `function`, as uses of the program's function at
    /// `entry`.
    pub(super) fn found(&self, function: &str, entry: Address) -> impl Iterator<Item = Found> {
        let uses = self.uses.get(function).into_iter().flatten();
        uses.map(move |(place, arguments_of, what)| Found {
            function: entry,
            place: place.clone(),
            arguments_of: arguments_of.clone(),
            what: what.clone(),
        })
    }
}

/// What the syntax trees of a build show.
#[derive(Debug)]
pub(super) struct Syntax {
    /// Version of libclang; none where there is none, and then why.
    pub(super) version: Result<String, String>,
    /// Units by source.
    pub(super) units: BTreeMap<String, UnitSyntax>,
}

impl Syntax {
    /// Parses all units of the old build.
    pub(super) fn read(
        built: &BuiltVersion,
        types: &Types,
        units: &[Preprocessed],
        changes: &Changes,
        folder: &Path,
    ) -> Result<Self, ConFreeError> {
        let (_guard, clang) = match load() {
            Ok(library) => library,
            Err(why) => return Ok(Self::without(why)),
        };
        let wanted = Wanted::of(changes, types);
        let mut syntax = Self {
            version: Ok(clang::get_version()),
            units: BTreeMap::new(),
        };
        let index = Index::new(&clang, false, false);
        for (number, unit) in units.iter().enumerate() {
            let path = folder.join(format!("{number}.syntax.i"));
            let text = [PRELUDE, &without_deallocators(&unit.text)].concat();
            std::fs::write(&path, text).map_err(|error| ConFreeError::file(&path, error))?;
            let parsed = parse(built, &index, unit, &wanted, &path);
            syntax.units.insert(unit.source.clone(), parsed);
        }
        syntax.resolve_indirect();
        Ok(syntax)
    }

    fn without(why: String) -> Self {
        Self {
            version: Err(why),
            units: BTreeMap::new(),
        }
    }

    /// Calls through pointers of a type that some changed function has are uses.
    fn resolve_indirect(&mut self) {
        let types: BTreeSet<String> = self
            .units
            .values()
            .flat_map(|unit| unit.changed_types.iter().cloned())
            .collect();
        for unit in self.units.values_mut() {
            for (function, place, arguments_of, called, what) in std::mem::take(&mut unit.indirect)
            {
                if types.contains(&called) {
                    unit.uses
                        .entry(function)
                        .or_default()
                        .push((place, arguments_of, what));
                }
            }
        }
    }

    /// Uses of the old program's functions, each at its entry.
    pub(super) fn found(&self, old: &Version) -> Vec<Found> {
        let mut found = Vec::new();
        for (source, unit) in &self.units {
            for function in unit.uses.keys() {
                let id = old.find(source, function);
                let Some(entry) = id.and_then(|id| old.address(id)) else {
                    continue;
                };
                found.extend(unit.found(function, entry));
            }
        }
        found
    }
}

/// The text without the arguments of `__malloc__`, an attribute of gcc's headers
/// that takes none in clang.
fn without_deallocators(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("__malloc__") {
        let behind = at + "__malloc__".len();
        kept.push_str(&rest[..behind]);
        let arguments = &rest[behind..];
        if !arguments.trim_start_matches(' ').starts_with('(') {
            rest = arguments;
            continue;
        }
        let mut depth = 0_usize;
        let end = arguments.char_indices().find_map(|(index, letter)| {
            match letter {
                '(' => depth += 1,
                ')' => {
                    depth -= 1;
                    if depth == 0 {
                        return Some(index + 1);
                    }
                }
                _ => {}
            }
            None
        });
        rest = &arguments[end.unwrap_or(0)..];
    }
    kept.push_str(rest);
    kept
}

/// The library, once per process at a time, and why it could not be loaded
/// before: it does not take a second try.
static LIBRARY: Mutex<Option<String>> = Mutex::new(None);

/// Loads libclang; it must be gone before the guard is, so bind the guard first.
fn load() -> Result<(MutexGuard<'static, Option<String>>, Clang), String> {
    if std::env::var_os(OFF).is_some() {
        return Err(format!("{OFF} is set"));
    }
    let mut failure = LIBRARY.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(why) = &*failure {
        return Err(why.clone());
    }
    match Clang::new() {
        Ok(clang) => Ok((failure, clang)),
        Err(why) => {
            let found = !why.contains("couldn't find any");
            let why = if found {
                why
            } else {
                "none was found".to_owned()
            };
            *failure = Some(why.clone());
            Err(why)
        }
    }
}

/// Version of the libclang that will be used.
///
/// # Errors
/// Why there is none.
pub fn version() -> Result<String, String> {
    // The library goes before the guard.
    let (_guard, _clang) = load()?;
    Ok(clang::get_version())
}

/// Parses a file. Where a header of gcc's defines what is built into clang with
/// another type, the name is changed in the file.
fn parse_renaming<'i>(
    index: &'i Index<'_>,
    path: &Path,
    arguments: &[String],
) -> Result<TranslationUnit<'i>, String> {
    for _ in 0..MOST_RENAMED {
        let parsed = index.parser(path).arguments(arguments).parse();
        let parsed = parsed.map_err(|error| error.to_string())?;
        let clash = errors(&parsed).find_map(|error| {
            let text = error.get_text();
            let name = text.strip_prefix("conflicting types for '")?;
            let name = name.strip_suffix('\'')?;
            name.starts_with('_').then(|| name.to_owned())
        });
        let Some(name) = clash else {
            return Ok(parsed);
        };
        let renamed = std::fs::read_to_string(path)
            .map(|text| text.replace(&name, &format!("kairos{name}")))
            .and_then(|text| std::fs::write(path, text));
        renamed.map_err(|error| error.to_string())?;
    }
    Err("too many names of its headers are built into clang".to_owned())
}

fn errors<'t>(unit: &'t TranslationUnit<'t>) -> impl Iterator<Item = Diagnostic<'t>> {
    let diagnostics = unit.get_diagnostics().into_iter();
    diagnostics.filter(|diagnostic| diagnostic.get_severity() >= Severity::Error)
}

/// The first error that matters: one in the body of a function that a header of
/// the system defines spoils nothing else.
fn first_error(unit: &TranslationUnit<'_>) -> Option<String> {
    let mut remaining = errors(unit).peekable();
    remaining.peek()?;
    let bodies: Vec<(String, u32, u32)> = unit
        .get_entity()
        .get_children()
        .into_iter()
        .filter(|entity| entity.get_kind() == EntityKind::FunctionDecl && entity.is_definition())
        .filter_map(|entity| {
            let range = entity.get_range()?;
            let (file, first, _) = range.get_start().get_presumed_location();
            let (_, last, _) = range.get_end().get_presumed_location();
            file.starts_with("/usr/").then_some((file, first, last))
        })
        .collect();
    remaining.find_map(|error| {
        let (at, line, _) = error.get_location().get_presumed_location();
        let inside = |(file, first, last): &(String, u32, u32)| {
            *file == at && (*first..=*last).contains(&line)
        };
        (!bodies.iter().any(inside)).then(|| format!("line {line}: {}", error.get_text()))
    })
}

fn parse(
    built: &BuiltVersion,
    index: &Index<'_>,
    unit: &Preprocessed,
    wanted: &Wanted<'_>,
    path: &Path,
) -> UnitSyntax {
    let mut arguments = ["-x", "cpp-output", "-ferror-limit=0", "-w", "-fno-builtin"]
        .map(str::to_owned)
        .to_vec();
    let dialect = unit.compile.iter().rev().find(|a| a.starts_with("-std="));
    arguments.push(dialect.cloned().unwrap_or_else(|| "-std=gnu17".to_owned()));
    let kept = [
        "-funsigned-char",
        "-fsigned-char",
        "-fshort-enums",
        "-fms-extensions",
    ];
    arguments.extend(
        unit.compile
            .iter()
            .filter(|argument| kept.contains(&argument.as_str()))
            .cloned(),
    );
    let mut syntax = UnitSyntax::default();
    let parsed = match parse_renaming(index, path, &arguments) {
        Ok(parsed) => parsed,
        Err(why) => {
            syntax.failed = Some(why);
            return syntax;
        }
    };
    if let Some(why) = first_error(&parsed) {
        syntax.failed = Some(why);
        return syntax;
    }
    let file = |marker: &str| file_of(built, &unit.directory, marker);
    for entity in parsed.get_entity().get_children() {
        if entity.get_kind() != EntityKind::FunctionDecl || !entity.is_definition() {
            continue;
        }
        let (Some(name), Some(range)) = (entity.get_name(), entity.get_range()) else {
            continue;
        };
        let (marker, first, _) = range.get_start().get_presumed_location();
        let (_, last, _) = range.get_end().get_presumed_location();
        let declared = file(&marker);
        let extent = Extent {
            name: name.clone(),
            file: declared.clone(),
            first,
            last,
        };
        syntax.functions.push(extent);
        // The library's own inline functions use no type of the program.
        if declared.starts_with("/usr/") {
            continue;
        }
        if wanted.function(&entity, &name, &unit.source)
            && let Some(kind) = entity.get_type()
        {
            syntax
                .changed_types
                .insert(kind.get_canonical_type().get_display_name());
        }
        let mut walk = Walk::new(wanted, &unit.source, &declared, &name, &file, first, last);
        walk.function(entity);
        let walked = walk.finish();
        syntax.uses.insert(name.clone(), walked.uses);
        syntax.calls.insert(name.clone(), walked.calls);
        syntax.indirect.extend(
            walked
                .indirect
                .into_iter()
                .map(|(place, arguments, called)| {
                    let what = Use {
                        line: walk::line_of(&place),
                        ..walk::bare(UseKind::IndirectCall, called.clone(), &declared)
                    };
                    (name.clone(), place, arguments, called, what)
                }),
        );
    }
    syntax
}

#[cfg(test)]
mod tests {
    use super::without_deallocators;

    #[test]
    fn only_the_attributes_arguments_go() {
        assert_eq!(
            without_deallocators("void *f(int) __attribute__ ((__malloc__ (free, 1), __cold__));"),
            "void *f(int) __attribute__ ((__malloc__, __cold__));"
        );
        assert_eq!(without_deallocators("__malloc__ (a"), "__malloc__ (a");
    }
}
