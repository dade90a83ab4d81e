//! The reference: update at once, wherever the program is.

use super::{Decision, PointView, Policy};

/// Allows every point.
pub struct Any;

impl Policy for Any {
    fn column(&self) -> &'static str {
        "any"
    }

    fn about(&self) -> &'static str {
        "every point"
    }

    fn allows_waits(&self) -> bool {
        true
    }

    fn judge(&self, _: &PointView<'_>) -> Decision {
        Decision::Allowed
    }

    fn decide(&self, view: &PointView<'_>) -> Decision {
        self.judge(view)
    }
}
