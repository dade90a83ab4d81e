//! Both versions of a pair as they run under its mechanism, and what their own builds
//! tell of the update.

use super::StudyError;
use crate::binary::Program;
use crate::change::Changes;
use crate::confree::{self, UseTable};
use crate::mechanism::preflight::{self, Versions as OwnVersions};
use crate::mechanism::{LayoutPlan, check};
use crate::patch::{self, ObjectUnit, Own};
use crate::subject::{BuildOptions, BuiltVersion, Pair, Subject, build, build_rewritten};

/// Two versions that are ready for a patch.
pub struct Versions {
    /// The old version as it runs.
    pub old: BuiltVersion,
    /// The new version as its code is loaded.
    pub new: BuiltVersion,
    /// What old functions use of what changes.
    pub uses: UseTable,
    /// What the own builds tell, where others run.
    pub own: Option<Own>,
    /// How changed records are laid out.
    pub layouts: LayoutPlan,
}

impl Versions {
    /// Builds both versions of `pair` as its mechanism says.
    ///
    /// # Errors
    /// When sources or a build cannot be had, or a rewritten build has not the planned
    /// layouts.
    pub fn build(
        subject: &Subject,
        pair: &Pair,
        options: &BuildOptions,
    ) -> Result<Self, StudyError> {
        let old = build(subject, subject.version(&pair.old)?, options)?;
        let new = build(subject, subject.version(&pair.new)?, options)?;
        let con_free = |source| StudyError::ConFree {
            pair: pair.id.clone(),
            source: Box::new(source),
        };
        let (before, after) = rayon::join(
            || Program::open(&old.program),
            || Program::open(&new.program),
        );
        let (before, after) = (before?, after?);
        pair.rules
            .check_renamed(before.types(), after.types())
            .map_err(|missing| StudyError::Renamed {
                pair: pair.id.clone(),
                missing,
            })?;
        let changes = Changes::between(before.types(), after.types());
        let own_versions = OwnVersions {
            changes: &changes,
            rules: &pair.rules,
            old: before.types(),
            new: after.types(),
            built: &new,
        };
        let layouts = preflight::layouts(pair.mechanism.layout, &own_versions, &pair.room)
            .map_err(con_free)?;
        if layouts.old.is_empty() && layouts.new.is_empty() {
            let uses = confree::uses(&old, &changes).map_err(con_free)?;
            return Ok(Self {
                old,
                new,
                uses,
                own: None,
                layouts,
            });
        }
        let patch = |source| StudyError::Patch {
            pair: pair.id.clone(),
            source,
        };
        let (old_units, new_units) = (units(&old), units(&new));
        let mut own = Own::between(
            &patch_build(&old, &old_units),
            &patch_build(&new, &new_units),
            layouts.shared(),
        )
        .map_err(patch)?;
        let running = build_rewritten(subject, subject.version(&pair.old)?, options, &layouts.old)?;
        let loaded = build_rewritten(subject, subject.version(&pair.new)?, options, &layouts.new)?;
        let (here, there) = rayon::join(
            || Program::open(&running.program),
            || Program::open(&loaded.program),
        );
        let (here, there) = (here?, there?);
        check::check(&layouts, here.types(), there.types()).map_err(|source| {
            StudyError::Layout {
                pair: pair.id.clone(),
                source,
            }
        })?;
        own.relocate(before.types(), here.types())
            .map_err(|name| StudyError::Vanished {
                pair: pair.id.clone(),
                name,
            })?;
        let uses = confree::uses(&running, &own.changes).map_err(con_free)?;
        drop((old_units, new_units));
        Ok(Self {
            old: running,
            new: loaded,
            uses,
            own: Some(own),
            layouts,
        })
    }
}

/// A build's objects as patches are made of them.
pub(super) fn units(version: &BuiltVersion) -> Vec<ObjectUnit<'_>> {
    version
        .units
        .iter()
        .map(|unit| ObjectUnit {
            source: &unit.source,
            object: &unit.object,
        })
        .collect()
}

/// A build as patches are made of it.
pub(super) fn patch_build<'a>(
    version: &'a BuiltVersion,
    units: &'a [ObjectUnit<'a>],
) -> patch::Build<'a> {
    patch::Build {
        program: &version.program,
        units,
        tree: &version.tree,
    }
}
