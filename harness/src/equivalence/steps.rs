//! What executes between two points of one thread that follow each other.
//!
//! Every entry of an own function is a point. Between two of them the entered function
//! runs, and frames return to their callers, down to the one that calls the next
//! function; library functions run on behalf of these callers. So the own frames of
//! the later point are those that are left of the earlier one's.

use crate::binary::Address;
use crate::policy::{Change, ChangedRanges, FunctionTable, lookup_address};
use crate::trace::{Stack, Trace};

use super::touches::Touches;

/// One own frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnFrame {
    /// Entry of its function.
    pub function: Address,
    /// Name of its function.
    pub name: String,
    /// Where it goes on; for the innermost, its entry.
    pub at: Address,
    /// Whether the update changes or deletes the function.
    pub changed: bool,
    /// Whether the new version lacks the function.
    pub deleted: bool,
    /// Whether a test follows the frame, its old code being another than the new.
    pub followed: bool,
    /// What state of the update the function touches; empty if none.
    pub touches: String,
}

/// The own frames of a stack, innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnStack {
    /// The frames; the first is that of the function being entered.
    pub frames: Vec<OwnFrame>,
    /// Whether the stack was walked to its bottom.
    pub complete: bool,
}

impl OwnStack {
    /// Takes the own frames of a stack. Frames of libraries are left out: what they do
    /// is done on behalf of the frame below.
    #[must_use]
    pub fn of(
        stack: &Stack,
        functions: &FunctionTable,
        changed: &ChangedRanges,
        touches: &Touches,
    ) -> Self {
        let frames = stack
            .frames
            .iter()
            .enumerate()
            .filter_map(|(depth, frame)| {
                let address = lookup_address(*frame, depth);
                let range = functions.covering(address)?;
                let change = changed.find(address);
                let touched = touches.functions.get(&range.start);
                Some(OwnFrame {
                    function: range.start,
                    name: range.function.name.clone(),
                    at: frame.0,
                    changed: change.is_some(),
                    deleted: change.is_some_and(|c| c.change == Change::Deleted),
                    followed: change.is_some_and(|c| c.change.old_code_differs()),
                    touches: touched.map_or_else(String::new, |names| {
                        names.iter().cloned().collect::<Vec<_>>().join(", ")
                    }),
                })
            });
        Self {
            frames: frames.collect(),
            complete: stack.complete,
        }
    }

    /// The function that is entered.
    #[must_use]
    pub fn entered(&self) -> Option<&OwnFrame> {
        self.frames.first()
    }
}

/// What executes between two points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// Frames that execute: the entered function's first, the next function's direct
    /// caller last.
    pub executing: &'a [OwnFrame],
    /// Those of them that end.
    pub ending: &'a [OwnFrame],
}

/// The step from `from` to `to`.
///
/// # Errors
/// Why it cannot be told what executes.
pub fn step<'a>(from: &'a OwnStack, to: &OwnStack) -> Result<Step<'a>, &'static str> {
    if !from.complete || !to.complete {
        return Err("a stack could not be walked to its bottom");
    }
    let Some((_, left)) = to.frames.split_first() else {
        return Err("a function that is not the program's own was entered");
    };
    let Some(ended) = from.frames.len().checked_sub(left.len()) else {
        return Err("a frame appeared that was never entered");
    };
    let rest = &from.frames[ended..];
    // The innermost frame that is left goes on, and those below still wait.
    let same = rest
        .iter()
        .zip(left)
        .enumerate()
        .all(|(place, (old, now))| {
            old.function == now.function && (place == 0 || old.at == now.at)
        });
    if !same {
        return Err("the frames of the later point are not what the earlier one left");
    }
    let executing = from.frames.len().min(ended + 1);
    Ok(Step {
        executing: &from.frames[..executing],
        ending: &from.frames[..ended],
    })
}

/// Names of the functions that executed between two points of one thread, by their
/// places in the trace, each once.
#[must_use]
pub fn executed_between(
    trace: &Trace,
    functions: &FunctionTable,
    (from, to): (usize, usize),
) -> Vec<String> {
    let (Some(first), Some(points)) = (trace.points.get(from), trace.points.get(from..=to)) else {
        return Vec::new();
    };
    let (unchanged, untouched) = (ChangedRanges::default(), Touches::default());
    let stacks: Vec<OwnStack> = points
        .iter()
        .filter(|point| point.id.role == first.id.role && point.id.thread == first.id.thread)
        .filter_map(|point| trace.stacks.get(usize::try_from(point.stack).ok()?))
        .map(|stack| OwnStack::of(stack, functions, &unchanged, &untouched))
        .collect();
    let mut names: Vec<String> = Vec::new();
    for pair in stacks.windows(2) {
        let Ok(step) = step(&pair[0], &pair[1]) else {
            continue;
        };
        for frame in step.executing {
            if !names.contains(&frame.name) {
                names.push(frame.name.clone());
            }
        }
    }
    names
}
