//! `case.toml`: one tiny server in two versions, and what is predicted of every
//! update point of its session.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::Spanned;

use super::check;
use crate::analysis::Outcome;
use crate::mechanism::Mechanism;
use crate::subject::catalogue::folders_with;
use crate::subject::error::{AtFile, ManifestError, SubjectError};
use crate::subject::manifest::Subject;
use crate::subject::place::Text;
use crate::trace::Scope;

/// Name of a case's manifest in its folder.
pub const MANIFEST: &str = "case.toml";

/// Where the cases lie, below the project's root.
pub const FOLDER: &str = "subjects/corpus";

/// The folder of the corpus whose files every case gets in both source trees.
pub const COMMON: &str = "common";

/// The session of a case, and its probe if it has one: files of this name with the
/// ending `.session`.
pub const SESSION: &str = "session";
/// See [`SESSION`].
pub const PROBE: &str = "probe";

/// What can make an update of a kind fail (study.md, "Measures"), and `none`.
pub const CAUSES: [&str; 11] = [
    "version-inconsistent sequence",
    "missed initialisation",
    "stale derived state",
    "stale representation",
    "changed meaning of a stored value",
    "changed prototype through an active frame",
    "deleted function still referenced",
    "changed protocol between processes",
    "lost update to moved storage",
    "transformer fault",
    "none",
];

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name, equal to its folder's.
    pub name: String,
    /// What it shows, one sentence.
    pub about: String,
    /// Why an update of this kind can fail; one of [`CAUSES`].
    pub cause: String,
    /// The server, its versions labelled `old` and `new`.
    pub subject: Subject,
    /// How the update is run; never empty.
    pub variants: Vec<Variant>,
    /// What is predicted, in order: the first that applies counts.
    pub predictions: Vec<Prediction>,
    /// Predictions that proved wrong.
    pub mistaken: Vec<Mistaken>,
    /// The manifest's text, for errors that show only once the case is built.
    text: String,
}

/// One way to run the update of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Variant {
    /// Its name.
    pub name: String,
    /// The state transformer, an existing C file.
    pub transformer: Option<PathBuf>,
    /// How records and prototypes that change are dealt with.
    pub mechanism: Mechanism,
    /// Which processes one update reaches.
    pub scope: Scope,
}

/// What is predicted of some points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prediction {
    /// Which points.
    pub conditions: Conditions,
    /// The verdict.
    pub verdict: Outcome,
    /// A text that the verdict's cause holds; empty: there is no cause.
    pub cause: Option<String>,
    /// Exchanges at one of which it shows.
    pub diverges: Option<Exchanges>,
    /// Columns of the policies that allow the points; all others refuse.
    pub allowed: BTreeSet<&'static str>,
    /// The reasoning.
    pub why: String,
    /// Where the manifest says so.
    pub line: usize,
}

/// Conditions that a point must meet; those that are none are met by all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Name of the variant.
    pub variant: Option<String>,
    /// A role, or one instance of it.
    pub role: Option<String>,
    /// The thread within the process.
    pub thread: Option<u32>,
    /// The function entered.
    pub function: Option<Name>,
    /// The program's own function that called it.
    pub caller: Option<Name>,
    /// The exchange of the point.
    pub exchange: Option<Exchanges>,
    /// The entry within exchange and thread.
    pub index: Option<u32>,
}

/// A function that a rule names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The name.
    pub name: String,
    /// Where the manifest says so.
    pub(super) span: Range<usize>,
}

/// Exchanges that a rule names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchanges {
    /// Label or number, as written.
    pub written: String,
    /// Their numbers.
    pub numbers: BTreeSet<u32>,
}

/// A prediction that proved wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mistaken {
    /// What had been predicted.
    pub predicted: String,
    /// What was observed.
    pub observed: String,
    /// Why the prediction was an error of reasoning.
    pub reason: String,
}

impl Case {
    /// Reads and checks `folder/case.toml` and the session beside it.
    ///
    /// # Errors
    /// [`SubjectError::Manifest`] with place and advice, or an unreadable file.
    pub fn load(folder: &Path) -> Result<Self, SubjectError> {
        let path = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&path).at("read", &path)?;
        check::case(text, &path)
    }

    pub(super) fn new(
        subject: Subject,
        cause: String,
        variants: Vec<Variant>,
        predictions: Vec<Prediction>,
        mistaken: Vec<Mistaken>,
        text: String,
    ) -> Self {
        Self {
            name: subject.name.clone(),
            about: subject.about.clone(),
            cause,
            subject,
            variants,
            predictions,
            mistaken,
            text,
        }
    }

    /// Identifier of the update pair that a variant becomes.
    #[must_use]
    pub fn pair_id(&self, variant: &str) -> String {
        format!("{}-old-new-{variant}", self.name)
    }

    /// Checks that the old version has every function that a rule names.
    ///
    /// # Errors
    /// The first name that it lacks.
    pub fn check_functions(&self, has: impl Fn(&str) -> bool) -> Result<(), ManifestError> {
        let conditions = self.predictions.iter().map(|rule| &rule.conditions);
        let mut names = conditions.flat_map(|rule| rule.function.iter().chain(&rule.caller));
        match names.find(|name| !has(&name.name)) {
            None => Ok(()),
            Some(unknown) => {
                let path = self.subject.folder.join(MANIFEST);
                let place = Text {
                    path: &path,
                    text: &self.text,
                };
                Err(place.error(
                    unknown.span.clone(),
                    format!("the old version has no function '{}'", unknown.name),
                    "name a function of old/ that is compiled as one: helpers that are inlined are none",
                ))
            }
        }
    }
}

impl Name {
    pub(super) fn of(written: Spanned<String>) -> Self {
        Self {
            span: written.span(),
            name: written.into_inner(),
        }
    }
}

/// All cases of the project at `root`, or those of the given names, sorted by name.
///
/// # Errors
/// The first wrong case; a name that no case has.
pub fn cases(root: &Path, names: &[String]) -> Result<Vec<Case>, SubjectError> {
    let folders = folders_with(&root.join(FOLDER), MANIFEST)?;
    let name = |folder: &PathBuf| {
        let name = folder.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    };
    let known: Vec<String> = folders.iter().map(name).collect();
    if let Some(unknown) = names.iter().find(|name| !known.contains(name)) {
        return Err(SubjectError::Unknown {
            kind: "case",
            name: unknown.clone(),
            known: known.join(", "),
        });
    }
    folders
        .iter()
        .filter(|folder| names.is_empty() || names.contains(&name(folder)))
        .map(|folder| Case::load(folder))
        .collect()
}
