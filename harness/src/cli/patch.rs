//! `kairos patch PAIR`: what an update changes, and what to look out for.

use std::fmt::Write as _;
use std::io::Write as _;

use serde::Serialize;

use kairos::mechanism::{Outcome, RecordLayout};
use kairos::patch::{Built, DataAction, Patch, Reason, Statistics};
use kairos::study::prepare::prepare;
use kairos::subject::BuildOptions;

use super::exit_code::ExitCode;
use super::{Project, types};

/// Arguments of `kairos patch`.
#[derive(Clone, Debug, clap::Args)]
pub struct PatchArgs {
    /// Update pair, `<subject>-<old>-<new>[-variant]`
    #[arg(value_name = "PAIR")]
    pub pair: String,
    /// Print changed types, prototypes and globals, old and new side by side
    #[arg(long)]
    pub types: bool,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
    /// A folder of source archives, used before the network (may be repeated)
    /// [default: `KAIROS_ARCHIVES`]
    #[arg(long, value_name = "DIR")]
    pub archives: Vec<std::path::PathBuf>,
}

/// Builds the patch of a pair and prints what it changes.
pub fn run(arguments: &PatchArgs, project: &Project) -> anyhow::Result<ExitCode> {
    let catalogue = project.open()?;
    let options = BuildOptions::from_environment(arguments.archives.clone())?;
    let pair = catalogue.pair(&arguments.pair)?;
    let prepared = prepare(catalogue.subject(&pair.subject)?, pair, &options)?;
    let mechanism = MechanismFacts {
        mechanism: prepared.mechanism.to_string(),
        layouts: &prepared.layouts.records,
    };
    let built = Built {
        patch: prepared.patch,
        statistics: prepared.statistics,
        changes: prepared.changes,
    };
    let text = match (arguments.types, arguments.json) {
        (true, true) => serde_json::to_string_pretty(&types::json(&built.changes))? + "\n",
        (true, false) => types::human(&built.changes),
        (false, true) => json(&built, &mechanism)? + "\n",
        (false, false) => human(&built) + &mechanism.human(),
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(ExitCode::Success)
}

/// How the update deals with records and prototypes that change.
#[derive(Serialize)]
pub struct MechanismFacts<'a> {
    mechanism: String,
    layouts: &'a [RecordLayout],
}

impl MechanismFacts<'_> {
    fn human(&self) -> String {
        let mut text = format!("  mechanism {}\n", self.mechanism);
        let mut common: Vec<String> = Vec::new();
        let mut lines = Vec::new();
        for record in self.layouts {
            let RecordLayout {
                name,
                size,
                outcome,
                ..
            } = record;
            match outcome {
                Outcome::Common => common.push(format!("{name}[{size}]")),
                Outcome::Room(None) => lines.push(format!("room: {name}[{size}]")),
                Outcome::Room(Some(why)) => {
                    lines.push(format!("room instead of common: {name}[{size}], {why}"));
                }
                Outcome::Own(why) => lines.push(format!("own layouts: {name}, {why}")),
            }
        }
        list(&mut text, "records in a common layout", common);
        for line in lines {
            _ = writeln!(text, "  {line}");
        }
        text
    }
}

/// The patch and its statistics as JSON.
///
/// # Errors
/// Never for patches that [`build`] made.
pub fn json(built: &Built, mechanism: &MechanismFacts<'_>) -> serde_json::Result<String> {
    #[derive(Serialize)]
    struct Whole<'a> {
        #[serde(flatten)]
        patch: &'a Patch,
        #[serde(flatten)]
        mechanism: &'a MechanismFacts<'a>,
        statistics: &'a Statistics,
    }
    // What policies need of each return address is for no reader, nor is what workers
    // need to find instances.
    let patch = Patch {
        uses: None,
        rests: std::collections::BTreeMap::new(),
        state: None,
        ..built.patch.clone()
    };
    serde_json::to_string_pretty(&Whole {
        patch: &patch,
        mechanism,
        statistics: &built.statistics,
    })
}

