//! Activeness safety over edited functions only, as tools do that compare
//! sources: a function whose code changed though nobody edited it (a macro, a
//! type or a constant did) is not minded. Unsafe, and in use.

use super::active::{Concern, first_active};
use super::{Decision, PointView, Policy, Reason, ReasonKind};

/// Allows a point if no function whose source text differs is active.
pub struct ActivenessEdited;

impl Policy for ActivenessEdited {
    fn column(&self) -> &'static str {
        "activeness_edited"
    }

    fn about(&self) -> &'static str {
        "no function whose source text differs is on a stack in scope"
    }

    fn allows_waits(&self) -> bool {
        true
    }

    fn judge(&self, view: &PointView<'_>) -> Decision {
        let Some(edited) = view.edited else {
            return Decision::Refused(Reason::not_recorded(
                ReasonKind::EditedNotRecorded,
                "which functions were edited",
            ));
        };
        first_active(view, |address| {
            let found = edited.find(address)?;
            let concern = if found.deleted {
                Concern::Deleted
            } else {
                Concern::Edited
            };
            Some((&found.function, concern))
        })
        .into()
    }
}
