//! From names on the command line, or in `run.json`, to the pairs and sessions of
//! a study, in the catalogue's order.

use std::collections::BTreeSet;

use super::StudyError;
use super::options::Options;
use super::plan::SessionKey;
use super::prepare::{PreparedPair, control_id, prepare, prepare_control_of};
use super::store::{Arm, RunOptions};
use crate::mechanism::Mechanism;
use crate::subject::{BuildOptions, Catalogue, Pair, Subject};

/// A pair to be studied, or the control arm of its old version.
#[derive(Clone, Debug)]
pub struct ChosenPair<'a> {
    /// Its subject.
    pub subject: &'a Subject,
    /// The pair as the catalogue has it.
    pub pair: &'a Pair,
    /// What it is for.
    pub arm: Arm,
    /// Its identifier; control arms have one of their own.
    pub id: String,
    /// Workloads to study.
    pub workloads: Vec<String>,
}

impl<'a> ChosenPair<'a> {
    fn new(subject: &'a Subject, pair: &'a Pair, control: bool) -> Self {
        let own = !control && !pair.workloads.is_empty();
        Self {
            subject,
            pair,
            arm: if control { Arm::Control } else { Arm::Update },
            id: if control {
                control_id(pair)
            } else {
                pair.id.clone()
            },
            workloads: if own {
                pair.workloads.clone()
            } else {
                subject.workloads.study.clone()
            },
        }
    }

    /// Builds its versions and its patch.
    ///
    /// # Errors
    /// As [`prepare`].
    pub fn prepare(&self, build: &BuildOptions) -> Result<PreparedPair<'a>, StudyError> {
        if self.arm == Arm::Control {
            prepare_control_of(self.subject, self.pair, self.workloads.clone(), build)
        } else {
            prepare(self.subject, self.pair, build)
        }
    }

    /// What the studied versions are.
    pub fn versions(&self) -> impl Iterator<Item = &'a crate::subject::manifest::Version> {
        let (old, new) = (&self.pair.old, &self.pair.new);
        // A mechanism of its own builds the old version by what changes.
        let control = self.arm == Arm::Control && self.pair.mechanism == Mechanism::default();
        let versions = self.subject.versions.iter();
        versions.filter(move |version| version.label == *old || (!control && version.label == *new))
    }
}

/// The pairs that the options name.
///
/// # Errors
/// A name that does not exist is a mistake, not an empty choice.
pub fn pairs<'a>(catalogue: &'a Catalogue, options: &Options) -> Result<Vec<&'a Pair>, StudyError> {
    for name in &options.subjects {
        catalogue.subject(name)?;
    }
    for id in &options.pairs {
        catalogue.pair(id)?;
    }
    let wanted = |list: &[String], name: &str| list.is_empty() || list.iter().any(|l| l == name);
    let pairs: Vec<&Pair> = catalogue
        .pairs
        .iter()
        .filter(|pair| wanted(&options.pairs, &pair.id) && wanted(&options.subjects, &pair.subject))
        .collect();
    if pairs.is_empty() {
        return Err(StudyError::Nothing);
    }
    Ok(pairs)
}

/// What recorded options choose from the catalogue.
///
/// # Errors
/// A pair that the catalogue does not have, or no longer; a workload that none of
/// the pairs has.
pub fn chosen<'a>(
    catalogue: &'a Catalogue,
    options: &RunOptions,
) -> Result<Vec<ChosenPair<'a>>, StudyError> {
    let mut seen = BTreeSet::new();
    let mut chosen = Vec::new();
    for id in &options.pairs {
        let pair = catalogue.pair(id)?;
        let subject = catalogue.subject(&pair.subject)?;
        let pair = ChosenPair::new(subject, pair, options.control);
        // Pairs of the same old version share a control arm.
        if seen.insert(pair.id.clone()) {
            chosen.push(pair);
        }
    }
    let known: BTreeSet<&str> = chosen
        .iter()
        .flat_map(|pair| pair.workloads.iter().map(String::as_str))
        .collect();
    let unknown = options
        .workloads
        .iter()
        .find(|name| !known.contains(name.as_str()));
    match unknown {
        Some(workload) => Err(StudyError::NoWorkload {
            workload: workload.clone(),
            known: known.into_iter().collect::<Vec<_>>().join(", "),
        }),
        None => Ok(chosen),
    }
}

/// The sessions of chosen pairs, in order.
#[must_use]
pub fn sessions(chosen: &[ChosenPair<'_>], options: &RunOptions) -> Vec<SessionKey> {
    let wanted = |name: &String| options.workloads.is_empty() || options.workloads.contains(name);
    let mut sessions = Vec::new();
    for pair in chosen {
        for workload in pair.workloads.iter().filter(|name| wanted(name)) {
            for scope in &options.scopes {
                sessions.push(SessionKey {
                    pair: pair.id.clone(),
                    workload: workload.clone(),
                    scope: *scope,
                    mechanism: pair.pair.mechanism.to_string(),
                });
            }
        }
    }
    sessions
}
