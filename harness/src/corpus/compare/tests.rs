//! What the comparison finds: differences, points without a rule, rules without a
//! point.

use super::*;
use crate::analysis::Outcome;
use crate::corpus::case::Exchanges;
use crate::trace::{PointId, Scope};
use crate::verdict::Verdict;

/// A point in `main`'s loop, in exchange 2.
pub(in crate::corpus) fn seen(
    variant: &str,
    function: &str,
    verdict: Outcome,
    allowed: &[&'static str],
) -> Observed {
    Observed {
        case: "case".to_owned(),
        variant: variant.to_owned(),
        scope: Scope::Process,
        point: "server#1/0@2:1".parse::<PointId>().unwrap(),
        function: function.to_owned(),
        caller: Some("main".to_owned()),
        verdict,
        cause: String::new(),
        diverged_at: None,
        allowed: allowed.iter().copied().collect(),
    }
}

const NEW: Outcome = Outcome::Verdict(Verdict::New);
const WRONG: Outcome = Outcome::Verdict(Verdict::Wrong);

fn name(name: &str) -> Name {
    Name {
        name: name.to_owned(),
        span: 0..0,
    }
}

/// `verdict` for every point, allowed by activeness alone.
fn all(verdict: Outcome) -> Prediction {
    Prediction {
        conditions: Conditions::default(),
        verdict,
        cause: None,
        diverges: None,
        allowed: ["activeness"].into(),
        why: "because".to_owned(),
        line: 7,
    }
}

fn of_function(function: &str, verdict: Outcome) -> Prediction {
    let mut prediction = all(verdict);
    prediction.conditions.function = Some(name(function));
    prediction
}

fn exchanges(number: u32) -> Exchanges {
    Exchanges {
        written: "LABEL".to_owned(),
        numbers: [number].into(),
    }
}

#[test]
fn what_is_as_predicted_matches_by_the_first_rule() {
    let rules = [of_function("f", WRONG), all(NEW)];
    let observed = [
        seen("plain", "f", WRONG, &["activeness"]),
        seen("plain", "g", NEW, &["activeness"]),
        seen("plain", "g", NEW, &["activeness"]),
    ];
    let comparison = compare(&rules, &observed);
    assert!(comparison.matches(), "{comparison:?}");
    let points: Vec<usize> = comparison.rules.iter().map(|rule| rule.points).collect();
    assert_eq!(points, [1, 2]);
    assert_eq!(comparison.rules[1].verdicts, [("new", 2)].into());
}

#[test]
fn another_verdict_and_another_policy_are_differences_at_their_point() {
    let rules = [all(NEW)];
    let mut crash = seen("bare", "f", WRONG, &["activeness", "con_free"]);
    crash.cause = "reply".to_owned();
    let comparison = compare(&rules, &[crash, seen("bare", "g", NEW, &["activeness"])]);
    assert!(!comparison.matches());
    let [rule] = comparison.rules.as_slice() else {
        panic!("{comparison:?}");
    };
    assert_eq!(rule.points, 2);
    let [difference] = rule.differences.as_slice() else {
        panic!("{rule:?}");
    };
    assert_eq!(difference.function, "f");
    let what: Vec<(&str, &str, &str)> = difference
        .what
        .iter()
        .map(|one| (one.of, one.predicted.as_str(), one.observed.as_str()))
        .collect();
    assert_eq!(
        what,
        [
            ("verdict", "new", "wrong reply"),
            ("con_free", "refused", "allowed")
        ]
    );
}

#[test]
fn a_point_without_a_rule_and_a_rule_without_a_point_do_not_match() {
    let rules = [of_function("f", NEW), of_function("g", NEW)];
    let observed = [
        seen("plain", "f", NEW, &["activeness"]),
        seen("plain", "h", NEW, &["activeness"]),
    ];
    let comparison = compare(&rules, &observed);
    assert!(comparison.rules[0].matches());
    assert!(!comparison.rules[1].matches(), "g was never entered");
    assert_eq!(comparison.unmatched.len(), 1);
    assert_eq!(comparison.unmatched[0].function, "h");
    // Either is enough.
    assert!(!compare(&rules[..1], &observed).matches());
    assert!(!compare(&rules, &observed[..1]).matches());
    assert!(compare(&rules[..1], &observed[..1]).matches());
}

#[test]
fn a_rule_that_an_earlier_one_hides_has_no_points() {
    let comparison = compare(
        &[all(NEW), of_function("f", NEW)],
        &[seen("plain", "f", NEW, &["activeness"])],
    );
    assert!(!comparison.matches());
    assert_eq!(comparison.rules[1].points, 0);
}

#[test]
fn causes_are_parts_of_the_text_and_empty_means_none() {
    let mut observed = seen("plain", "f", WRONG, &["activeness"]);
    observed.cause = "server killed by SIGSEGV in f".to_owned();
    observed.diverged_at = Some(3);
    let matches = |change: &dyn Fn(&mut Prediction)| {
        let mut rule = all(WRONG);
        change(&mut rule);
        compare(&[rule], std::slice::from_ref(&observed)).matches()
    };
    assert!(matches(&|rule| rule.cause = Some("SIGSEGV in f".to_owned())));
    assert!(!matches(&|rule| rule.cause = Some("SIGABRT".to_owned())));
    assert!(!matches(&|rule| rule.cause = Some(String::new())));
    assert!(matches(&|rule| rule.diverges = Some(exchanges(3))));
    assert!(!matches(&|rule| rule.diverges = Some(exchanges(2))));
}

#[test]
fn every_condition_counts() {
    let observed = seen("plain", "f", NEW, &["activeness"]);
    let matches = |change: &dyn Fn(&mut Conditions)| {
        let mut rule = all(NEW);
        change(&mut rule.conditions);
        compare(&[rule], std::slice::from_ref(&observed)).matches()
    };
    let text = |text: &str| Some(text.to_owned());
    assert!(matches(&|rule| rule.variant = text("plain")));
    assert!(!matches(&|rule| rule.variant = text("tree")));
    assert!(matches(&|rule| rule.role = text("server")));
    assert!(matches(&|rule| rule.role = text("server#1")));
    assert!(!matches(&|rule| rule.role = text("server#2")));
    assert!(!matches(&|rule| rule.thread = Some(1)));
    assert!(!matches(&|rule| rule.function = Some(name("g"))));
    assert!(matches(&|rule| rule.caller = Some(name("main"))));
    assert!(!matches(&|rule| rule.caller = Some(name("f"))));
    assert!(matches(&|rule| rule.exchange = Some(exchanges(2))));
    assert!(!matches(&|rule| rule.exchange = Some(exchanges(1))));
    assert!(!matches(&|rule| rule.index = Some(2)));
}
