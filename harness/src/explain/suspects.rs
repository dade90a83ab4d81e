//! What the records of a failing test suggest as its cause. Evidence for a person
//! to follow, not a proof: which of the known causes of failing updates fits.

use super::account::Account;
use crate::analysis::StudiedSession;
use crate::patch::DataAction;
use crate::policy::ReasonKind;
use crate::study::store::Division;
use crate::verdict::Verdict;
use crate::verdict::observation::Update;

/// The causes that fit, the most telling first; none for a point that did not fail.
#[must_use]
pub fn suspects(account: &Account, studied: &StudiedSession<'_>) -> Vec<String> {
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
    if let Some(function) = kind(ReasonKind::EnteredPrototypeChanged) {
        suspects.push(format!(
            "changed prototype through an active frame: `{function}` is entered with the arguments of its old prototype"
        ));
    }
    let deleted = kind(ReasonKind::EnteredDeleted).or_else(|| kind(ReasonKind::DeletedOnStack));
    if let Some(function) = deleted {
        suspects.push(format!(
            "deleted function still in use: `{function}` is active at the point"
        ));
    }
    if !account.active.is_empty() {
        suspects.push(format!(
            "version-inconsistent sequence: the old {} goes on after the update, among new code",
            quoted(account.active.iter().map(String::as_str))
        ));
    }
    let mixed = run.judgement.verdict == Verdict::Mixed;
    let (before, after) = entered_in_exchange(account, studied);
    if mixed && account.active.is_empty() && !before.is_empty() {
        suspects.push(format!(
            "version-inconsistent sequence: in exchange {} the old {} ran before the update, and after it the new {}",
            account.point.moment(),
            quoted(before.iter().map(String::as_str)),
            quoted(after.iter().map(String::as_str))
        ));
    }
    if !mixed || account.division == Division::LackingTransformer {
        suspects.extend(state(account, studied));
    }
    suspects.extend(run.processes.iter().find_map(|process| {
        let fault = process.fault.as_ref()?;
        let inner = fault.stack.iter().find(|name| !is_library(name))?;
        Some(format!(
            "{} was {}, and the innermost of its own functions was `{inner}`",
            process.role, process.ending
        ))
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
        suspects.push(format!(
            "changed protocol between processes: {} was updated, but the exchange that differs is served by {}",
            account.point.role,
            writers.join(", ")
        ));
    }
    suspects
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

/// What the update does to state that old code built.
fn state(account: &Account, studied: &StudiedSession<'_>) -> Option<String> {
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
        Division::LackingTransformer => Some(format!(
            "missed initialisation or stale state: the pair leaves out the transformer that it needs{about}"
        )),
        Division::WithTransformer if account.active.is_empty() => Some(format!(
            "transformer fault, or stale state that it does not convert{about}"
        )),
        Division::NoTransformer if account.active.is_empty() => Some(format!(
            "stale state: new code meets what old code built{about}"
        )),
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
