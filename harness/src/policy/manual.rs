//! Manual points: places in the main loops that a developer chose (Kitsune,
//! Ekiden, `UpStare`).

use serde::{Deserialize, Serialize};

use super::{Decision, PointView, Policy, Reason, ReasonKind};

/// A point that the subject's manifest names: an entry of `entry` called
/// directly by `caller`, in a process of that role.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ManualPoint {
    /// Role of the process.
    pub role: String,
    /// The function with the main loop (`loop` in the manifest).
    #[serde(rename = "loop")]
    pub caller: String,
    /// The function entered first in each iteration.
    pub entry: String,
}

impl ManualPoint {
    /// Whether `entered`, called directly by `caller`, is this loop's head in
    /// whatever role.
    #[must_use]
    pub fn is_head(&self, entered: Option<&str>, caller: Option<&str>) -> bool {
        entered == Some(self.entry.as_str()) && caller == Some(self.caller.as_str())
    }
}

/// Allows the points that the manifest names. What is active does not matter:
/// the developer vouches for it.
pub struct Manual;

impl Policy for Manual {
    fn column(&self) -> &'static str {
        "manual"
    }

    fn about(&self) -> &'static str {
        "the manifest names the point"
    }

    fn allows_waits(&self) -> bool {
        false
    }

    fn judge(&self, view: &PointView<'_>) -> Decision {
        let entered = view.entered.and_then(|_| view.function_at(0));
        let caller = view.function_at(1);
        let mut in_role = view
            .manual
            .iter()
            .filter(|manual| manual.role == view.role)
            .peekable();
        let refusal = |kind, function: Option<&str>, frame, text: String| {
            Decision::Refused(Reason {
                kind,
                function: function.unwrap_or_default().to_owned(),
                frame,
                text,
            })
        };
        if in_role.peek().is_none() {
            let text = format!("the manifest names no point for the role `{}`", view.role);
            return refusal(ReasonKind::NoManualPointForRole, entered, 0, text);
        }
        let mut entry_named = None;
        for manual in in_role {
            if manual.is_head(entered, caller) {
                return Decision::Allowed;
            }
            if entered == Some(manual.entry.as_str()) {
                entry_named = Some(manual);
            }
        }
        let entered_text = entered.unwrap_or("nothing of the program");
        match entry_named {
            Some(manual) => refusal(
                ReasonKind::NotManualLoop,
                caller,
                1,
                format!(
                    "`{entered_text}` was called by `{}` and not by the loop in `{}`",
                    caller.unwrap_or("the library"),
                    manual.caller
                ),
            ),
            None => refusal(
                ReasonKind::NotManualEntry,
                entered,
                0,
                format!("`{entered_text}` is not the entry of a point that the manifest names"),
            ),
        }
    }
}
