//! Where two runs that should be equal differ, in what clients and files show.

use super::Observation;

/// The first difference, with both texts; none where they show the same.
#[must_use]
pub fn difference(expected: &Observation, seen: &Observation) -> Option<String> {
    for (number, (one, other)) in expected.exchanges.iter().zip(&seen.exchanges).enumerate() {
        for (what, one, other) in [
            ("on", &one.replies, &other.replies),
            ("in log", &one.logs, &other.logs),
        ] {
            let names = one.keys().chain(other.keys());
            for name in names {
                let (one, other) = (one.get(name), other.get(name));
                if one != other {
                    return Some(format!(
                        "in exchange {number} {what} {name}: {:?} against {:?}",
                        one.map_or("", String::as_str),
                        other.map_or("", String::as_str)
                    ));
                }
            }
        }
    }
    if expected.exchanges.len() != seen.exchanges.len() {
        return Some("in the number of exchanges".to_owned());
    }
    let files = expected.files.keys().chain(seen.files.keys());
    for name in files {
        let (one, other) = (expected.files.get(name), seen.files.get(name));
        if one != other {
            return Some(format!(
                "in file {name}: {:?} against {:?}",
                one.map_or("", String::as_str),
                other.map_or("", String::as_str)
            ));
        }
    }
    None
}
