//! A test exchange by exchange: which version each looks like.

use serde::Serialize;

use super::columns::Columns;
use crate::trace::{PointId, Trace};
use crate::verdict::observation::SeenExchange;
use crate::verdict::text::{Likeness, likeness};
use crate::verdict::{Expected, Finding, Observation};

/// Where an exchange stands to the update.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Moment {
    /// The update came later.
    Before,
    /// The update came during it.
    At,
    /// The update had been applied.
    After,
}

/// One exchange of a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExchangeLine {
    /// Its number.
    pub number: u32,
    /// Its label in the script; that of the ordinary stop is `stop`.
    pub label: String,
    /// Whether it belongs to the probe session or the stop.
    pub behind_session: bool,
    /// Where it stands to the update.
    pub moment: Moment,
    /// Which version the replies look like; none if it was not played to its end.
    pub replies: Option<Likeness>,
    /// Which version the logs look like; none if it was not played to its end.
    pub logs: Option<Likeness>,
    /// Whether an old frame of a changed function ran during it.
    pub old_frame: bool,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

/// All exchanges of an observation.
#[must_use]
pub fn lines(
    expected: &Expected<'_>,
    trace: &Trace,
    point: &PointId,
    seen: &Observation,
    findings: &[Finding],
) -> Vec<ExchangeLine> {
    let count = expected
        .old
        .exchanges
        .len()
        .max(expected.new.exchanges.len())
        .max(seen.exchanges.len());
    let empty = SeenExchange::default();
    (0..count)
        .map(|index| {
            let number = u32::try_from(index).unwrap_or(u32::MAX);
            let played = seen
                .stall
                .as_ref()
                .is_none_or(|stall| number < stall.exchange);
            let old = expected.old.exchanges.get(index).unwrap_or(&empty);
            let now = seen.exchanges.get(index).unwrap_or(&empty);
            let new = expected.new_exchange(number, now);
            ExchangeLine {
                number,
                label: label(trace, index),
                behind_session: number >= seen.session_exchanges,
                moment: match point.exchange {
                    Some(at) if number < at => Moment::Before,
                    Some(at) if number == at => Moment::At,
                    _ => Moment::After,
                },
                replies: played.then(|| likeness(&old.replies, &new.replies, &now.replies)),
                logs: played.then(|| likeness(&old.logs, &new.logs, &now.logs)),
                old_frame: seen.old_frame_exchanges.contains(&number),
                findings: findings
                    .iter()
                    .filter(|finding| finding.exchange == Some(number))
                    .cloned()
                    .collect(),
            }
        })
        .collect()
}

/// The label of an exchange of session, probe or stop.
#[must_use]
pub fn label(trace: &Trace, index: usize) -> String {
    trace
        .exchanges
        .iter()
        .chain(&trace.probe)
        .nth(index)
        .map_or_else(|| "stop".to_owned(), |exchange| exchange.label.clone())
}

/// Replies and logs of one exchange in columns; with `all` also those that are the
/// same in both versions and in the test.
#[must_use]
pub fn columns(
    expected: &Expected<'_>,
    seen: &Observation,
    number: u32,
    all: bool,
) -> Vec<Columns> {
    let empty = SeenExchange::default();
    let at = |observation: &Observation| -> SeenExchange {
        usize::try_from(number)
            .ok()
            .and_then(|index| observation.exchanges.get(index))
            .unwrap_or(&empty)
            .clone()
    };
    let (old, now) = (at(expected.old), at(seen));
    let new = expected.new_exchange(number, &now);
    let replies = beside("replies on", [&old.replies, &new.replies, &now.replies]);
    let logs = beside("log", [&old.logs, &new.logs, &now.logs]);
    replies
        .into_iter()
        .chain(logs)
        .filter(|columns| all || !columns.agree())
        .collect()
}

/// Files of the end state in columns, those that differ.
#[must_use]
pub fn files(expected: &Expected<'_>, seen: &Observation) -> Vec<Columns> {
    beside(
        "file",
        [&expected.old.files, &expected.new.files, &seen.files],
    )
    .into_iter()
    .filter(|columns| !columns.agree())
    .collect()
}

fn beside(what: &str, texts: [&std::collections::BTreeMap<String, String>; 3]) -> Vec<Columns> {
    let names: std::collections::BTreeSet<&String> =
        texts.iter().flat_map(|texts| texts.keys()).collect();
    names
        .into_iter()
        .map(|name| {
            let [old, new, seen] = texts.map(|texts| texts.get(name).map_or("", String::as_str));
            Columns::of(format!("{what} {name}"), old, new, seen)
        })
        .collect()
}
