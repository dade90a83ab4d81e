//! A stack with names, and what the update does to its functions.

use serde::Serialize;

use crate::policy::{Change, ChangedRanges, Functions, lookup_address};
use crate::trace::Stack;

/// One frame for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NamedFrame {
    /// 0 the innermost: the function being entered.
    pub depth: u32,
    /// The function of the old program; none for the library's.
    pub function: Option<String>,
    /// Address of entry or return.
    pub address: String,
    /// `changed`, `prototype changed` or `deleted`, if the update does that to it.
    pub change: Option<&'static str>,
}

/// Names the frames of `stack`, innermost first.
#[must_use]
pub fn named(stack: &Stack, functions: &dyn Functions, changed: &ChangedRanges) -> Vec<NamedFrame> {
    stack
        .frames
        .iter()
        .enumerate()
        .map(|(depth, frame)| {
            let inside = lookup_address(*frame, depth);
            NamedFrame {
                depth: u32::try_from(depth).unwrap_or(u32::MAX),
                function: functions.lookup(inside).map(|name| name.name.clone()),
                address: frame.0.to_string(),
                change: changed.find(inside).map(|found| change(&found.change)),
            }
        })
        .collect()
}

/// What an update does to a function, in words.
#[must_use]
pub const fn change(change: &Change) -> &'static str {
    match change {
        Change::Deleted => "deleted",
        Change::Redirected {
            prototype_changed: true,
            ..
        } => "prototype changed",
        Change::Redirected { .. } => "changed",
    }
}

/// The frames, one a line, with `indent` before each.
#[must_use]
pub fn render(frames: &[NamedFrame], indent: &str) -> String {
    frames
        .iter()
        .map(|frame| {
            let name = frame.function.as_deref().unwrap_or("(library)");
            let change = frame
                .change
                .map_or_else(String::new, |change| format!("  [{change}]"));
            format!(
                "{indent}#{:<2} {:<24} {}{change}\n",
                frame.depth, name, frame.address
            )
        })
        .collect()
}
