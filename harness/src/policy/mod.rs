//! Policies decide whether an update may be applied at a point. Each is a pure
//! function of the patch and of the stacks at the point, so that one traced run
//! serves them all and comparing them needs no rerun.

pub mod active;
pub mod activeness;
pub mod activeness_conservative;
pub mod activeness_edited;
pub mod activeness_except_named;
pub mod activeness_rest;
pub mod any;
pub mod con_free;
pub mod evaluate;
pub mod functions;
pub mod manual;
pub mod ranges;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use evaluate::{Evaluation, Evaluator};
pub use functions::{FunctionRange, FunctionTable, Functions};
pub use manual::ManualPoint;
pub use ranges::{Change, ChangedFunction, ChangedRanges, DEFINITION_OF_CHANGED, EditedRanges};

use crate::binary::Address;
use crate::trace::{Frame, Stack};

/// A rule that allows or refuses an update at a point.
pub trait Policy: Sync {
    /// The column in files, and the name in tables.
    fn column(&self) -> &'static str;

    /// One line for a person: what the policy allows.
    fn about(&self) -> &'static str;

    /// Whether a thread that waits inside the library can be where the policy
    /// allows an update. Where not, waits do not shorten its delay.
    fn allows_waits(&self) -> bool;

    /// Decides for one point whose stacks are all complete.
    fn judge(&self, view: &PointView<'_>) -> Decision;

    /// Decides for one point. An incomplete stack refuses: what cannot be seen
    /// might be active.
    fn decide(&self, view: &PointView<'_>) -> Decision {
        match view.incomplete_stack() {
            Some(reason) => Decision::Refused(reason),
            None => self.judge(view),
        }
    }
}

/// The policies under comparison; every one has a column in every table.
pub static REGISTRY: [&dyn Policy; 8] = [
    &activeness::Activeness,
    &activeness_edited::ActivenessEdited,
    &activeness_conservative::ActivenessConservative,
    &activeness_except_named::ActivenessExceptNamed,
    &activeness_rest::ActivenessRest,
    &con_free::BY_TYPE,
    &con_free::BY_MEMBER,
    &manual::Manual,
];

/// The reference that allows every point: a row in summaries, never a column.
pub static ANY: &dyn Policy = &any::Any;

/// Column names of the registry, in order.
pub fn columns() -> impl Iterator<Item = &'static str> {
    REGISTRY.iter().map(|policy| policy.column())
}

/// `any` and then the registry, in order: the rows of summaries.
pub fn with_any() -> impl Iterator<Item = &'static dyn Policy> {
    std::iter::once(ANY).chain(REGISTRY)
}

/// What a policy says of a point.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum Decision {
    /// The update may be applied here.
    Allowed,
    /// It may not, because of this.
    Refused(Reason),
}

impl Decision {
    /// Whether the update may be applied.
    #[must_use]
    pub const fn is_allowed(&self) -> bool {
        matches!(self, Self::Allowed)
    }

    /// `allowed` or `refused`, as columns hold it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Refused(_) => "refused",
        }
    }
}

/// Refused where there is a reason.
impl From<Option<Reason>> for Decision {
    fn from(reason: Option<Reason>) -> Self {
        reason.map_or(Self::Allowed, Self::Refused)
    }
}

/// Kinds of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReasonKind {
    /// A stack in scope could not be unwound to its bottom.
    IncompleteStack,
    /// The function being entered is gone in the new version.
    EnteredDeleted,
    /// The function being entered has another prototype in the new version.
    EnteredPrototypeChanged,
    /// The function being entered was edited, but the patch does not redirect it.
    EnteredNotRedirected,
    /// A changed function is active.
    ChangedOnStack,
    /// A deleted function is active.
    DeletedOnStack,
    /// An edited function is active.
    EditedOnStack,
    /// A word of a stack points into a changed function.
    WordIntoChanged,
    /// A word of a stack points into a deleted function.
    WordIntoDeleted,
    /// The run did not record which functions were edited.
    EditedNotRecorded,
    /// The run did not record the words of the stacks.
    WordsNotRecorded,
    /// The run did not record which functions the manifest names.
    NamesNotRecorded,
    /// The rest of an active changed function differs in the new version.
    RestDiffers,
    /// An active frame can still use a changed type.
    UsesChangedType,
    /// An active frame can still use a changed global.
    UsesChangedGlobal,
    /// An active frame can still call a function that is gone or whose prototype
    /// changed.
    CallsChanged,
    /// An active frame can still use a changed enumerator.
    NamesChangedEnumerator,
    /// Nothing is known of what an active frame can still use.
    UsesUnknown,
    /// The manifest names no point for this role.
    NoManualPointForRole,
    /// The function being entered is not one that the manifest names.
    NotManualEntry,
    /// It is one, but was called from elsewhere.
    NotManualLoop,
}

