//! Accounts as text for people.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::account::{Account, PolicyLine, RunAccount};
use super::causes::Frequency;
use super::exchanges::{ExchangeLine, Moment};
use super::stack;
use crate::verdict::observation::{SeenState, Update};
use crate::verdict::text::Likeness;

/// The account of a point: place, stack, policies, and what its first run showed;
/// of further runs the verdicts.
#[must_use]
pub fn render(account: &Account, frequency: Option<Frequency>, width: u16) -> String {
    let mut text = heading(account);
    text.push('\n');
    text.push_str(&place(account));
    text.push_str(&policies(&account.policies));
    text.push_str(&changed(account));
    if let Some(run) = account.runs.first() {
        text.push('\n');
        text.push_str(&render_run(run, width));
    }
    if account.runs.len() > 1 {
        text.push_str(&repeats(&account.runs));
    }
    if !account.suspects.is_empty() {
        text.push_str("\nwhat the records suggest\n");
        for suspect in &account.suspects {
            _ = writeln!(text, "  - {suspect}");
        }
    }
    if let Some(Frequency {
        same,
        failing,
        tested,
    }) = frequency
    {
        _ = writeln!(
            text,
            "\nsame verdict and cause: {same} of {tested} tests of this pair ({failing} of them failed)"
        );
    }
    _ = writeln!(text, "\ntry it again: {}", account.again);
    text
}

fn heading(account: &Account) -> String {
    let mut text = format!("{}\n{}", account.test, account.verdict);
    if let Some(at) = account
        .runs
        .first()
        .and_then(|run| run.judgement.diverged_at)
    {
        _ = write!(text, " at exchange {at}");
    }
    if !account.cause.is_empty() {
        _ = write!(text, ": {}", account.cause);
    }
    text.push('\n');
    text
}

fn place(account: &Account) -> String {
    let point = &account.point;
    let mut text = format!(
        "point      {} before it enters `{}`: entry {} of thread {} in exchange {} ({})\n",
        point.role,
        account.function,
        point.index,
        point.thread,
        point.moment(),
        account.label
    );
    text.push_str("stack\n");
    text.push_str(&stack::render(&account.stack, "  "));
    if !account.stack_complete {
        text.push_str("  … the stack could not be followed further\n");
    }
    for (number, other) in account.other_stacks.iter().enumerate() {
        _ = writeln!(text, "another thread in scope ({})", number + 1);
        text.push_str(&stack::render(other, "  "));
    }
    if !account.old_layouts.is_empty() {
        text.push_str("old layouts in use\n");
        for line in &account.old_layouts {
            _ = writeln!(text, "  {line}");
        }
    }
    text
}

fn policies(lines: &[PolicyLine]) -> String {
    let width = lines
        .iter()
        .map(|line| line.policy.len())
        .max()
        .unwrap_or(0);
    let mut text = String::from("policies\n");
    for line in lines {
        let reason = line
            .reason
            .as_ref()
            .map_or_else(String::new, |reason| format!(": {reason}"));
        _ = writeln!(text, "  {:<width$}  {}{reason}", line.policy, line.decision);
    }
    text
}

fn changed(account: &Account) -> String {
    let none = |text: String| {
        if text.is_empty() {
            "none".to_owned()
        } else {
            text
        }
    };
    format!(
        "changed functions\n  active at the point      {}\n  entered before it        {}\n  entered from it on       {} (unpatched)\n",
        none(account.active.join(" ")),
        none(counts(&account.entered_before)),
        none(counts(&account.entered_after)),
    )
}

fn counts<N: std::fmt::Display>(entries: &BTreeMap<N, u64>) -> String {
    entries
        .iter()
        .map(|(name, count)| format!("{name} ×{count}"))
        .collect::<Vec<_>>()
        .join("  ")
}

/// One run of a test: the update, the exchanges, what differs, deaths.
#[must_use]
pub fn render_run(run: &RunAccount, width: u16) -> String {
    let mut text = update(run);
    if matches!(
        run.update,
        Update::NotApplied { .. } | Update::NotReached { .. }
    ) {
        return text;
    }
    text.push_str("exchanges     like     logs\n");
    for line in &run.exchanges {
        text.push_str(&exchange(line));
    }
    for finding in run.findings.iter().filter(|f| f.exchange.is_none()) {
        _ = writeln!(
            text,
            "  end state                      ← {}: {}",
            finding.verdict, finding.cause
        );
    }
    if let Some(stall) = &run.stall {
        let how = if stall.busy {
            "the server was busy"
        } else {
            "the server waited"
        };
        _ = writeln!(
            text,
            "stood still in exchange {}: {how}, the client waited for {}",
            stall.exchange, stall.waiting_for
        );
    }
    let new = counts(&*run.new_entries);
    let new = if new.is_empty() { "never" } else { &new };
    _ = writeln!(text, "new code entered  {new}");
    if !run.old_frame_exchanges.is_empty() {
        let exchanges: Vec<String> = run
            .old_frame_exchanges
            .iter()
            .map(ToString::to_string)
            .collect();
        _ = writeln!(text, "old frames ran in exchange {}", exchanges.join(", "));
    }
    text.push_str(&processes(run));
    text.push_str(&differences(run, width));
    text.push_str(&printed(run));
    text
}

