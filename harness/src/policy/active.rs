//! The search that all forms of activeness share: the first active function that
//! a policy minds.

use super::{Change, PointView, Reason, ReasonKind, frame_number, thread_name};
use crate::binary::Address;
use crate::patch::FunctionName;

/// What a policy minds about an active function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concern {
    /// The update changes it.
    Changed,
    /// The new version does not have it.
    Deleted,
    /// Its source text differs.
    Edited,
}

impl Concern {
    /// The concern about a function that an update changes.
    #[must_use]
    pub const fn about(change: Change) -> Self {
        match change {
            Change::Redirected { .. } => Self::Changed,
            Change::Deleted => Self::Deleted,
        }
    }

    const fn on_stack(self) -> (ReasonKind, &'static str) {
        match self {
            Self::Changed => (ReasonKind::ChangedOnStack, "changed"),
            Self::Deleted => (ReasonKind::DeletedOnStack, "deleted"),
            Self::Edited => (ReasonKind::EditedOnStack, "edited"),
        }
    }
}

/// The reason to refuse if a function that `minds` has something against is
/// active in a thread in scope; `minds` is asked about addresses.
///
/// The one rule for the function being entered: it counts as active unless the
/// patch redirects it and its prototype is unchanged.
pub fn first_active<'f>(
    view: &PointView<'_>,
    minds: impl Fn(Address) -> Option<(&'f FunctionName, Concern)>,
) -> Option<Reason> {
    entered(view, &minds).or_else(|| {
        view.active_frames().find_map(|(thread, depth, address)| {
            let (function, concern) = minds(address)?;
            let (kind, what) = concern.on_stack();
            let name = &function.name;
            Some(Reason {
                kind,
                function: name.clone(),
                frame: frame_number(depth),
                text: format!(
                    "{what} function `{name}` is active in frame {depth} of {}",
                    thread_name(thread)
                ),
            })
        })
    })
}

fn entered<'f>(
    view: &PointView<'_>,
    minds: impl Fn(Address) -> Option<(&'f FunctionName, Concern)>,
) -> Option<Reason> {
    let entry = view.entered?;
    let change = view.changed.find(entry).map(|function| function.change);
    let redirected = matches!(
        change,
        Some(Change::Redirected {
            prototype_changed: false,
            ..
        })
    );
    if redirected {
        return None;
    }
    let (function, _) = minds(entry)?;
    entered_reason(function, change)
}

/// The one rule for the function being entered: none to refuse where the patch
/// redirects it and its prototype is unchanged.
pub(super) fn entered_reason(function: &FunctionName, change: Option<Change>) -> Option<Reason> {
    let name = &function.name;
    let (kind, text) = match change {
        Some(Change::Redirected {
            prototype_changed: false,
            ..
        }) => return None,
        Some(Change::Redirected { .. }) => (
            ReasonKind::EnteredPrototypeChanged,
            format!("`{name}` is being entered with arguments of its old prototype"),
        ),
        Some(Change::Deleted) => (
            ReasonKind::EnteredDeleted,
            format!("`{name}` is being entered, which the new version does not have"),
        ),
        None => (
            ReasonKind::EnteredNotRedirected,
            format!("`{name}` is being entered, whose text differs but which is not redirected"),
        ),
    };
    Some(Reason {
        kind,
        function: name.clone(),
        frame: 0,
        text,
    })
}
