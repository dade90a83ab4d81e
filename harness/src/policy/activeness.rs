//! Activeness safety: no changed function may be on the stack of any thread of
//! the processes in scope (Ksplice, kpatch, OPUS).

use super::{
    Change, ChangedFunction, Decision, PointView, Policy, Reason, ReasonKind, frame_number,
    thread_name,
};

/// Allows a point if no changed function is active.
pub struct Activeness;

impl Policy for Activeness {
    fn column(&self) -> &'static str {
        "activeness"
    }

    fn about(&self) -> &'static str {
        "no changed function is on a stack in scope"
    }

    fn allows_waits(&self) -> bool {
        true
    }

    fn judge(&self, view: &PointView<'_>) -> Decision {
        let entered = view
            .entered
            .and_then(|entry| view.changed.find(entry))
            .and_then(entered_counts);
        if let Some(reason) = entered {
            return Decision::Refused(reason);
        }
        let active = view.active_frames().find_map(|(thread, depth, address)| {
            Some((thread, depth, view.changed.find(address)?))
        });
        match active {
            None => Decision::Allowed,
            Some((thread, depth, function)) => {
                Decision::Refused(blocked_by(function, thread, depth))
            }
        }
    }
}

/// The one rule for the function being entered: it counts as active unless the
/// patch redirects it and its prototype is unchanged.
fn entered_counts(function: &ChangedFunction) -> Option<Reason> {
    let name = &function.function.name;
    let (kind, text) = match function.change {
        Change::Redirected {
            prototype_changed: false,
            ..
        } => return None,
        Change::Redirected {
            prototype_changed: true,
            ..
        } => (
            ReasonKind::EnteredPrototypeChanged,
            format!("`{name}` is being entered with arguments of its old prototype"),
        ),
        Change::Deleted => (
            ReasonKind::EnteredDeleted,
            format!("`{name}` is being entered, which the new version does not have"),
        ),
    };
    Some(Reason {
        kind,
        function: name.clone(),
        frame: 0,
        text,
    })
}

fn blocked_by(function: &ChangedFunction, thread: usize, depth: usize) -> Reason {
    let name = &function.function.name;
    let (kind, what) = match function.change {
        Change::Redirected { .. } => (ReasonKind::ChangedOnStack, "changed"),
        Change::Deleted => (ReasonKind::DeletedOnStack, "deleted"),
    };
    Reason {
        kind,
        function: name.clone(),
        frame: frame_number(depth),
        text: format!(
            "{what} function `{name}` is active in frame {depth} of {}",
            thread_name(thread)
        ),
    }
}
