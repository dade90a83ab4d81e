//! Activeness safety that ignores functions which the manifest names: those that
//! never return, such as `main`, would make an update wait for ever (kpatch's
//! `KPATCH_FORCE_UNSAFE`). Unsafe, and in use.

use super::active::{Concern, first_active};
use super::{Decision, PointView, Policy, Reason, ReasonKind};

/// Allows a point if no changed function but those named is active.
pub struct ActivenessExceptNamed;

impl Policy for ActivenessExceptNamed {
    fn column(&self) -> &'static str {
        "activeness_except_named"
    }

    fn about(&self) -> &'static str {
        "no changed function but those that the manifest names is on a stack in scope"
    }

    fn allows_waits(&self) -> bool {
        true
    }

    fn judge(&self, view: &PointView<'_>) -> Decision {
        let Some(named) = view.except_named else {
            return Decision::Refused(Reason::not_recorded(
                ReasonKind::NamesNotRecorded,
                "which functions the manifest names",
            ));
        };
        first_active(view, |address| {
            let found = view.changed.find(address)?;
            let ignored = named.contains(&found.function.name);
            (!ignored).then(|| (&found.function, Concern::about(found.change)))
        })
        .into()
    }
}
