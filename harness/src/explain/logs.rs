//! The logs of tests that did not pass: what to read first when one wonders why.

use std::fmt::Write as _;

use super::account::{Account, RunAccount};
use super::causes::{Cause, Frequency};
use super::exchanges::label;
use super::text;
use super::{WIDTH, stack};
use crate::analysis::StudiedSession;
use crate::study::session::SessionFacts;
use crate::verdict::Observation;

/// Most folders for tests of one pair, verdict and cause.
pub const MOST_PER_CAUSE: usize = 3;
/// Most folders of a run.
pub const MOST_FOLDERS: usize = 300;

/// A file of a test's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// Its name.
    pub name: &'static str,
    /// Its content.
    pub text: String,
}

/// The files of one test: what `kairos explain` prints, the server's output, the
/// replies of the whole session in columns, where it faulted, and the stack at the
/// update point.
#[must_use]
pub fn files(
    studied: &StudiedSession<'_>,
    account: &Account,
    seen: &Observation,
    frequency: Option<Frequency>,
) -> Vec<LogFile> {
    let mut files = vec![
        LogFile {
            name: "explain.txt",
            text: text::render(account, frequency, WIDTH),
        },
        LogFile {
            name: "replies.txt",
            text: replies(studied, account, seen),
        },
        LogFile {
            name: "stack.txt",
            text: stack::render(&account.stack, ""),
        },
    ];
    if !seen.output.is_empty() {
        files.push(LogFile {
            name: "output.txt",
            text: output(seen),
        });
    }
    if let Some(run) = account.runs.first()
        && run.processes.iter().any(|process| process.fault.is_some())
    {
        files.push(LogFile {
            name: "fault.txt",
            text: faults(run),
        });
    }
    files
}

/// All exchanges in columns, then the files that differ.
fn replies(studied: &StudiedSession<'_>, account: &Account, seen: &Observation) -> String {
    let record = studied.record;
    let facts = SessionFacts::of(record);
    let expected = facts.expected(record);
    let mut text = String::new();
    let count = expected
        .old
        .exchanges
        .len()
        .max(expected.new.exchanges.len())
        .max(seen.exchanges.len());
    for index in 0..count {
        let Ok(number) = u32::try_from(index) else {
            break;
        };
        let columns = super::exchanges::columns(&expected, seen, number, true);
        if columns.is_empty() {
            continue;
        }
        let here = if account.point.exchange == Some(number) {
            "  (the update is here)"
        } else {
            ""
        };
        _ = writeln!(
            text,
            "== exchange {number}: {}{here}",
            label(&record.trace, index)
        );
        for columns in columns {
            text.push_str(&columns.render(WIDTH));
        }
        text.push('\n');
    }
    for columns in super::exchanges::files(&expected, seen) {
        text.push_str(&columns.render(WIDTH));
    }
    text
}

fn output(seen: &Observation) -> String {
    let mut text = String::new();
    for (name, printed) in &seen.output {
        _ = writeln!(text, "== {name} (its end)");
        text.push_str(printed);
        if !printed.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

fn faults(run: &RunAccount) -> String {
    let mut text = String::new();
    for process in &run.processes {
        let Some(fault) = &process.fault else {
            continue;
        };
        _ = writeln!(
            text,
            "{} {} in exchange {}\nrip {} in {}",
            process.role, process.ending, process.ended_in, fault.address, fault.function
        );
        for (depth, function) in fault.stack.iter().enumerate() {
            _ = writeln!(text, "#{depth:<2} {function}");
        }
        text.push('\n');
    }
    text
}

/// What `logs/README.txt` says: which tests have a folder and how many do not.
#[must_use]
pub fn readme(causes: &[Cause], written: usize) -> String {
    let all: u64 = causes.iter().map(|cause| cause.tests).sum();
    let written = u64::try_from(written).unwrap_or(u64::MAX);
    let mut text = format!(
        "Tests that failed, were flaky, or could not be applied or found: {all}.\n\
         {written} of them have a folder here, the first {MOST_PER_CAUSE} of each pair, verdict and cause\n\
         and at most {MOST_FOLDERS} of a run; {} are left out.\n\
         `kairos explain RUN TEST` tells the same of any test, from the records.\n\
         `kairos report RUN` makes this folder again.\n\n",
        all.saturating_sub(written)
    );
    for cause in causes {
        _ = writeln!(
            text,
            "{:>7}  {}: {} {}",
            cause.tests, cause.pair, cause.verdict, cause.cause
        );
    }
    text
}