/// The patch for people.
#[must_use]
pub fn human(built: &Built) -> String {
    let Built {
        patch, statistics, ..
    } = built;
    let mut text = String::new();
    let (old, new) = statistics.functions;
    _ = writeln!(text, "{}: {old} functions before, {new} after", patch.pair);
    let replaced = |reason| {
        patch
            .redirects
            .iter()
            .filter(move |r| r.reason == reason)
            .map(|r| {
                let mark = match (r.prototype_changed, r.kept) {
                    (_, true) => " (prototype, old entry kept)",
                    (true, false) => " (prototype)",
                    (false, false) => "",
                };
                format!("{}{mark}", r.function.name)
            })
            .collect::<Vec<_>>()
    };
    list(&mut text, "functions changed", replaced(Reason::ObjectCode));
    let users = "functions rebuilt because they use a changed type, prototype or global";
    list(&mut text, users, replaced(Reason::UsesChanged));
    let rebuilt = "functions rebuilt because data they use moves";
    list(&mut text, rebuilt, replaced(Reason::RefersToMoved));
    let renamed = "functions rebuilt because their parameters have other names";
    list(&mut text, renamed, replaced(Reason::RenamedParameters));
    let callers = "functions rebuilt because they refer to one whose old entry is kept";
    list(&mut text, callers, replaced(Reason::RefersToKept));
    list(&mut text, "functions copied", replaced(Reason::Control));
    let names = |functions: Vec<&kairos::patch::FunctionName>| {
        functions.into_iter().map(|f| f.name.clone()).collect()
    };
    if let Some(edited) = &patch.edited {
        let edited = edited.iter().map(|e| &e.function).collect();
        list(&mut text, "functions edited (text)", names(edited));
    }
    let added = patch.added.iter().map(|a| &a.function).collect();
    list(&mut text, "functions added", names(added));
    let deleted = patch.deleted.iter().map(|d| &d.function).collect();
    list(&mut text, "functions deleted", names(deleted));
    for (kind, title) in [
        ("add", "data added"),
        ("reinitialise", "data with another initial value"),
        ("carry", "data that moves"),
        ("renew", "read-only data renewed"),
    ] {
        let of_kind = patch
            .data
            .iter()
            .filter(|action| data_kind(action) == kind)
            .map(data_text)
            .collect();
        list(&mut text, title, of_kind);
    }
    list(&mut text, "types changed", patch.changed_types.clone());
    let prototypes = patch.changed_prototypes.clone();
    list(&mut text, "prototypes changed", prototypes);
    uses(&mut text, patch);
    let imports = patch.imports.iter().map(|i| i.name.clone()).collect();
    list(&mut text, "library symbols newly used", imports);
    if patch.transformer.is_some() {
        let uses = match patch.transformer_imports.as_slice() {
            [] => "nothing of a library".to_owned(),
            names => names.join(" "),
        };
        _ = writeln!(text, "  state transformer, which uses {uses}");
    }
    if !patch.warnings.is_empty() {
        _ = writeln!(text, "  warnings ({})", patch.warnings.len());
        for warning in &patch.warnings {
            _ = writeln!(text, "    {}: {}", warning.kind, warning.message);
        }
    }
    gaps(&mut text, patch);
    let milliseconds = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    _ = writeln!(
        text,
        "  image {} bytes; read {:.0} ms, compare {:.0} ms, reduce {:.0} ms, link {:.0} ms",
        statistics.image_bytes,
        milliseconds(statistics.read),
        milliseconds(statistics.compare),
        milliseconds(statistics.reduce),
        milliseconds(statistics.link),
    );
    text
}

/// What a person must write for live state.
fn gaps(text: &mut String, patch: &Patch) {
    let Some(gaps) = patch.gaps.as_ref().filter(|gaps| !gaps.is_empty()) else {
        return;
    };
    let count = gaps.len();
    _ = writeln!(text, "  live state: what a person must write ({count})");
    for gap in gaps {
        _ = writeln!(text, "    {}: {}", gap.kind, gap.message);
        _ = writeln!(text, "      {}", gap.line);
    }
    _ = writeln!(
        text,
        "    Constants behind macros leave no trace in a program: look for those that were \
         renumbered."
    );
}

/// How concrete uses were found, and what could not be seen.
fn uses(text: &mut String, patch: &Patch) {
    let Some(uses) = patch.uses.as_ref().filter(|uses| !uses.finders.is_empty()) else {
        return;
    };
    _ = writeln!(
        text,
        "  functions that use what changed: {}; found by {}",
        uses.users().len(),
        uses.finders.join(", ")
    );
    for gap in &uses.gaps {
        _ = writeln!(text, "    {gap}");
    }
}

fn list(text: &mut String, title: &str, mut names: Vec<String>) {
    if names.is_empty() {
        return;
    }
    names.sort();
    _ = writeln!(text, "  {title} ({}): {}", names.len(), names.join(" "));
}

fn data_kind(action: &DataAction) -> &'static str {
    match action {
        DataAction::Add { .. } => "add",
        DataAction::Reinitialise { .. } => "reinitialise",
        DataAction::Carry { .. } => "carry",
        DataAction::Renew { .. } => "renew",
    }
}

fn data_text(action: &DataAction) -> String {
    match action {
        DataAction::Add { name, size, .. }
        | DataAction::Reinitialise { name, size, .. }
        | DataAction::Renew { name, size, .. } => format!("{name}[{size}]"),
        DataAction::Carry {
            name,
            old_size,
            new_size,
            ..
        } => format!("{name}[{old_size}→{new_size}]"),
    }
}
