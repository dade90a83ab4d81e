//! What the records of a failing test suggest as its cause. Evidence for a person
//! to follow, not a proof: which of the known causes of failing updates fits.

use std::collections::BTreeSet;

use super::account::Account;
use crate::analysis::StudiedSession;
use crate::patch::DataAction;
use crate::policy::ReasonKind;
use crate::study::store::Division;
use crate::verdict::Verdict;
use crate::verdict::observation::Update;

/// Causes of failing updates that records can suggest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Arguments of an old prototype reach a new function.
    Prototype,
    /// A function that the new version lacks is active.
    Deleted,
    /// An active frame means the old layout of a record that was converted.
    Representation,
    /// Parts of one piece of work were done by two versions that divide it differently.
    Sequence,
    /// The transformer that the pair needs is left out.
    Missing,
    /// The transformer did wrong, or left state as old code made it.
    Transformer,
    /// New code meets state as old code made it.
    State,
    /// Processes were updated apart.
    Processes,
}

impl Cause {
    /// The cause in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prototype => "changed prototype through an active frame",
            Self::Deleted => "deleted function still in use",
            Self::Representation => "stale representation",
            Self::Sequence => "version-inconsistent sequence",
            Self::Missing => "missed initialisation or stale state",
            Self::Transformer => "transformer fault, or stale state that it does not convert",
            Self::State => "stale state",
            Self::Processes => "changed protocol between processes",
        }
    }
}

/// Something that the records of a failing test suggest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// Which cause it speaks for; none if it only says where it showed.
    pub cause: Option<Cause>,
    /// What it is, for people.
    pub text: String,
}

impl Suspect {
    fn of(cause: Cause, what: &str) -> Self {
        Self {
            cause: Some(cause),
            text: format!("{}{what}", cause.name()),
        }
    }
}

/// The causes that fit, the most telling first; none for a point that did not fail.
#[must_use]
pub fn suspects(account: &Account, studied: &StudiedSession<'_>) -> Vec<Suspect> {
    let Some(run) = account
        .runs
        .iter()
        .find(|run| run.judgement.verdict.is_failure())
    else {
        return Vec::new();
    };
    let mut suspects = Vec::new();
    let kind = |wanted: ReasonKind| {
        let lines = account.policies.iter();
        lines
            .filter(move |line| line.kind == Some(wanted))
            .find_map(|line| line.function.clone())
    };
    let redirected = account.session.mechanism.ends_with("+redirect");
    if let Some(function) = kind(ReasonKind::EnteredPrototypeChanged).filter(|_| redirected) {
        let what = format!(": `{function}` is entered with the arguments of its old prototype");
        suspects.push(Suspect::of(Cause::Prototype, &what));
    }
    let deleted = kind(ReasonKind::EnteredDeleted).or_else(|| kind(ReasonKind::DeletedOnStack));
    if let Some(function) = deleted {
        let what = format!(": `{function}` is active at the point");
        suspects.push(Suspect::of(Cause::Deleted, &what));
    }
    let passing = passing(account, studied);
    suspects.extend(representation(account, &passing));
    let active = account.active.iter().map(String::as_str);
    let active: Vec<&str> = active.filter(|name| passing.contains(name)).collect();
    if !active.is_empty() {
        let what = format!(
            ": the old {} goes on after the update, among new code",
            quoted(active.iter().copied())
        );
        suspects.push(Suspect::of(Cause::Sequence, &what));
    }
    let mixed = run.judgement.verdict == Verdict::Mixed;
    let (before, after) = entered_in_exchange(account, studied);
    if mixed && active.is_empty() && !before.is_empty() {
        let what = format!(
            ": in exchange {} the old {} ran before the update, and after it the new {}",
            account.point.moment(),
            quoted(before.iter().map(String::as_str)),
            quoted(after.iter().map(String::as_str))
        );
        suspects.push(Suspect::of(Cause::Sequence, &what));
    }
    if !mixed || account.division == Division::LackingTransformer {
        suspects.extend(state(account, studied, active.is_empty()));
    }
    suspects.extend(run.processes.iter().find_map(|process| {
        let fault = process.fault.as_ref()?;
        let inner = fault.stack.iter().find(|name| !is_library(name))?;
        let (role, ending) = (&process.role, &process.ending);
        let text =
            format!("{role} was {ending}, and the innermost of its own functions was `{inner}`");
        Some(Suspect { cause: None, text })
    }));
    let served_by_others = run.first.and_then(|number| {
        let trace = &studied.record.trace;
        let exchange = trace
            .exchanges
            .iter()
            .chain(&trace.probe)
            .nth(usize::try_from(number).ok()?)?;
        let applied = matches!(run.update, Update::Applied { .. });
        let mine = exchange.writers.contains(&account.point.role);
        (applied && !exchange.writers.is_empty() && !mine).then(|| {
            exchange
                .writers
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        })
    });
    if let Some(writers) = served_by_others {
        let what = format!(
            ": {} was updated, but the exchange that differs is served by {}",
            account.point.role,
            writers.join(", ")
        );
        suspects.push(Suspect::of(Cause::Processes, &what));
    }
    suspects
}