impl ReasonKind {
    /// The name in files and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::IncompleteStack => "incomplete-stack",
            Self::EnteredDeleted => "entered-deleted",
            Self::EnteredPrototypeChanged => "entered-prototype-changed",
            Self::EnteredNotRedirected => "entered-not-redirected",
            Self::ChangedOnStack => "changed-on-stack",
            Self::DeletedOnStack => "deleted-on-stack",
            Self::EditedOnStack => "edited-on-stack",
            Self::WordIntoChanged => "word-into-changed",
            Self::WordIntoDeleted => "word-into-deleted",
            Self::EditedNotRecorded => "edited-not-recorded",
            Self::WordsNotRecorded => "words-not-recorded",
            Self::NamesNotRecorded => "names-not-recorded",
            Self::RestDiffers => "rest-differs",
            Self::UsesChangedType => "uses-changed-type",
            Self::UsesChangedGlobal => "uses-changed-global",
            Self::CallsChanged => "calls-changed",
            Self::NamesChangedEnumerator => "names-changed-enumerator",
            Self::UsesUnknown => "uses-unknown",
            Self::NoManualPointForRole => "no-manual-point-for-role",
            Self::NotManualEntry => "not-manual-entry",
            Self::NotManualLoop => "not-manual-loop",
        }
    }
}

/// Why a policy refuses a point.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reason {
    /// Kind.
    pub kind: ReasonKind,
    /// The function that blocks the update; empty where none is known.
    pub function: String,
    /// Its frame, 0 the innermost.
    pub frame: u32,
    /// The whole reason for a person.
    pub text: String,
}

impl Reason {
    /// For a run that is older than the policy.
    fn not_recorded(kind: ReasonKind, what: &str) -> Self {
        Self {
            kind,
            function: String::new(),
            frame: 0,
            text: format!("not recorded: the run does not say {what}"),
        }
    }
}

/// Decisions of one point, by column.
pub type Decisions = BTreeMap<String, Decision>;

/// What a policy may look at: the patch and the state of the processes in scope
/// at one point, never a live process.
#[derive(Clone, Copy)]
pub struct PointView<'a> {
    /// What the patch changes, by address of the old program.
    pub changed: &'a ChangedRanges,
    /// Functions whose source text differs, by address of the old program; none
    /// where the run did not record them.
    pub edited: Option<&'a EditedRanges>,
    /// Points that the subject's manifest names.
    pub manual: &'a [ManualPoint],
    /// Functions that the manifest lets be active; none where the run did not
    /// record them.
    pub except_named: Option<&'a [String]>,
    /// Functions of the old program.
    pub functions: &'a dyn Functions,
    /// Role of the process that reached the point.
    pub role: &'a str,
    /// Entry of the function being entered; none for a thread that waits.
    pub entered: Option<Address>,
    /// Stacks of the threads in scope, the entering thread's first.
    pub stacks: &'a [&'a Stack],
    /// Entries of the own functions that some word of those stacks points into;
    /// none where the run did not record them.
    pub words: Option<&'a [Address]>,
}

impl<'a> PointView<'a> {
    /// The reason to refuse if a stack in scope was not unwound to its bottom.
    #[must_use]
    pub fn incomplete_stack(&self) -> Option<Reason> {
        let incomplete = match self.stacks {
            [] => return Some(self.incomplete(0, 0)),
            stacks => stacks
                .iter()
                .position(|stack| !stack.complete || stack.frames.is_empty())?,
        };
        let depth = self.stacks[incomplete].frames.len().saturating_sub(1);
        Some(self.incomplete(incomplete, depth))
    }

    fn incomplete(&self, thread: usize, depth: usize) -> Reason {
        let function = self
            .stacks
            .get(thread)
            .and_then(|stack| stack.frames.get(depth))
            .and_then(|frame| self.functions.lookup(lookup_address(*frame, depth)))
            .map(|name| name.name.clone())
            .unwrap_or_default();
        Reason {
            kind: ReasonKind::IncompleteStack,
            text: format!(
                "the stack of {} could not be followed beyond frame {depth}",
                thread_name(thread)
            ),
            function,
            frame: frame_number(depth),
        }
    }

    /// Every active frame of the threads in scope as `(thread, depth, address)`,
    /// the address lying inside the active function. The function being entered
    /// is not among them: whether it counts depends on the patch.
    pub fn active_frames(&self) -> impl Iterator<Item = (usize, usize, Address)> + 'a {
        let entered = self.entered.is_some();
        self.stacks
            .iter()
            .enumerate()
            .flat_map(move |(thread, stack)| {
                stack
                    .frames
                    .iter()
                    .enumerate()
                    .skip(usize::from(entered && thread == 0))
                    .map(move |(depth, frame)| (thread, depth, lookup_address(*frame, depth)))
            })
    }

    /// The old program's function at `depth` of the first thread.
    #[must_use]
    pub fn function_at(&self, depth: usize) -> Option<&'a str> {
        let frame = self.stacks.first()?.frames.get(depth)?;
        let name = self.functions.lookup(lookup_address(*frame, depth))?;
        Some(name.name.as_str())
    }
}

/// The address by which a frame's function is found. Frames after the first are
/// return addresses, which may lie behind the end of a function whose last
/// instruction is a call that does not return.
#[must_use]
pub fn lookup_address(frame: Frame, depth: usize) -> Address {
    if depth == 0 {
        frame.0
    } else {
        Address(frame.0.0.wrapping_sub(1))
    }
}

fn thread_name(thread: usize) -> String {
    if thread == 0 {
        "the entering thread".to_owned()
    } else {
        format!("another thread in scope ({thread})")
    }
}

fn frame_number(depth: usize) -> u32 {
    u32::try_from(depth).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
