//! From an update pair in the catalogue to everything its sessions need: two
//! builds, the patch, the old program's functions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::StudyError;
use super::plan::SessionKey;
use super::setting::{setting, unpatched};
use super::store::{Arm, PairRecord};
use super::versions::{Versions, patch_build, units};
use crate::binary::program::Program;
use crate::change::Changes;
use crate::engine::spec::{OwnFunction, SessionSpec};
use crate::mechanism::{LayoutPlan, Mechanism};
use crate::patch::{self, Built, Patch, Selection, Transformer, Update};
use crate::policy::{FunctionRange, FunctionTable, ManualPoint};
use crate::subject::source::hexadecimal;
use crate::subject::{BuildOptions, BuiltVersion, Pair, Subject, build};
use crate::trace::Scope;

/// A pair that is ready to be studied.
pub struct PreparedPair<'a> {
    /// Its subject.
    pub subject: &'a Subject,
    /// Its identifier; control arms have one of their own.
    pub id: String,
    /// What it is for.
    pub arm: Arm,
    /// The old version.
    pub old: BuiltVersion,
    /// The new version.
    pub new: BuiltVersion,
    /// The patch with its image.
    pub patch: Patch,
    /// Types, prototypes and globals that differ.
    pub changes: Changes,
    /// What the patch took to build; absent for controls that share a build.
    pub statistics: patch::Statistics,
    /// How records and prototypes that change are dealt with.
    pub mechanism: Mechanism,
    /// How changed records are laid out in the builds that run.
    pub layouts: LayoutPlan,
    /// The old program's functions.
    pub functions: Vec<OwnFunction>,
    /// The same by address, for policies.
    pub table: FunctionTable,
    /// Functions that the manifests let be active.
    pub except_named: Vec<String>,
    /// Workloads to study.
    pub workloads: Vec<String>,
    /// Lines of `transform.c`.
    pub transformer_lines: u32,
}

/// Builds both versions of a pair and its patch.
///
/// # Errors
/// When sources, a build or the patch cannot be had; the message says which.
pub fn prepare<'a>(
    subject: &'a Subject,
    pair: &Pair,
    options: &BuildOptions,
) -> Result<PreparedPair<'a>, StudyError> {
    let Versions {
        old,
        new,
        uses,
        own,
        layouts,
    } = Versions::build(subject, pair, options)?;
    let compile = |source: &Path, include: &[PathBuf], out: &Path| {
        new.compile_extra(source, include, out)
            .map_err(|error| error.to_string())
    };
    let transformer = pair.transformer.as_deref().map(|source| Transformer {
        source,
        compile: &compile,
    });
    let (old_units, new_units) = (units(&old), units(&new));
    let mut built = patch::build(&Update {
        pair: &pair.id,
        old: patch_build(&old, &old_units),
        new: patch_build(&new, &new_units),
        uses: Some(&uses),
        own: own.as_ref(),
        prototypes: pair.mechanism.prototypes,
        rules: Some(&pair.rules),
        common: layouts.common(),
        transformer,
        folder: None,
    })
    .map_err(|source| StudyError::Patch {
        pair: pair.id.clone(),
        source,
    })?;
    drop((old_units, new_units));
    let unknown = unknown_names(&pair.except_named, [&old, &new])?;
    built.patch.warnings.extend(unknown);
    let workloads = if pair.workloads.is_empty() {
        subject.workloads.study.clone()
    } else {
        pair.workloads.clone()
    };
    let transformer_lines = pair.transformer.as_deref().map_or(0, lines_of);
    Made {
        subject,
        id: pair.id.clone(),
        arm: Arm::Update,
        old,
        new,
        built,
        mechanism: pair.mechanism,
        layouts,
    }
    .ready(Asked {
        except_named: pair.except_named.clone(),
        workloads,
        transformer_lines,
    })
}

/// Warnings about names in `except_named` that no version has a function of.
fn unknown_names(
    names: &[String],
    versions: [&BuiltVersion; 2],
) -> Result<Vec<patch::Warning>, StudyError> {
    let mut unknown: Vec<&String> = names.iter().collect();
    for version in versions {
        if !unknown.is_empty() {
            let program = Program::open(&version.program)?;
            unknown.retain(|name| program.functions_named(name).next().is_none());
        }
    }
    let warning = |name: &String| patch::Warning {
        kind: "unknown-exception".to_owned(),
        subject: name.clone(),
        message: format!(
            "`except_named` names {name}, but neither version has a function of that name; \
             correct the manifest."
        ),
    };
    Ok(unknown.into_iter().map(warning).collect())
}

/// Builds a version and the control arm over it: the new version is the old one.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_control<'a>(
    subject: &'a Subject,
    label: &str,
    workloads: Vec<String>,
    options: &BuildOptions,
) -> Result<PreparedPair<'a>, StudyError> {
    let id = format!("{}-{label}-{label}-control", subject.name);
    let version = build(subject, subject.version(label)?, options)?;
    let mechanism = Mechanism::default();
    control(
        subject,
        id,
        version,
        workloads,
        mechanism,
        LayoutPlan::default(),
    )
}

/// The control arm over the old version of `pair` as it runs under the pair's
/// mechanism.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_control_of<'a>(
    subject: &'a Subject,
    pair: &Pair,
    workloads: Vec<String>,
    options: &BuildOptions,
) -> Result<PreparedPair<'a>, StudyError> {
    if pair.mechanism == Mechanism::default() {
        return prepare_control(subject, &pair.old, workloads, options);
    }
    let versions = Versions::build(subject, pair, options)?;
    let (id, mechanism) = (control_id(pair), pair.mechanism);
    control(
        subject,
        id,
        versions.old,
        workloads,
        mechanism,
        versions.layouts,
    )
}