/// The functions of the point's own thread that will return: those above the main loop
/// that the manifest names, or all. What never returns is active at every point, and
/// cannot be why this one fails.
fn passing<'a>(account: &'a Account, studied: &StudiedSession<'_>) -> BTreeSet<&'a str> {
    let role = &account.point.role.role;
    let is_loop = |name: &str| {
        let mut manual = studied.pair.manual.iter();
        manual.any(|point| point.role == *role && point.caller == name)
    };
    let names = account.stack.iter().skip(1);
    let names = names.map(|frame| frame.function.as_deref().unwrap_or(""));
    names.take_while(|name| !is_loop(name)).collect()
}

/// Frames that go on with an old layout where instances have the new one.
fn representation(account: &Account, passing: &BTreeSet<&str>) -> Option<Suspect> {
    if account.session.mechanism.starts_with("common+") {
        return None;
    }
    let lines = account.old_layouts.iter().map(String::as_str);
    let lines: Vec<&str> = lines
        .filter(|line| passing.contains(line.split(' ').next().unwrap_or("")))
        .collect();
    let what = format!(": the old {}", lines.join(", "));
    (!lines.is_empty()).then(|| Suspect::of(Cause::Representation, &what))
}

/// Changed functions that the process enters in the exchange of the point, before
/// it and from it on.
fn entered_in_exchange(
    account: &Account,
    studied: &StudiedSession<'_>,
) -> (Vec<String>, Vec<String>) {
    let point = &account.point;
    let (mut before, mut after) = (Vec::new(), Vec::new());
    let mut names = &mut before;
    for other in &studied.record.trace.points {
        if other.id == *point {
            names = &mut after;
        }
        let same = other.id.role == point.role && other.id.exchange == point.exchange;
        let changed = studied.evaluator.changed().find(other.function);
        if let (true, Some(function)) = (same, changed)
            && !names.contains(&function.function.name)
        {
            names.push(function.function.name.clone());
        }
    }
    (before, after)
}

/// What the update does to state that old code built; `alone` if no changed function
/// is active that returns.
fn state(account: &Account, studied: &StudiedSession<'_>, alone: bool) -> Option<Suspect> {
    let patch = &studied.pair.patch;
    let data: Vec<&str> = patch
        .data
        .iter()
        .filter_map(|action| match action {
            DataAction::Add { name, .. } | DataAction::Carry { name, .. } => Some(name.as_str()),
            DataAction::Reinitialise { .. } | DataAction::Renew { .. } => None,
        })
        .collect();
    let types: Vec<&str> = patch.changed_types.iter().map(String::as_str).collect();
    let mut about = Vec::new();
    if !data.is_empty() {
        about.push(format!("globals {}", quoted(data.into_iter())));
    }
    if !types.is_empty() {
        about.push(format!("types {}", quoted(types.into_iter())));
    }
    let about = if about.is_empty() {
        String::new()
    } else {
        format!(" (the update adds or changes {})", about.join(" and "))
    };
    match account.division {
        Division::LackingTransformer => {
            let what = format!(": the pair leaves out the transformer that it needs{about}");
            Some(Suspect::of(Cause::Missing, &what))
        }
        Division::WithTransformer if alone => Some(Suspect::of(Cause::Transformer, &about)),
        Division::NoTransformer if alone => {
            let what = format!(": new code meets what old code built{about}");
            Some(Suspect::of(Cause::State, &what))
        }
        _ => None,
    }
}

/// Whether a frame of a fault is a library's: it is named by file and offset.
fn is_library(frame: &str) -> bool {
    frame.contains("+0x") || frame.starts_with("0x")
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 6;
    let all: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    if all.len() > MOST {
        format!("{} and {} more", all[..MOST].join(", "), all.len() - MOST)
    } else {
        all.join(", ")
    }
}
