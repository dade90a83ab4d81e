//! Activeness safety without trust in unwinding: every word of the stacks in
//! scope is taken for a return address (Ksplice, Arnold and Kaashoek 2009).

use super::active::Concern;
use super::activeness::Activeness;
use super::{Decision, PointView, Policy, Reason, ReasonKind};

/// Allows a point if no changed function is active and no word of the stacks
/// points into one.
pub struct ActivenessConservative;

impl Policy for ActivenessConservative {
    fn column(&self) -> &'static str {
        "activeness_conservative"
    }

    fn about(&self) -> &'static str {
        "no word of a stack in scope points into a changed function"
    }

    fn allows_waits(&self) -> bool {
        true
    }

    fn judge(&self, view: &PointView<'_>) -> Decision {
        let Some(words) = view.words else {
            return Decision::Refused(Reason::not_recorded(
                ReasonKind::WordsNotRecorded,
                "where the words of the stacks point",
            ));
        };
        // Return addresses are words too. Unwinding also finds the function whose
        // last instruction is a call, which the word lies just behind.
        let active = Activeness.judge(view);
        if !active.is_allowed() {
            return active;
        }
        words
            .iter()
            .find_map(|word| view.changed.find(*word))
            .map(|found| {
                let name = &found.function.name;
                let (kind, what) = match Concern::about(found.change) {
                    Concern::Deleted => (ReasonKind::WordIntoDeleted, "deleted"),
                    _ => (ReasonKind::WordIntoChanged, "changed"),
                };
                Reason {
                    kind,
                    function: name.clone(),
                    frame: 0,
                    text: format!(
                        "a word of a stack in scope points into {what} function `{name}`, which \
                         no frame has active"
                    ),
                }
            })
            .into()
    }
}
