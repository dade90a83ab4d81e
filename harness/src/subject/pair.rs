//! `pair.toml`: an update pair, two versions of a subject and how to go from
//! one to the other. The format is in `docs/manifests.md`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::error::{AtFile, ManifestError, SubjectError};
use super::manifest::check::{function_names, inside, workload_exists};
use super::manifest::check_rules::{renamed, rules};
use super::manifest::{Subject, raw};
use super::place::Text;
use crate::mechanism::{Layout, Mechanism, Prototypes};
use crate::state::Rules;

/// Name of a pair's manifest in its folder.
pub const MANIFEST: &str = "pair.toml";

/// Two versions of a subject, old and new, and the transformer between them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// `<subject>-<old>-<new>[-variant]`, equal to the folder's name.
    pub id: String,
    /// Name of the subject.
    pub subject: String,
    /// Label of the version that runs.
    pub old: String,
    /// Label of the version that it is updated to.
    pub new: String,
    /// Tells pairs of the same versions apart.
    pub variant: Option<String>,
    /// The state transformer, an existing C file.
    pub transformer: Option<PathBuf>,
    /// How records and prototypes that change are dealt with.
    pub mechanism: Mechanism,
    /// Records that must not get a common layout, such as `struct x`, and why.
    pub room: BTreeMap<String, String>,
    /// The workloads to run: the manifest's, or all of the subject's study.
    pub workloads: Vec<String>,
    /// Functions that `activeness_except_named` lets be active: the manifest's, or
    /// the subject's.
    pub except_named: Vec<String>,
    /// What types do not say about live state: the subject's rules and the pair's.
    pub rules: Rules,
    /// What the update does and what to expect; may be empty.
    pub notes: String,
    /// The pair's folder.
    pub folder: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    subject: raw::Text,
    old: raw::Text,
    new: raw::Text,
    variant: Option<raw::Text>,
    transformer: Option<raw::Text>,
    #[serde(default)]
    layout: Layout,
    #[serde(default)]
    prototypes: Prototypes,
    room: Option<Spanned<BTreeMap<String, String>>>,
    workloads: Option<Spanned<Vec<raw::Text>>>,
    except_named: Option<Vec<raw::Text>>,
    #[serde(default)]
    array: Vec<raw::Array>,
    #[serde(default)]
    cast: Vec<raw::Cast>,
    #[serde(default)]
    union: Vec<raw::Union>,
    #[serde(default)]
    renamed: Vec<raw::Renamed>,
    #[serde(default)]
    notes: String,
}

impl Pair {
    /// Reads and checks `folder/pair.toml`; `subjects` are those it may name.
    ///
    /// # Errors
    /// [`SubjectError::Manifest`] with place and advice, or an unreadable file.
    pub fn load(folder: &Path, subjects: &[Subject]) -> Result<Self, SubjectError> {
        let path = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&path).at("read", &path)?;
        Self::parse(&text, &path, subjects)
    }

    /// Reads a manifest's text; `path` is where it lies.
    ///
    /// # Errors
    /// [`SubjectError::Manifest`] with place and advice.
    pub fn parse(text: &str, path: &Path, subjects: &[Subject]) -> Result<Self, SubjectError> {
        let place = Text { path, text };
        let raw: Raw = toml::from_str(text).map_err(|error| place.syntax(&error))?;
        Ok(check(raw, &place, subjects)?)
    }

    /// The manifest's path.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.folder.join(MANIFEST)
    }
}

/// The subject that a pair names.
fn subject<'a>(
    named: &raw::Text,
    folder: &Path,
    place: &Text<'_>,
    subjects: &'a [Subject],
) -> Result<&'a Subject, ManifestError> {
    let name = named.get_ref();
    if let Some(subject) = subjects.iter().find(|subject| subject.name == *name) {
        return Ok(subject);
    }
    let root = folder.ancestors().nth(2);
    let unfinished = root.map(|root| root.join("subjects").join(name));
    let unfinished = unfinished.filter(|folder| !name.is_empty() && folder.is_dir());
    if let Some(folder) = unfinished {
        let manifest = folder.join(super::manifest::MANIFEST);
        return Err(place.error(
            named.span(),
            format!("the subject's manifest {} is missing", manifest.display()),
            "write it as docs/manifests.md says, or put it back",
        ));
    }
    let known: Vec<_> = subjects.iter().map(|s| s.name.as_str()).collect();
    Err(place.error(
        named.span(),
        format!("there is no subject '{name}'"),
        format!("name a folder of subjects/: {}", known.join(", ")),
    ))
}

