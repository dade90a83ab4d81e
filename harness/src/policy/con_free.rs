//! Con-freeness: no active old frame will, after the point, use a changed type
//! concretely, touch a changed global, or call a function whose prototype
//! changed or that was deleted (Stoyle et al. 2005, Ginseng 2006).
//!
//! The conservative form: what may follow is all that the machine code can reach
//! from the return address.

use super::active::entered_reason;
use super::{Decision, PointView, Policy, Reason, ReasonKind, frame_number, thread_name};
use crate::binary::Address;
use crate::confree::{Use, UseKind, UseTable};

/// Which uses of an active function count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grain {
    /// All of it.
    Function,
    /// Those that can follow its return address.
    Site,
}

/// Con-freeness in one of its forms.
pub struct ConFree {
    column: &'static str,
    about: &'static str,
    grain: Grain,
    by_member: bool,
}

/// By types: any use of a changed type refuses.
pub static BY_TYPE: ConFree = ConFree {
    column: "con_free",
    about: "no active frame will use a changed type, global or prototype",
    grain: Grain::Site,
    by_member: false,
};

/// By members: of a changed record only uses of changed members refuse, and those
/// that depend on a size that changed. Sound only where objects stay where they
/// lie.
pub static BY_MEMBER: ConFree = ConFree {
    column: "con_free_field",
    about: "no active frame will use a changed member, global or prototype (objects must stay where they lie)",
    grain: Grain::Site,
    by_member: true,
};

/// By types and whole functions, whatever can still follow: no column of its
/// own, but what lies between activeness and con-freeness.
pub static COARSE: ConFree = ConFree {
    column: "con_free_coarse",
    about: "no active function uses a changed type, global or prototype anywhere",
    grain: Grain::Function,
    by_member: false,
};

impl Policy for ConFree {
    fn column(&self) -> &'static str {
        self.column
    }

    fn about(&self) -> &'static str {
        self.about
    }

    fn allows_waits(&self) -> bool {
        true
    }

    fn judge(&self, view: &PointView<'_>) -> Decision {
        let Some(uses) = view.changed.uses() else {
            return Decision::Refused(not_recorded());
        };
        self.entered(view, uses)
            .or_else(|| {
                view.active_frames().find_map(|(thread, depth, address)| {
                    let entry = uses.covering(address)?;
                    let site = (depth > 0).then(|| address.plus(1));
                    self.refusal(view, uses, entry, site)
                        .map(|(kind, text)| named(view, address, thread, depth, kind, &text))
                })
            })
            .into()
    }
}

/// The refusal where a run did not record uses.
pub(super) fn not_recorded() -> Reason {
    Reason {
        kind: ReasonKind::UsesUnknown,
        function: String::new(),
        frame: 0,
        text: "this run did not record what old code uses of what changes".to_owned(),
    }
}

fn named(
    view: &PointView<'_>,
    address: Address,
    thread: usize,
    depth: usize,
    kind: ReasonKind,
    text: &str,
) -> Reason {
    let function = view.functions.lookup(address).map(|name| name.name.clone());
    let function = function.unwrap_or_default();
    Reason {
        kind,
        frame: frame_number(depth),
        text: format!(
            "`{function}`, active in frame {depth} of {}, {text}",
            thread_name(thread)
        ),
        function,
    }
}

impl ConFree {
    /// The function being entered: by the one rule for all, and what an unchanged
    /// one uses.
    fn entered(&self, view: &PointView<'_>, uses: &UseTable) -> Option<Reason> {
        let entry = view.entered?;
        if let Some(changed) = view.changed.find(entry) {
            return entered_reason(&changed.function, Some(changed.change));
        }
        let listed = uses.covering(entry)?;
        let (kind, text) = self.refusal(view, uses, listed, None)?;
        Some(named(view, entry, 0, 0, kind, &text))
    }

    /// Why a frame of the listed function at `entry` refuses; with a return
    /// address only what can follow counts.
    fn refusal(
        &self,
        _view: &PointView<'_>,
        uses: &UseTable,
        entry: Address,
        site: Option<Address>,
    ) -> Option<(ReasonKind, String)> {
        if let Some(why) = uses.unknown(entry) {
            return Some((ReasonKind::UsesUnknown, format!("may use anything: {why}")));
        }
        let counts = |what: &&Use| !self.by_member || what.by_member;
        let first = match (self.grain, site) {
            (Grain::Site, Some(site)) => uses.after(entry, site).find(counts),
            _ => uses.of_function(entry).find(counts),
        };
        first.map(|what| (kind_of(what.kind), format!("still {}", what.text())))
    }
}

const fn kind_of(kind: UseKind) -> ReasonKind {
    match kind {
        UseKind::Global => ReasonKind::UsesChangedGlobal,
        UseKind::Function | UseKind::IndirectCall => ReasonKind::CallsChanged,
        UseKind::Enumerator => ReasonKind::NamesChangedEnumerator,
        _ => ReasonKind::UsesChangedType,
    }
}

/// The first use that can follow in a frame, if any.
pub(super) fn use_after(uses: &UseTable, address: Address, site: Address) -> Option<String> {
    let entry = uses.covering(address)?;
    if let Some(why) = uses.unknown(entry) {
        return Some(format!("may use anything: {why}"));
    }
    let first = uses.after(entry, site).next();
    first.map(|what| format!("still {}", what.text()))
}
