//! From a case as written to a [`Case`], refusing what makes no sense.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::Spanned;

use super::case::{
    CAUSES, Case, Conditions, Exchanges, Mistaken, Name, PROBE, Prediction, SESSION, Variant,
};
use super::raw;
use crate::analysis::Outcome;
use crate::mechanism::Mechanism;
use crate::policy::columns;
use crate::subject::error::{ManifestError, SubjectError};
use crate::subject::manifest::check::{function_names, inside, is_word, subject_with};
use crate::subject::manifest::{Subject, Workloads, raw as subject_raw};
use crate::subject::place::Text;
use crate::trace::Scope;
use crate::workload::Script;

type Checked<T> = Result<T, ManifestError>;
type Written = subject_raw::Text;

/// What a case's server is where its manifest says nothing else.
const DEFAULT: &str = include_str!("default.toml");

/// Where errors send a reader.
const DOCUMENT: &str = "docs/corpus.md";

/// Checks the text of the manifest at `path`, and the session beside it.
///
/// # Errors
/// [`SubjectError::Manifest`] with place and advice.
pub(super) fn case(text: String, path: &Path) -> Result<Case, SubjectError> {
    let place = Text { path, text: &text };
    let raw: raw::Case =
        toml::from_str(&text).map_err(|error| place.syntax_in(&error, DOCUMENT))?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let cause = cause(&raw.cause, &place)?;
    let subject = subject(raw.subject, &raw.about, folder, &place)?;
    let variants = variants(raw.variant, folder, &place)?;
    let labels = labels(&subject, &raw.about, &place)?;
    if raw.predict.is_empty() {
        return Err(place
            .error(
                raw.about.span(),
                "the case predicts nothing",
                "add a [[predict]] for every point of its session",
            )
            .into());
    }
    let rules = Rules {
        place: &place,
        subject: &subject,
        variants: &variants,
        labels: &labels,
    };
    let predictions = raw
        .predict
        .into_iter()
        .map(|rule| rules.prediction(rule))
        .collect::<Checked<_>>()?;
    let mistaken = raw
        .mistaken
        .into_iter()
        .map(|one| {
            Ok(Mistaken {
                predicted: said(one.predicted, &place)?,
                observed: said(one.observed, &place)?,
                reason: said(one.reason, &place)?,
            })
        })
        .collect::<Checked<_>>()?;
    Ok(Case::new(
        subject,
        cause,
        variants,
        predictions,
        mistaken,
        text,
    ))
}

fn cause(cause: &Written, place: &Text<'_>) -> Checked<String> {
    if CAUSES.contains(&cause.get_ref().as_str()) {
        return Ok(cause.get_ref().clone());
    }
    Err(place.error(
        cause.span(),
        format!("'{}' is not a cause", cause.get_ref()),
        format!("write one of: {}", CAUSES.join(", ")),
    ))
}

/// A text that must say something.
fn said(text: Written, place: &Text<'_>) -> Checked<String> {
    if text.get_ref().trim().is_empty() {
        return Err(place.error(text.span(), "this is empty", "say it; a reader will ask"));
    }
    Ok(text.into_inner())
}

/// The subject that the case's own part and the defaults describe together.
fn subject(
    own: raw::Subject,
    about: &Written,
    folder: &Path,
    place: &Text<'_>,
) -> Result<Subject, SubjectError> {
    let default = Text {
        path: Path::new("default.toml"),
        text: DEFAULT,
    };
    let mut raw: subject_raw::Manifest =
        toml::from_str(DEFAULT).map_err(|error| default.syntax_in(&error, DOCUMENT))?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    raw.name = Spanned::new(about.span(), name.into_owned());
    raw.about.clone_from(about.get_ref());
    raw.except_named = own.except_named;
    if let Some(build) = own.build {
        raw.build.steps = build.steps;
    }
    let run = own.run;
    raw.run.command = run.command.unwrap_or(raw.run.command);
    raw.run.ports = run.ports.unwrap_or(raw.run.ports);
    raw.run.identity = run.identity.unwrap_or(raw.run.identity);
    raw.run.ready = run.ready.unwrap_or(raw.run.ready);
    raw.run.stop = run.stop.unwrap_or(raw.run.stop);
    raw.run.environment = run.environment;
    raw.run.folder = run.folder;
    raw.run.file = run.file;
    raw.run.user = run.user;
    raw.role = own.role.unwrap_or(raw.role);
    raw.manual = own.manual;
    raw.volatile = own.volatile;
    raw.log = own.log;
    raw.state = own.state;
    for version in ["old", "new"] {
        exists(&folder.join(version), about, place)?;
    }
    exists(&folder.join(format!("{SESSION}.session")), about, place)?;
    let probe = folder.join(format!("{PROBE}.session")).is_file();
    let workloads = Workloads {
        study: vec![SESSION.to_owned()],
        probe: probe.then(|| PROBE.to_owned()),
    };
    Ok(subject_with(raw, place, |_, _| Ok(workloads))?)
}

