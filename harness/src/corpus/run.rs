//! Runs the corpus: one study for each scope that a variant wants, and the control
//! arm of the same cases, all by the machinery of `kairos study`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};
use serde::Serialize;

use super::CorpusError;
use super::case::{Case, Mistaken};
use super::compare::{Comparison, compare};
use super::expand;
use super::observed::{Observed, observed};
use super::reach::{Reached, reached};
use crate::analysis::{classes, sessions};
use crate::binary::program::Program;
use crate::engine::EngineWish;
use crate::sandbox::guard;
use crate::study::controls::Extent;
use crate::study::progress::Progress;
use crate::study::store::Run;
use crate::study::{self, Options};
use crate::subject::error::AtFile as _;
use crate::subject::{BuildOptions, Catalogue, build};
use crate::trace::Scope;

/// How often a failing test is repeated, as in every study.
const REPEATS: u32 = 2;

/// How far the controls go that come with the control arm. A planted fault often
/// makes the client wait, and each such test takes as long as a stall.
const CONTROLS: Extent = Extent {
    control_arm: 0,
    apply_nothing: 3,
    sensitivity: 2,
};

/// What a run needs besides the cases.
pub struct Means<'a> {
    /// How to build.
    pub build: &'a BuildOptions,
    /// The `kairos` binary.
    pub executable: PathBuf,
    /// Workers.
    pub jobs: usize,
    /// Where the studies' records are kept; nowhere if none.
    pub out: Option<&'a Path>,
    /// Hears of builds and tests.
    pub progress: &'a dyn Progress,
    /// Ends the run after the tests at hand.
    pub interrupted: &'a AtomicBool,
}

/// What a run of the corpus found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Every case, by name.
    pub cases: Vec<CaseResult>,
    /// What must be reached, over all cases.
    pub reached: Vec<Reached>,
    /// Classes in which equivalent points show different things.
    pub disagreements: Vec<String>,
}

/// What was found of one case.
#[derive(Debug, Serialize)]
pub struct CaseResult {
    /// Its name.
    pub case: String,
    /// What it shows.
    pub about: String,
    /// Why an update of this kind can fail.
    pub cause: String,
    /// Predictions beside observations.
    #[serde(flatten)]
    pub comparison: Comparison,
    /// Points of the control arm that were tested.
    pub controlled: usize,
    /// Controls that did not show what they must, for people.
    pub violations: Vec<String>,
    /// Predictions that once proved wrong.
    pub mistaken: Vec<Mistaken>,
}

impl CaseResult {
    /// Whether everything was as predicted, and the control arm clean.
    #[must_use]
    pub fn matches(&self) -> bool {
        self.comparison.matches() && self.controlled > 0 && self.violations.is_empty()
    }
}

impl Report {
    /// Whether every case matches.
    #[must_use]
    pub fn matches(&self) -> bool {
        self.cases.iter().all(CaseResult::matches) && self.disagreements.is_empty()
    }

    /// The kinds of points that no case has.
    pub fn unreached(&self) -> impl Iterator<Item = &Reached> {
        self.reached.iter().filter(|kind| kind.points == 0)
    }
}

/// Runs the cases of the project at `root`.
///
/// # Errors
/// When a case cannot be built, a rule names a function that does not exist, or a
/// test cannot be run.
pub fn run(root: &Path, cases: &[Case], means: &Means<'_>) -> Result<Report, CorpusError> {
    let scratch = guard::temporary_folder();
    let folder = tempfile::Builder::new()
        .prefix("corpus")
        .tempdir_in(&scratch)
        .at("create", &scratch)?;
    let catalogue = expand::project(root, cases, folder.path())?;
    means.progress.stage("building the cases");
    build_all(&catalogue, cases, means.build)?;
    let out = match means.out {
        Some(out) => out.to_path_buf(),
        None => folder.path().join("runs"),
    };
    let mut corpus = Corpus {
        catalogue,
        means,
        out,
        seen: Vec::new(),
        control: Vec::new(),
        violations: Vec::new(),
        disagreements: Vec::new(),
    };
    for scope in [Scope::Process, Scope::Tree] {
        let pairs: Vec<String> = cases
            .iter()
            .flat_map(|case| case.variants.iter().map(move |variant| (case, variant)))
            .filter(|(_, variant)| variant.scope == scope)
            .map(|(case, variant)| case.pair_id(&variant.name))
            .collect();
        if !pairs.is_empty() {
            corpus.update(scope, pairs.clone())?;
            corpus.control_arm(scope, pairs)?;
        }
    }
    Ok(corpus.report(cases))
}

/// Builds every version, several at a time, and checks what rules say of the old one.
fn build_all(
    catalogue: &Catalogue,
    cases: &[Case],
    options: &BuildOptions,
) -> Result<(), CorpusError> {
    let subjects: Vec<_> = catalogue.subjects.iter().zip(cases).collect();
    subjects.par_iter().try_for_each(|(subject, case)| {
        let old = build(subject, subject.version("old")?, options)?;
        build(subject, subject.version("new")?, options)?;
        let program = Program::open(&old.program)?;
        case.check_functions(|name| program.functions_named(name).next().is_some())
            .map_err(crate::subject::SubjectError::from)?;
        Ok(())
    })
}

