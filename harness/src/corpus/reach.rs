//! What a corpus must reach to show anything: policies that err on either side, and
//! failures that only a transformer prevents. Counted from what was observed.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::observed::Observed;
use crate::trace::{PointId, Scope};

/// One kind of point, and where it was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reached {
    /// The kind.
    pub kind: &'static str,
    /// Points of it.
    pub points: usize,
    /// Cases that have such points.
    pub cases: BTreeSet<String>,
}

/// Counts every kind. `transformed` says whether a variant of a case has a
/// transformer.
#[must_use]
pub fn reached(observed: &[Observed], transformed: impl Fn(&str, &str) -> bool) -> Vec<Reached> {
    let allowed_and_failing = |column: &'static str| {
        move |seen: &Observed| seen.verdict.is_failure() && seen.allowed.contains(column)
    };
    let mut kinds = vec![
        count(
            "allowed by activeness and failing",
            observed,
            allowed_and_failing("activeness"),
        ),
        count(
            "allowed by con_free and failing",
            observed,
            allowed_and_failing("con_free"),
        ),
        count(
            "allowed by activeness_rest and failing",
            observed,
            allowed_and_failing("activeness_rest"),
        ),
        count("refused by all and passing", observed, |seen| {
            seen.verdict.is_pass() && seen.allowed.is_empty()
        }),
    ];
    // The same point of the same case, without a transformer and with one.
    let mut rescued: BTreeMap<(&str, Scope, &PointId), (bool, bool)> = BTreeMap::new();
    for seen in observed {
        let (fails_bare, passes) = rescued
            .entry((&seen.case, seen.scope, &seen.point))
            .or_default();
        if transformed(&seen.case, &seen.variant) {
            *passes |= seen.verdict.is_pass();
        } else {
            *fails_bare |= seen.verdict.is_failure();
        }
    }
    rescued.retain(|_, (fails_bare, passes)| *fails_bare && *passes);
    kinds.push(Reached {
        kind: "failing bare and passing with a transformer",
        points: rescued.len(),
        cases: rescued
            .keys()
            .map(|(case, ..)| (*case).to_owned())
            .collect(),
    });
    kinds
}

fn count(kind: &'static str, observed: &[Observed], is_one: impl Fn(&Observed) -> bool) -> Reached {
    let found: Vec<&Observed> = observed.iter().filter(|seen| is_one(seen)).collect();
    Reached {
        kind,
        points: found.len(),
        cases: found.iter().map(|seen| seen.case.clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::compare::tests::seen;
    use super::*;
    use crate::analysis::Outcome;
    use crate::verdict::Verdict;

    #[test]
    fn each_kind_is_counted_from_its_own_points() {
        let bare = |function, verdict, allowed: &[&'static str]| {
            seen("bare", function, Outcome::Verdict(verdict), allowed)
        };
        let mut rescued = bare("f", Verdict::New, &[]);
        rescued.variant = "transformed".to_owned();
        let observed = [
            bare("f", Verdict::Wrong, &["activeness", "con_free"]),
            rescued,
        ];
        let found = reached(&observed, |_, variant| variant == "transformed");
        let points: Vec<usize> = found.iter().map(|kind| kind.points).collect();
        // The transformed point passes and no policy allows it.
        assert_eq!(points, [1, 1, 0, 1, 1]);
        assert!(found[4].cases.contains("case"));
    }

    #[test]
    fn passing_with_a_transformer_alone_rescues_nothing() {
        let mut passes = seen(
            "transformed",
            "f",
            Outcome::Verdict(Verdict::New),
            &["con_free"],
        );
        let all = |observed: &[Observed]| {
            let found = reached(observed, |_, variant| variant == "transformed");
            found.iter().map(|kind| kind.points).sum::<usize>()
        };
        assert_eq!(all(std::slice::from_ref(&passes)), 0);
        passes.verdict = Outcome::Verdict(Verdict::Crash);
        passes.allowed.clear();
        assert_eq!(all(&[passes]), 0);
    }
}
