//! Activeness that tolerates a changed function if everything reachable from its
//! return address is the same in the new version, and uses nothing that changed.
//!
//! The automatic form of the extraction that developers did by hand. Weaker than
//! activeness: a duty that moved into the callee can run twice.

use super::active::entered_reason;
use super::con_free::{not_recorded, use_after};
use super::{Change, Decision, PointView, Policy, Reason, ReasonKind, frame_number, thread_name};
use crate::patch::Rest;

/// Allows a point if the rest of every active changed function is the same in
/// the new version.
pub struct ActivenessRest;

impl Policy for ActivenessRest {
    fn column(&self) -> &'static str {
        "activeness_rest"
    }

    fn about(&self) -> &'static str {
        "what can still run in active changed functions is the same in the new version"
    }

    fn allows_waits(&self) -> bool {
        true
    }

    fn judge(&self, view: &PointView<'_>) -> Decision {
        let entered = view
            .entered
            .and_then(|entry| view.changed.find(entry))
            .and_then(|changed| entered_reason(&changed.function, Some(changed.change)));
        entered
            .or_else(|| {
                view.active_frames().find_map(|(thread, depth, address)| {
                    let changed = view.changed.find(address)?;
                    let name = &changed.function.name;
                    let (kind, why) = if changed.change == Change::Deleted {
                        let why = "is not in the new version".to_owned();
                        (ReasonKind::DeletedOnStack, why)
                    } else {
                        let site = (depth > 0).then(|| address.plus(1));
                        match site.and_then(|site| view.changed.rest(site)) {
                            Some(Rest::Same) => {
                                let site = address.plus(1);
                                let Some(uses) = view.changed.uses() else {
                                    return Some(not_recorded());
                                };
                                (ReasonKind::UsesChangedType, use_after(uses, address, site)?)
                            }
                            Some(Rest::Differs { line }) => (
                                ReasonKind::RestDiffers,
                                format!(
                                    "goes on differently in the new version, from line {line} on"
                                ),
                            ),
                            Some(Rest::NoCounterpart) => (
                                ReasonKind::RestDiffers,
                                "waits in a call that the new version does not make".to_owned(),
                            ),
                            None => (
                                ReasonKind::RestDiffers,
                                "is somewhere that could not be compared".to_owned(),
                            ),
                        }
                    };
                    Some(Reason {
                        kind,
                        function: name.clone(),
                        frame: frame_number(depth),
                        text: format!(
                            "`{name}`, active in frame {depth} of {}, {why}",
                            thread_name(thread)
                        ),
                    })
                })
            })
            .into()
    }
}