/// Classes of a run whose members disagree, for people.
fn disagreements(run: &Run) -> Result<Vec<String>, CorpusError> {
    let sessions = sessions::studied(&run.pairs, &run.sessions)?;
    let measured = classes::measure(run, &sessions, &[])?;
    let texts = measured.disagreements.iter().map(|one| {
        format!(
            "{}, class {}: {} and {} differ {}; between them ran {}",
            one.session.label(),
            one.leader,
            one.before,
            one.at,
            one.difference,
            one.executed
        )
    });
    Ok(texts.collect())
}

/// A run that is under way.
struct Corpus<'a> {
    catalogue: Catalogue,
    means: &'a Means<'a>,
    out: PathBuf,
    seen: Vec<Observed>,
    control: Vec<Observed>,
    /// Subject and text.
    violations: Vec<(String, String)>,
    disagreements: Vec<String>,
}

impl Corpus<'_> {
    /// Tests the update at every point.
    fn update(&mut self, scope: Scope, pairs: Vec<String>) -> Result<(), CorpusError> {
        // The controls are about the old version: they come with the control arm, once
        // for all variants of a case.
        let extent = Extent {
            control_arm: 0,
            apply_nothing: 0,
            sensitivity: 0,
        };
        let run = self.study(scope, pairs, extent, false)?;
        let disagree = disagreements(&run)?;
        self.disagreements.extend(disagree);
        self.seen.extend(observed(&run)?);
        Ok(())
    }

    /// Replaces every function by its copy, at every point, and runs the other
    /// controls of a study.
    fn control_arm(&mut self, scope: Scope, pairs: Vec<String>) -> Result<(), CorpusError> {
        let run = self.study(scope, pairs, CONTROLS, true)?;
        for control in run.facts.controls.iter().filter(|one| one.violations > 0) {
            let pair = &control.session.pair;
            let of = run.pairs.iter().find(|record| record.pair == *pair);
            let case = of.map_or(pair, |record| &record.subject).clone();
            let text = format!("{}: {}", control.name, control.note);
            self.violations.push((case, text));
        }
        for seen in observed(&run)? {
            if !seen.verdict.is_pass() {
                let text = format!(
                    "control arm: {} {} at {} ({scope})",
                    seen.verdict, seen.cause, seen.point
                );
                self.violations.push((seen.case.clone(), text));
            }
            self.control.push(seen);
        }
        Ok(())
    }

    fn study(
        &self,
        scope: Scope,
        pairs: Vec<String>,
        extent: Extent,
        control: bool,
    ) -> Result<Run, CorpusError> {
        let arm = if control { "control" } else { "update" };
        let options = Options {
            subjects: Vec::new(),
            pairs,
            workloads: Vec::new(),
            sample: None,
            // Predictions speak of every point.
            exhaustive: true,
            check_members: 0,
            seed: 0,
            scopes: vec![scope],
            startup: false,
            jobs: self.means.jobs,
            repeat: REPEATS,
            control,
            extent,
            engine: EngineWish::default(),
            shard: None,
            resume: None,
            out: Some(self.out.join(format!("{arm}-{scope}"))),
            runs: self.out.clone(),
            executable: self.means.executable.clone(),
            arguments: std::env::args().skip(1).collect(),
        };
        let Means {
            build,
            progress,
            interrupted,
            ..
        } = self.means;
        let outcome = study::run(&self.catalogue, build, &options, *progress, interrupted)?;
        if outcome.interrupted || interrupted.load(Ordering::Relaxed) {
            return Err(CorpusError::Interrupted);
        }
        match outcome.problems.into_iter().next() {
            Some(problem) => Err(problem.into()),
            None => Ok(Run::load(&outcome.dir)?),
        }
    }

    fn report(self, cases: &[Case]) -> Report {
        let has_transformer = |case: &str, variant: &str| {
            let id = format!("{case}-old-new-{variant}");
            let pair = self.catalogue.pairs.iter().find(|pair| pair.id == id);
            pair.is_some_and(|pair| pair.transformer.is_some())
        };
        Report {
            disagreements: self.disagreements.clone(),
            reached: reached(&self.seen, has_transformer),
            cases: cases.iter().map(|case| self.case(case)).collect(),
        }
    }

    fn case(&self, case: &Case) -> CaseResult {
        let is_its = |seen: &&Observed| seen.case == case.name;
        let seen: Vec<Observed> = self.seen.iter().filter(is_its).cloned().collect();
        CaseResult {
            case: case.name.clone(),
            about: case.about.clone(),
            cause: case.cause.clone(),
            comparison: compare(&case.predictions, &seen),
            controlled: self.control.iter().filter(is_its).count(),
            violations: self
                .violations
                .iter()
                .filter(|(of, _)| *of == case.name)
                .map(|(_, text)| text.clone())
                .collect(),
            mistaken: case.mistaken.clone(),
        }
    }
}