/// The identifier of the control arm over a pair's old version: pairs of the same old
/// version share it, unless their mechanism builds that version in its own way.
#[must_use]
pub fn control_id(pair: &Pair) -> String {
    if pair.mechanism == Mechanism::default() {
        format!("{}-{old}-{old}-control", pair.subject, old = pair.old)
    } else {
        format!("{}-control", pair.id)
    }
}

fn control(
    subject: &Subject,
    id: String,
    version: BuiltVersion,
    workloads: Vec<String>,
    mechanism: Mechanism,
    layouts: LayoutPlan,
) -> Result<PreparedPair<'_>, StudyError> {
    let built = control_patch(&id, &version)?;
    let new = version.clone();
    Made {
        subject,
        id,
        arm: Arm::Control,
        old: version,
        new,
        built,
        mechanism,
        layouts,
    }
    .ready(Asked {
        except_named: subject.except_named.clone(),
        workloads,
        transformer_lines: 0,
    })
}

/// The control arm's patch: every function replaced by an identical copy.
///
/// # Errors
/// When the build cannot be read or the image not linked.
pub fn control_patch(id: &str, version: &BuiltVersion) -> Result<Built, StudyError> {
    let units = units(version);
    let build = patch_build(version, &units);
    patch::build_control(id, &build, Selection::All, None).map_err(|source| StudyError::Patch {
        pair: id.to_owned(),
        source,
    })
}

/// The sensitivity control's patch: `function` returns a wrong value.
///
/// # Errors
/// When the build cannot be read or the image not linked.
pub fn broken_patch(id: &str, version: &BuiltVersion, function: &str) -> Result<Built, StudyError> {
    let units = units(version);
    let build = patch_build(version, &units);
    patch::build_broken(id, &build, function, None).map_err(|source| StudyError::Patch {
        pair: id.to_owned(),
        source,
    })
}

/// The builds of a pair and its patch.
struct Made<'a> {
    subject: &'a Subject,
    id: String,
    arm: Arm,
    old: BuiltVersion,
    new: BuiltVersion,
    built: Built,
    mechanism: Mechanism,
    layouts: LayoutPlan,
}

/// What a pair's manifest, or for controls its subject's, asks of a study.
struct Asked {
    except_named: Vec<String>,
    workloads: Vec<String>,
    transformer_lines: u32,
}

impl<'a> Made<'a> {
    /// Reads what policies and workers need of the old program.
    fn ready(self, asked: Asked) -> Result<PreparedPair<'a>, StudyError> {
        let program = Program::open(&self.old.program)?;
        let functions = program.functions();
        let table = FunctionTable::new(functions.iter().map(|function| FunctionRange {
            function: function.name.clone(),
            start: function.entry,
            size: function.size,
        }));
        let functions = functions.iter().map(|function| OwnFunction {
            name: function.name.name.clone(),
            entry: function.entry,
            size: function.size,
            pad: function.pad,
        });
        Ok(PreparedPair {
            subject: self.subject,
            id: self.id,
            arm: self.arm,
            patch: self.built.patch,
            changes: self.built.changes,
            statistics: self.built.statistics,
            mechanism: self.mechanism,
            layouts: self.layouts,
            functions: functions.collect(),
            table,
            except_named: asked.except_named,
            workloads: asked.workloads,
            transformer_lines: asked.transformer_lines,
            old: self.old,
            new: self.new,
        })
    }
}

fn lines_of(path: &Path) -> u32 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    u32::try_from(lines).unwrap_or(u32::MAX)
}

impl PreparedPair<'_> {
    /// The identifier of a session of this pair.
    #[must_use]
    pub fn key(&self, workload: &str, scope: Scope) -> SessionKey {
        SessionKey {
            pair: self.id.clone(),
            workload: workload.to_owned(),
            scope,
            mechanism: self.mechanism.to_string(),
        }
    }

    /// Manual points as policies read them.
    #[must_use]
    pub fn manual(&self) -> Vec<ManualPoint> {
        self.subject
            .manual
            .iter()
            .map(|point| ManualPoint {
                role: point.role.clone(),
                caller: point.looping.clone(),
                entry: point.entry.clone(),
            })
            .collect()
    }

    /// The pair's line of the store.
    #[must_use]
    pub fn record(&self) -> PairRecord {
        PairRecord {
            pair: self.id.clone(),
            subject: self.subject.name.clone(),
            arm: self.arm,
            // How instances are found is for workers alone.
            patch: Patch {
                state: None,
                ..self.patch.clone()
            },
            functions: self.table.clone(),
            manual: self.manual(),
            annotation_lines: Some(self.subject.manual_lines),
            except_named: Some(self.except_named.clone()),
            transformer_lines: self.transformer_lines,
            image_sha256: hexadecimal(&Sha256::digest(&self.patch.image)),
        }
    }

    /// Everything a worker needs for one session of this pair, with `patch` in
    /// place of the pair's own (for controls). With `startup` the trace also has
    /// the points before the server is ready.
    ///
    /// # Errors
    /// When a file of the run folder cannot be read.
    pub fn session(
        &self,
        key: &SessionKey,
        startup: bool,
        patch: &Patch,
        processor: usize,
    ) -> Result<SessionSpec, StudyError> {
        let workload = self.subject.workload(&key.workload);
        let setting = setting(self.subject, &workload)?;
        Ok(SessionSpec {
            scope: key.scope,
            startup,
            workload,
            functions: self.functions.clone(),
            // Policies are not asked in workers.
            patch: Some(Patch {
                uses: None,
                rests: BTreeMap::new(),
                touches: None,
                ..patch.clone()
            }),
            image: patch.image.clone(),
            ..unpatched(self.subject, setting, &self.old, &self.new, processor)?
        })
    }
}