/// The last lines that the server printed.
fn printed(run: &RunAccount) -> String {
    const MOST: usize = 8;
    let mut text = String::new();
    for (name, printed) in &run.output {
        let lines: Vec<&str> = printed.lines().collect();
        let last = &lines[lines.len().saturating_sub(MOST)..];
        _ = writeln!(text, "\n{name} of the server, its end");
        for line in last {
            _ = writeln!(text, "  {}", line.trim_end());
        }
    }
    text
}

fn update(run: &RunAccount) -> String {
    match &run.update {
        Update::None => "update     none\n".to_owned(),
        Update::NotApplied { reason } => format!("update     could not be applied: {reason}\n"),
        Update::NotReached { reason } => format!("update     the point was not found: {reason}\n"),
        Update::Applied {
            function,
            tries,
            drifted,
            apply_us,
            state,
            ..
        } => {
            let how = if *apply_us > 0.0 {
                format!("applied in {apply_us:.0} µs")
            } else {
                "stopped there and applied nothing".to_owned()
            };
            let tries = match tries {
                1 => String::new(),
                more => format!(", found at try {more}"),
            };
            let drifted = if *drifted { ", at another index" } else { "" };
            let state = state.as_ref().map(live_state).unwrap_or_default();
            format!("update     {how} before `{function}`{tries}{drifted}\n{state}")
        }
    }
}

/// What became of instances of changed records.
fn live_state(state: &SeenState) -> String {
    let instances: Vec<String> = state
        .instances
        .iter()
        .map(|(record, count)| format!("{count} {record}"))
        .collect();
    let instances = match instances.as_slice() {
        [] => "no instance of a changed record found".to_owned(),
        some => format!("converted {}", some.join(", ")),
    };
    let mut text = format!(
        "state      {instances} ({} moved, {} pointers redirected; found in {:.0} µs, converted in {:.0} µs)\n",
        state.moved, state.redirected, state.walk_us, state.convert_us
    );
    for problem in &state.problems {
        _ = writeln!(text, "           {problem}");
    }
    text
}

fn exchange(line: &ExchangeLine) -> String {
    let like = |likeness: Option<Likeness>| likeness.map_or("–", Likeness::name);
    let mut notes = Vec::new();
    if line.moment == Moment::At {
        notes.push("the update is here".to_owned());
    }
    if line.old_frame {
        notes.push("an old frame ran".to_owned());
    }
    notes.extend(line.findings.iter().map(|finding| {
        if finding.cause.is_empty() {
            format!("← {}", finding.verdict)
        } else {
            format!("← {}: {}", finding.verdict, finding.cause)
        }
    }));
    let behind = if line.behind_session && line.label != "stop" {
        " (probe)"
    } else {
        ""
    };
    let text = format!(
        "  {:>3}  {:<8} {:<8} {:<8} {}{behind}  {}",
        line.number,
        match line.moment {
            Moment::Before => "",
            Moment::At => "update",
            Moment::After => "after",
        },
        like(line.replies),
        like(line.logs),
        line.label,
        notes.join("; ")
    );
    format!("{}\n", text.trim_end())
}

fn processes(run: &RunAccount) -> String {
    let mut text = String::new();
    for process in &run.processes {
        let updated = if process.updated {
            "with the update"
        } else {
            "without the update"
        };
        _ = writeln!(
            text,
            "process    {} ({updated}) {} in exchange {}; old: {}; new: {}",
            process.role, process.ending, process.ended_in, process.old, process.new
        );
        if let Some(fault) = &process.fault {
            _ = writeln!(text, "  at {} in `{}`", fault.address, fault.function);
            for (depth, function) in fault.stack.iter().enumerate() {
                _ = writeln!(text, "  #{depth:<2} {function}");
            }
        }
    }
    text
}

fn differences(run: &RunAccount, width: u16) -> String {
    let mut text = String::new();
    if run.columns.is_empty() {
        return text;
    }
    match run.first {
        Some(number) => _ = writeln!(text, "\nwhat differs first, in exchange {number}"),
        None => text.push_str("\nwhat differs in the end state\n"),
    }
    for columns in &run.columns {
        text.push_str(&columns.render(width));
    }
    text
}

fn repeats(runs: &[RunAccount]) -> String {
    let mut text = String::from("\nruns of this test\n");
    for (number, run) in runs.iter().enumerate() {
        let judgement = &run.judgement;
        let at = judgement
            .diverged_at
            .map_or_else(String::new, |at| format!(" at exchange {at}"));
        let cause = if judgement.cause.is_empty() {
            String::new()
        } else {
            format!(": {}", judgement.cause)
        };
        _ = writeln!(text, "  {}  {}{at}{cause}", number + 1, judgement.verdict);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::fixture;
    use crate::analysis::sessions::studied;
    use crate::explain::account;

    #[test]
    fn an_account_for_people() {
        let folder = tempfile::tempdir().unwrap();
        let run = fixture::run(folder.path(), None);
        let sessions = studied(&run.pairs, &run.sessions).unwrap();
        let record = run
            .tests()
            .unwrap()
            .map(Result::unwrap)
            .find(|record| record.observations.len() > 1)
            .unwrap();
        let test = run.plan.iter().find(|test| test.id == record.test).unwrap();
        let session = sessions
            .iter()
            .find(|session| session.record.session == test.session)
            .unwrap();
        let place = session.index_of(&test.point).unwrap();
        let account = account(session, place, &record.observations).unwrap();
        let frequency = Frequency {
            same: 2,
            failing: 3,
            tested: 17,
        };
        insta::assert_snapshot!(render(&account, Some(frequency), 80));
    }
}
