//! What was predicted beside what was observed, rule by rule: a pure function.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::case::{Conditions, Name, Prediction};
use super::observed::Observed;
use crate::policy::columns;

/// How one rule fared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleResult {
    /// Line of the manifest.
    pub line: usize,
    /// Variant that the rule is about; none for all.
    pub variant: Option<String>,
    /// Its other conditions, for people.
    pub rule: String,
    /// Points that it was the first to predict.
    pub points: usize,
    /// What it predicts.
    pub predicted: Expected,
    /// Verdicts that were observed, with their number.
    pub verdicts: BTreeMap<&'static str, usize>,
    /// Sets of policies that allowed a point, with their number.
    pub allowed: BTreeMap<Policies, usize>,
    /// Points at which something else was observed.
    pub differences: Vec<Difference>,
    /// The reasoning.
    pub why: String,
}

/// What a rule predicts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Expected {
    /// Verdict.
    pub verdict: &'static str,
    /// A text that the cause holds.
    pub cause: Option<String>,
    /// Exchange at which it shows, as written.
    pub diverges: Option<String>,
    /// Policies that allow the points.
    pub allowed: Policies,
}

/// Policies that allow a point. Written as a text: their names, in the registry's
/// order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "String")]
pub struct Policies(pub BTreeSet<&'static str>);

impl From<Policies> for String {
    fn from(policies: Policies) -> Self {
        let allowed = columns().filter(|column| policies.0.contains(column));
        allowed.collect::<Vec<_>>().join(" ")
    }
}

/// One point at which a rule is contradicted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Variant.
    pub variant: String,
    /// The point.
    pub point: String,
    /// Function entered.
    pub function: String,
    /// What differs.
    pub what: Vec<Contradiction>,
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contradiction {
    /// `verdict`, `cause`, `diverges`, or the column of a policy.
    pub of: &'static str,
    /// What the rule says.
    pub predicted: String,
    /// What was seen.
    pub observed: String,
}

/// A case's predictions beside its observations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Every rule, in order.
    pub rules: Vec<RuleResult>,
    /// Points that no rule predicts.
    pub unmatched: Vec<Observed>,
}

impl RuleResult {
    /// Whether it predicted some point, and every one rightly.
    #[must_use]
    pub fn matches(&self) -> bool {
        self.points > 0 && self.differences.is_empty()
    }
}

impl Comparison {
    /// Whether every rule and every point fits.
    #[must_use]
    pub fn matches(&self) -> bool {
        self.unmatched.is_empty() && self.rules.iter().all(RuleResult::matches)
    }
}

/// Compares a case's predictions with what was observed at its points.
#[must_use]
pub fn compare(predictions: &[Prediction], observed: &[Observed]) -> Comparison {
    let mut comparison = Comparison {
        rules: predictions.iter().map(nothing_seen).collect(),
        unmatched: Vec::new(),
    };
    for seen in observed {
        let rules = predictions.iter().zip(&mut comparison.rules);
        let first = rules
            .into_iter()
            .find(|(prediction, _)| meets(&prediction.conditions, seen));
        match first {
            Some((prediction, result)) => add(result, prediction, seen),
            None => comparison.unmatched.push(seen.clone()),
        }
    }
    comparison
}

fn nothing_seen(prediction: &Prediction) -> RuleResult {
    RuleResult {
        line: prediction.line,
        variant: prediction.conditions.variant.clone(),
        rule: prediction.conditions.to_string(),
        points: 0,
        predicted: Expected {
            verdict: prediction.verdict.name(),
            cause: prediction.cause.clone(),
            diverges: prediction.diverges.as_ref().map(|at| at.written.clone()),
            allowed: Policies(prediction.allowed.clone()),
        },
        verdicts: BTreeMap::new(),
        allowed: BTreeMap::new(),
        differences: Vec::new(),
        why: prediction.why.clone(),
    }
}

fn meets(conditions: &Conditions, seen: &Observed) -> bool {
    fn fits<T>(condition: Option<&T>, holds: impl Fn(&T) -> bool) -> bool {
        condition.is_none_or(holds)
    }
    let Conditions {
        variant,
        role,
        thread,
        function,
        caller,
        exchange,
        index,
    } = conditions;
    let instance = &seen.point.role;
    fits(variant.as_ref(), |name| *name == seen.variant)
        && fits(role.as_ref(), |role| {
            *role == instance.role || *role == instance.to_string()
        })
        && fits(thread.as_ref(), |thread| *thread == seen.point.thread)
        && fits(function.as_ref(), |name| name.name == seen.function)
        && fits(caller.as_ref(), |name| {
            seen.caller.as_ref() == Some(&name.name)
        })
        && fits(exchange.as_ref(), |exchanges| {
            let number = seen.point.exchange;
            number.is_some_and(|number| exchanges.numbers.contains(&number))
        })
        && fits(index.as_ref(), |index| *index == seen.point.index)
}

fn add(result: &mut RuleResult, prediction: &Prediction, seen: &Observed) {
    result.points += 1;
    *result.verdicts.entry(seen.verdict.name()).or_default() += 1;
    let allowed = Policies(seen.allowed.clone());
    *result.allowed.entry(allowed).or_default() += 1;
    let what = contradictions(prediction, seen);
    if !what.is_empty() {
        result.differences.push(Difference {
            variant: seen.variant.clone(),
            point: seen.point.to_string(),
            function: seen.function.clone(),
            what,
        });
    }
}

fn contradictions(prediction: &Prediction, seen: &Observed) -> Vec<Contradiction> {
    let mut what = Vec::new();
    let mut differs = |of, predicted: &dyn fmt::Display, observed: &dyn fmt::Display| {
        what.push(Contradiction {
            of,
            predicted: predicted.to_string(),
            observed: observed.to_string(),
        });
    };
    if prediction.verdict != seen.verdict {
        // The cause tells more of a surprise than the verdict.
        let observed = format!("{} {}", seen.verdict, seen.cause);
        differs("verdict", &prediction.verdict, &observed.trim_end());
    }
    if let Some(cause) = &prediction.cause {
        let fits = if cause.is_empty() {
            seen.cause.is_empty()
        } else {
            seen.cause.contains(cause)
        };
        if !fits {
            differs("cause", cause, &seen.cause);
        }
    }
    if let Some(exchanges) = &prediction.diverges
        && !seen
            .diverged_at
            .is_some_and(|number| exchanges.numbers.contains(&number))
    {
        let at = seen
            .diverged_at
            .map_or("nowhere".to_owned(), |number| number.to_string());
        differs("diverges", &exchanges.written, &at);
    }
    for column in columns() {
        let name = |allowed| if allowed { "allowed" } else { "refused" };
        let predicted = prediction.allowed.contains(column);
        let observed = seen.allowed.contains(column);
        if predicted != observed {
            differs(column, &name(predicted), &name(observed));
        }
    }
    what
}

/// All but the variant, for people.
impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |name: &Name| name.name.clone();
        let parts = [
            ("role", self.role.clone()),
            ("thread", self.thread.map(|number| number.to_string())),
            ("function", self.function.as_ref().map(name)),
            ("caller", self.caller.as_ref().map(name)),
            (
                "exchange",
                self.exchange.as_ref().map(|at| at.written.clone()),
            ),
            ("index", self.index.map(|number| number.to_string())),
        ];
        let given: Vec<String> = parts
            .into_iter()
            .filter_map(|(key, value)| value.map(|value| format!("{key} {value}")))
            .collect();
        if given.is_empty() {
            f.write_str("any point")
        } else {
            f.write_str(&given.join(", "))
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
