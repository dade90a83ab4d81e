//! Activeness safety: no changed function may be on the stack of any thread of
//! the processes in scope (Ksplice, kpatch, OPUS).

use super::active::{Concern, first_active};
use super::{Decision, PointView, Policy};

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
        first_active(view, |address| {
            let found = view.changed.find(address)?;
            Some((&found.function, Concern::about(found.change)))
        })
        .into()
    }
}
