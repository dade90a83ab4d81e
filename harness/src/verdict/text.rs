//! Compares what was received with what either version sends.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

/// Text by connection or by log.
type Texts = BTreeMap<String, String>;

/// Which version an exchange looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Likeness {
    /// Both: the versions do not differ here.
    Both,
    /// The old version alone.
    Old,
    /// The new version alone.
    New,
    /// Neither as a whole, but every line is one of the versions'.
    Blend,
    /// Neither.
    Neither,
}

impl Likeness {
    /// The name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Old => "old",
            Self::New => "new",
            Self::Blend => "blend",
            Self::Neither => "neither",
        }
    }
}

/// Which version `seen` looks like, all texts together.
#[must_use]
pub fn likeness(old: &Texts, new: &Texts, seen: &Texts) -> Likeness {
    match (same(seen, old), same(seen, new)) {
        (true, true) => Likeness::Both,
        (true, false) => Likeness::Old,
        (false, true) => Likeness::New,
        (false, false) if blends(old, new, seen) => Likeness::Blend,
        (false, false) => Likeness::Neither,
    }
}

/// Nothing received equals an empty text.
fn same(one: &Texts, other: &Texts) -> bool {
    names(&[one, other])
        .into_iter()
        .all(|name| text(one, name) == text(other, name))
}

fn names<'a>(texts: &[&'a Texts]) -> BTreeSet<&'a str> {
    texts
        .iter()
        .flat_map(|texts| texts.keys())
        .map(String::as_str)
        .collect()
}

fn text<'a>(texts: &'a Texts, name: &str) -> &'a str {
    texts.get(name).map_or("", String::as_str)
}

/// Whether each text is made of the versions' lines: old ones and then new ones,
/// new ones and then old ones, or line by line the one or the other.
fn blends(old: &Texts, new: &Texts, seen: &Texts) -> bool {
    names(&[old, new, seen]).into_iter().all(|name| {
        let [old, new, seen] = [old, new, seen].map(|texts| lines(text(texts, name)));
        seen == old
            || seen == new
            || joined(&old, &new, &seen)
            || joined(&new, &old, &seen)
            || line_by_line(&old, &new, &seen)
    })
}

/// Whether each text begins as the old version's and ends as the new one's.
pub(super) fn switches_over(old: &Texts, new: &Texts, seen: &Texts) -> bool {
    names(&[old, new, seen]).into_iter().all(|name| {
        let [old, new, seen] = [old, new, seen].map(|texts| lines(text(texts, name)));
        seen == old || seen == new || joined(&old, &new, &seen)
    })
}

fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// Whether `seen` is a beginning of `first` followed by an end of `second`, both
/// non-empty, and neither longer nor shorter than both: a line that came twice or
/// not at all is no switch from one version to the other.
fn joined(first: &[&str], second: &[&str], seen: &[&str]) -> bool {
    let shortest = first.len().min(second.len());
    let longest = first.len().max(second.len());
    (shortest..=longest).contains(&seen.len())
        && (1..seen.len())
            .any(|cut| first.starts_with(&seen[..cut]) && second.ends_with(&seen[cut..]))
}

fn line_by_line(old: &[&str], new: &[&str], seen: &[&str]) -> bool {
    seen.len() == old.len()
        && seen.len() == new.len()
        && seen
            .iter()
            .zip(old.iter().zip(new))
            .all(|(seen, (old, new))| seen == old || seen == new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Texts {
        BTreeMap::from([("c".to_owned(), text.to_owned())])
    }

    #[test]
    fn replies_are_told_apart() {
        let (old, new) = (one("a\nb\nc\n"), one("A\nB\nc\n"));
        for (text, expected) in [
            ("a\nb\nc\n", Likeness::Old),
            ("A\nB\nc\n", Likeness::New),
            ("a\nB\nc\n", Likeness::Blend),
            ("A\nb\nc\n", Likeness::Blend),
            ("a\nx\nc\n", Likeness::Neither),
            ("", Likeness::Neither),
        ] {
            assert_eq!(likeness(&old, &new, &one(text)), expected, "{text}");
        }
        assert_eq!(likeness(&old, &old, &old), Likeness::Both);
        assert_eq!(
            likeness(&Texts::new(), &one(""), &Texts::new()),
            Likeness::Both
        );
    }

    #[test]
    fn logs_switch_from_old_to_new_only() {
        let (old, new) = (one("a\nb\n"), one("A\nB\n"));
        assert!(switches_over(&old, &new, &one("a\nB\n")));
        assert!(!switches_over(&old, &new, &one("A\nb\n")));
    }

    #[test]
    fn a_line_twice_or_never_is_no_switch() {
        let same = one("a\n");
        assert!(!switches_over(&same, &same, &one("a\na\n")));
        assert_eq!(likeness(&same, &same, &one("a\na\n")), Likeness::Neither);
        let longer = one("A\nB\n");
        assert!(switches_over(&same, &longer, &one("a\nB\n")));
        assert!(!switches_over(&same, &longer, &one("a\nA\nB\n")));
    }
}