fn check(raw: Raw, place: &Text<'_>, subjects: &[Subject]) -> Result<Pair, ManifestError> {
    let folder = place
        .path
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default();
    let subject = subject(&raw.subject, &folder, place, subjects)?;
    for label in [&raw.old, &raw.new] {
        if !subject.versions.iter().any(|v| v.label == *label.get_ref()) {
            let known: Vec<_> = subject.versions.iter().map(|v| v.label.as_str()).collect();
            return Err(place.error(
                label.span(),
                format!("{} has no version '{}'", subject.name, label.get_ref()),
                format!("it has: {}", known.join(", ")),
            ));
        }
    }
    if let Some(variant) = &raw.variant
        && !variant
            .get_ref()
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.".contains(c))
    {
        return Err(place.error(
            variant.span(),
            format!("'{}' cannot name a variant", variant.get_ref()),
            "use letters, digits, '_' and '.'; hyphens separate the parts of a pair's name",
        ));
    }
    let mut id = format!(
        "{}-{}-{}",
        subject.name,
        raw.old.get_ref(),
        raw.new.get_ref()
    );
    if let Some(variant) = &raw.variant {
        id = format!("{id}-{}", variant.get_ref());
    }
    let named = folder.file_name().map(|name| name.to_string_lossy());
    if let Some(named) = named.filter(|named| *named != id) {
        return Err(place.error(
            raw.subject.span(),
            format!("this pair is {id}, but lies in the folder '{named}'"),
            format!("rename the folder to {id}, or correct the names"),
        ));
    }
    let transformer = match &raw.transformer {
        None => None,
        Some(file) => {
            let path = transformer_path(file, &folder, place)?;
            if !path.is_file() {
                return Err(place.error(
                    file.span(),
                    format!("{} does not exist", path.display()),
                    "write the transformer, or remove this line",
                ));
            }
            Some(path)
        }
    };
    let mechanism = Mechanism {
        layout: raw.layout,
        prototypes: raw.prototypes,
    };
    let room = room(raw.room, mechanism, place)?;
    let workloads = workloads(raw.workloads, subject, place)?;
    let except_named = match raw.except_named {
        None => subject.except_named.clone(),
        Some(names) => function_names(names, place)?,
    };
    let own = raw::Rules {
        array: raw.array,
        cast: raw.cast,
        union: raw.union,
    };
    let mut rules = subject.rules.clone().and(rules(own, false, place)?);
    rules.renamed = renamed(raw.renamed, place)?;
    Ok(Pair {
        rules,
        id,
        subject: raw.subject.into_inner(),
        old: raw.old.into_inner(),
        new: raw.new.into_inner(),
        variant: raw.variant.map(Spanned::into_inner),
        transformer,
        mechanism,
        room,
        workloads,
        except_named,
        notes: raw.notes,
        folder,
    })
}

/// Records that must not get a common layout, each with a reason.
fn room(
    raw: Option<Spanned<BTreeMap<String, String>>>,
    mechanism: Mechanism,
    place: &Text<'_>,
) -> Result<BTreeMap<String, String>, ManifestError> {
    let Some(raw) = raw else {
        return Ok(BTreeMap::new());
    };
    if mechanism.layout != Layout::Common {
        return Err(place.error(
            raw.span(),
            format!(
                "the layout is `{}`, which `room` says nothing about",
                mechanism.layout.name()
            ),
            "remove it, or write layout = \"common\"",
        ));
    }
    if let Some((name, _)) = raw.get_ref().iter().find(|(_, why)| why.trim().is_empty()) {
        return Err(place.error(
            raw.span(),
            format!("`{name}` has no reason"),
            format!("say why its members must keep their order: {{ \"{name}\" = \"…\" }}"),
        ));
    }
    Ok(raw.into_inner())
}

/// Where a transformer lies: in the pair's own folder, or as `../PAIR/FILE` in that of
/// another pair, for one update that is applied by several mechanisms.
fn transformer_path(
    file: &raw::Text,
    folder: &Path,
    place: &Text<'_>,
) -> Result<PathBuf, ManifestError> {
    let shared = file.get_ref().strip_prefix("../").zip(folder.parent());
    let Some((shared, pairs)) = shared else {
        return Ok(folder.join(inside(file, place)?));
    };
    let shared = toml::Spanned::new(file.span(), shared.to_owned());
    Ok(pairs.join(inside(&shared, place)?))
}

/// The pair's workloads, or all of the subject's study.
fn workloads(
    raw: Option<Spanned<Vec<raw::Text>>>,
    subject: &Subject,
    place: &Text<'_>,
) -> Result<Vec<String>, ManifestError> {
    let Some(list) = raw else {
        return Ok(subject.workloads.study.clone());
    };
    if list.get_ref().is_empty() {
        return Err(place.error(
            list.span(),
            "the pair has no workload",
            "name at least one, or remove the key to run all of the subject's",
        ));
    }
    for name in list.get_ref() {
        workload_exists(name, &subject.folder, place)?;
    }
    let names = list.into_inner().into_iter();
    Ok(names.map(Spanned::into_inner).collect())
}
