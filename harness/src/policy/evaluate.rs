//! All policies on all points of a trace.

use std::collections::HashMap;

use super::{
    ChangedRanges, Decision, Decisions, EditedRanges, FunctionTable, ManualPoint, PointView,
    REGISTRY,
};
use crate::binary::Address;
use crate::patch::Patch;
use crate::policy::Functions;
use crate::trace::{Point, Stack, Trace};

/// Evaluates the registry for one patch; reused for every trace of its pair.
pub struct Evaluator<'a> {
    changed: ChangedRanges,
    edited: Option<EditedRanges>,
    functions: &'a FunctionTable,
    manual: &'a [ManualPoint],
    except_named: Option<&'a [String]>,
}

impl<'a> Evaluator<'a> {
    /// Prepares the patch's address ranges. `manual` and `except_named` are what
    /// the manifest names; the latter is none in runs that did not record it.
    #[must_use]
    pub fn new(
        patch: &Patch,
        functions: &'a FunctionTable,
        manual: &'a [ManualPoint],
        except_named: Option<&'a [String]>,
    ) -> Self {
        Self {
            changed: ChangedRanges::of(patch),
            edited: EditedRanges::of(patch),
            functions,
            manual,
            except_named,
        }
    }

    /// What the patch changes.
    #[must_use]
    pub const fn changed(&self) -> &ChangedRanges {
        &self.changed
    }

    /// What policies see of a process in this state.
    #[must_use]
    pub fn view<'v>(
        &'v self,
        role: &'v str,
        entered: Option<Address>,
        stacks: &'v [&'v Stack],
        words: Option<&'v [Address]>,
    ) -> PointView<'v> {
        PointView {
            changed: &self.changed,
            edited: self.edited.as_ref(),
            manual: self.manual,
            except_named: self.except_named,
            functions: self.functions,
            role,
            entered,
            stacks,
            words,
        }
    }

    /// Decisions of the registry for one state.
    #[must_use]
    pub fn decide(
        &self,
        role: &str,
        entered: Option<Address>,
        stacks: &[&Stack],
        words: Option<&[Address]>,
    ) -> Decisions {
        let view = self.view(role, entered, stacks, words);
        REGISTRY
            .iter()
            .map(|policy| (policy.column().to_owned(), policy.decide(&view)))
            .collect()
    }

    /// Name of the function entered at a point; its address where it has none.
    #[must_use]
    pub fn function_entered(&self, point: &Point) -> String {
        self.functions.lookup(point.function).map_or_else(
            || point.function.to_string(),
            |function| function.name.clone(),
        )
    }

    /// Whether the point's function and direct caller are those of a manual
    /// point, in whatever role.
    #[must_use]
    pub fn is_loop_head(&self, point: &Point, trace: &Trace) -> bool {
        let stacks = stacks_of(trace, point.stack, &[]);
        let view = self.view(&point.id.role.role, Some(point.function), &stacks, None);
        let (entered, caller) = (view.function_at(0), view.function_at(1));
        self.manual
            .iter()
            .any(|manual| manual.is_head(entered, caller))
    }

    /// Decisions for every point and wait of `trace`. Points in the same state
    /// share one set of decisions.
    #[must_use]
    pub fn evaluate<'t>(&self, trace: &'t Trace) -> Evaluation {
        let mut evaluation = Evaluation::default();
        let mut known: HashMap<State<'t>, u32> = HashMap::new();
        let distinct = &mut evaluation.distinct;
        let mut number = |state: State<'t>| {
            *known.entry(state).or_insert_with(|| {
                let stacks = stacks_of(trace, state.stack, state.others);
                let words = words_of(trace, state.words);
                distinct.push(self.decide(state.role, state.entered, &stacks, words));
                u32::try_from(distinct.len() - 1).unwrap_or(u32::MAX)
            })
        };
        let of_point = trace.points.iter().map(|point| State {
            role: &point.id.role.role,
            entered: Some(point.function),
            stack: point.stack,
            others: &point.other_stacks,
            words: point.words,
        });
        evaluation.of_point = of_point.map(&mut number).collect();
        let of_wait = trace.waits.iter().map(|wait| State {
            role: &wait.role.role,
            entered: None,
            stack: wait.stack,
            others: &wait.other_stacks,
            words: wait.words,
        });
        evaluation.of_wait = of_wait.map(&mut number).collect();
        evaluation
    }
}

/// All that decisions depend on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct State<'t> {
    role: &'t str,
    entered: Option<Address>,
    stack: u32,
    others: &'t [u32],
    words: Option<u32>,
}

/// Stacks by index; an index that the trace lacks counts as incomplete, so that
/// it refuses.
fn stacks_of<'t>(trace: &'t Trace, stack: u32, others: &[u32]) -> Vec<&'t Stack> {
    static MISSING: Stack = Stack {
        frames: Vec::new(),
        complete: false,
    };
    std::iter::once(&stack)
        .chain(others)
        .map(|index| {
            usize::try_from(*index)
                .ok()
                .and_then(|index| trace.stacks.get(index))
                .unwrap_or(&MISSING)
        })
        .collect()
}

/// A set of words by index; one that the trace lacks counts as not recorded, so
/// that it refuses.
fn words_of(trace: &Trace, words: Option<u32>) -> Option<&[Address]> {
    let index = usize::try_from(words?).ok()?;
    trace.word_sets.get(index).map(Vec::as_slice)
}

/// Decisions of the registry over a trace.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    distinct: Vec<Decisions>,
    of_point: Vec<u32>,
    of_wait: Vec<u32>,
}

impl Evaluation {
    /// Decisions for the trace's `index`-th point; none beyond its end.
    #[must_use]
    pub fn of_point(&self, index: usize) -> Option<&Decisions> {
        self.distinct
            .get(usize::try_from(*self.of_point.get(index)?).ok()?)
    }

    /// Decisions for the trace's `index`-th wait; none beyond its end.
    #[must_use]
    pub fn of_wait(&self, index: usize) -> Option<&Decisions> {
        self.distinct
            .get(usize::try_from(*self.of_wait.get(index)?).ok()?)
    }

    /// Whether the policy of that column allows the `index`-th point; `any` does.
    #[must_use]
    pub fn allows_point(&self, index: usize, column: &str) -> bool {
        allows(self.of_point(index), column)
    }

    /// Whether the policy of that column allows the `index`-th wait; `any` does.
    #[must_use]
    pub fn allows_wait(&self, index: usize, column: &str) -> bool {
        allows(self.of_wait(index), column)
    }
}

fn allows(decisions: Option<&Decisions>, column: &str) -> bool {
    decisions.is_some_and(|decisions| {
        column == super::ANY.column() || decisions.get(column).is_some_and(Decision::is_allowed)
    })
}