fn exists(path: &Path, about: &Written, place: &Text<'_>) -> Checked<()> {
    if path.exists() {
        return Ok(());
    }
    Err(place.error(
        about.span(),
        format!("the case lacks {}", path.display()),
        format!("write it; {DOCUMENT} shows the files of a case"),
    ))
}

fn variants(raw: Vec<raw::Variant>, folder: &Path, place: &Text<'_>) -> Checked<Vec<Variant>> {
    if raw.is_empty() {
        return Ok(vec![Variant {
            name: "plain".to_owned(),
            transformer: None,
            mechanism: Mechanism::default(),
            scope: Scope::default(),
        }]);
    }
    let mut seen = BTreeSet::new();
    raw.into_iter()
        .map(|variant| {
            let name = variant.name.get_ref().clone();
            if name.is_empty() || !name.chars().all(|c| is_word(c) || c == '.') {
                return Err(place.error(
                    variant.name.span(),
                    format!("'{name}' cannot name a variant"),
                    "use letters, digits, '_' and '.'",
                ));
            }
            if !seen.insert(name.clone()) {
                return Err(place.error(
                    variant.name.span(),
                    format!("two variants are named '{name}'"),
                    "give each its own name",
                ));
            }
            let transformer = match variant.transformer {
                None => None,
                Some(file) => {
                    let path = folder.join(inside(&file, place)?);
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
            let scope = match variant.scope.as_ref().map(|scope| scope.get_ref().parse()) {
                None => Scope::default(),
                Some(Ok(scope)) => scope,
                Some(Err(_)) => {
                    return Err(place.error(
                        variant.scope.map_or(0..0, |scope| scope.span()),
                        "this is not a scope",
                        "write \"process\" or \"tree\"",
                    ));
                }
            };
            Ok(Variant {
                name,
                transformer,
                mechanism: Mechanism {
                    layout: variant.layout,
                    prototypes: variant.prototypes,
                },
                scope,
            })
        })
        .collect()
}

/// Labels of the session's exchanges and then of the probe's, as they are numbered.
struct Labels {
    all: Vec<String>,
    session: usize,
}

fn labels(subject: &Subject, about: &Written, place: &Text<'_>) -> Result<Labels, SubjectError> {
    let ports: BTreeMap<String, u16> = subject
        .run
        .ports
        .iter()
        .map(|port| (port.name.clone(), port.number))
        .collect();
    let read = |name: &str| {
        let path = subject.folder.join(format!("{name}.session"));
        // The session's own place is in the message.
        Script::read(&path, &ports)
            .map(|script| script.exchanges)
            .map_err(|error| {
                place.error(
                    about.span(),
                    error.to_string(),
                    "correct the session of this case",
                )
            })
    };
    let mut all = read(SESSION)?;
    let session = all.len();
    if subject.workloads.probe.is_some() {
        all.extend(read(PROBE)?);
    }
    Ok(Labels { all, session })
}

/// What rules may name.
struct Rules<'a> {
    place: &'a Text<'a>,
    subject: &'a Subject,
    variants: &'a [Variant],
    labels: &'a Labels,
}

impl Rules<'_> {
    fn prediction(&self, rule: Spanned<raw::Predict>) -> Checked<Prediction> {
        let line = self.place.line(rule.span().start);
        let rule = rule.into_inner();
        let session = &self.labels.all[..self.labels.session];
        Ok(Prediction {
            line,
            conditions: Conditions {
                variant: rule.variant.map(|name| self.variant(name)).transpose()?,
                role: rule.role.map(|name| self.role(name)).transpose()?,
                thread: rule.thread,
                function: rule.function.map(|name| self.function(name)).transpose()?,
                caller: rule.caller.map(|name| self.function(name)).transpose()?,
                exchange: rule
                    .exchange
                    .map(|written| self.exchanges(&written, session))
                    .transpose()?,
                index: rule.index,
            },
            verdict: self.verdict(&rule.verdict)?,
            cause: rule.cause,
            diverges: rule
                .diverges
                .map(|written| self.exchanges(&written, &self.labels.all))
                .transpose()?,
            allowed: self.allowed(&rule.allowed)?,
            why: said(rule.why, self.place)?,
        })
    }

    /// One of the names that exist.
    fn known<'n>(
        &self,
        written: &Written,
        what: &str,
        names: impl Iterator<Item = &'n str>,
    ) -> Checked<&'n str> {
        let names: Vec<&str> = names.collect();
        let found = names.iter().find(|name| *name == written.get_ref());
        found.copied().ok_or_else(|| {
            self.place.error(
                written.span(),
                format!("there is no {what} '{}'", written.get_ref()),
                format!("write one of: {}", names.join(", ")),
            )
        })
    }

    fn variant(&self, written: Written) -> Checked<String> {
        let names = self.variants.iter().map(|variant| variant.name.as_str());
        self.known(&written, "variant", names)?;
        Ok(written.into_inner())
    }

    fn role(&self, written: Written) -> Checked<String> {
        let role = match written.get_ref().rsplit_once('#') {
            Some((role, number)) if number.parse::<u32>().is_ok() => role.to_owned(),
            _ => written.get_ref().clone(),
        };
        let role = Spanned::new(written.span(), role);
        let names = self.subject.roles.iter().map(|role| role.name.as_str());
        self.known(&role, "role", names)?;
        Ok(written.into_inner())
    }

    fn function(&self, written: Written) -> Checked<Name> {
        function_names(vec![written.clone()], self.place)?;
        Ok(Name::of(written))
    }

    fn verdict(&self, written: &Written) -> Checked<Outcome> {
        let outcomes = Outcome::TABLE_ORDER;
        let name = self.known(written, "verdict", outcomes.iter().map(|one| one.name()))?;
        let found = outcomes.into_iter().find(|one| one.name() == name);
        Ok(found.unwrap_or(Outcome::Flaky))
    }

    fn exchanges(&self, written: &Spanned<toml::Value>, labels: &[String]) -> Checked<Exchanges> {
        let numbered = || (0..).zip(labels);
        let (shown, numbers): (String, BTreeSet<u32>) = match written.get_ref() {
            toml::Value::String(label) => {
                let same = numbered().filter(|(_, known)| *known == label);
                (label.clone(), same.map(|(number, _)| number).collect())
            }
            toml::Value::Integer(number) => {
                let same = numbered().filter(|(known, _)| i64::from(*known) == *number);
                (number.to_string(), same.map(|(known, _)| known).collect())
            }
            other => (other.to_string(), BTreeSet::new()),
        };
        if numbers.is_empty() {
            let known: Vec<String> = numbered()
                .map(|(number, label)| format!("{number} {label}"))
                .collect();
            return Err(self.place.error(
                written.span(),
                format!("the session has no exchange {shown}"),
                format!("write label or number of one of: {}", known.join(", ")),
            ));
        }
        Ok(Exchanges {
            written: shown,
            numbers,
        })
    }

    fn allowed(&self, written: &Spanned<Vec<Written>>) -> Checked<BTreeSet<&'static str>> {
        const MANUAL: &str = "manual";
        const ALL: &str = "all";
        let can_allow = |column: &&str| *column != MANUAL || !self.subject.manual.is_empty();
        if let [one] = written.get_ref().as_slice()
            && one.get_ref() == ALL
        {
            return Ok(columns().filter(can_allow).collect());
        }
        let mut allowed = BTreeSet::new();
        for name in written.get_ref() {
            let names: Vec<&'static str> = columns().chain([ALL]).collect();
            let column = self.known(name, "policy", names.into_iter())?;
            if column == ALL {
                return Err(self.place.error(
                    name.span(),
                    "\"all\" stands alone",
                    "write [\"all\"], or the columns one by one",
                ));
            }
            if !can_allow(&column) {
                return Err(self.place.error(
                    name.span(),
                    "the case names no manual point",
                    "add a [[subject.manual]], or leave this policy out",
                ));
            }
            let column = columns().find(|known| *known == column).unwrap_or_default();
            allowed.insert(column);
        }
        Ok(allowed)
    }
}
