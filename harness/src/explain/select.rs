//! From what a person types to points and tests.

use crate::analysis::StudiedSession;
use crate::study::plan::SessionKey;
use crate::trace::PointId;

/// Why no point, or no single one, is meant.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// Nothing has that name.
    #[error("there is no `{query}`; {advice}")]
    None {
        /// What was asked for.
        query: String,
        /// Where to look.
        advice: String,
    },
    /// A name is needed.
    #[error("{0}")]
    Missing(String),
    /// More than one has.
    #[error(
        "`{query}` is part of {count} tests, such as {examples}; name more of it, or add --first"
    )]
    Several {
        /// What was asked for.
        query: String,
        /// How many match.
        count: usize,
        /// The first of them.
        examples: String,
    },
}

/// The point of a trace that `query` names: `role#n/thread@exchange:index` as a
/// whole or by a part that only one point has, or a function, whose first entry is
/// meant. Returns its position in the trace.
///
/// # Errors
/// No point or more than one is named.
pub fn point(studied: &StudiedSession<'_>, query: &str) -> Result<usize, SelectError> {
    let points = &studied.record.trace.points;
    if let Ok(id) = query.parse::<PointId>()
        && let Some(place) = studied.index_of(&id)
    {
        return Ok(place);
    }
    let function = points
        .iter()
        .position(|point| studied.evaluator.function_entered(point) == query);
    if let Some(place) = function {
        return Ok(place);
    }
    let matching = |test: &dyn Fn(&str) -> bool| -> Vec<usize> {
        let named = points.iter().enumerate();
        named
            .filter(|(_, point)| test(&point.id.to_string()))
            .map(|(place, _)| place)
            .collect()
    };
    let mut found = matching(&|id| id.starts_with(query));
    if found.len() != 1 {
        let anywhere = matching(&|id| names(query, id));
        if found.is_empty() {
            found = anywhere;
        }
    }
    let session = &studied.record.session;
    match found.as_slice() {
        [place] => Ok(*place),
        [] => Err(SelectError::None {
            query: query.to_owned(),
            advice: format!(
                "`kairos trace {} {} --points` lists the points",
                session.pair, session.workload
            ),
        }),
        several => Err(SelectError::Several {
            query: query.to_owned(),
            count: several.len(),
            examples: examples(several.iter().map(|place| points[*place].id.to_string())),
        }),
    }
}

/// Whether `query` names the test `id` of a session: the whole of it, or a part
/// that ends where a part of the identifier ends, so that `@3:1` is not `@3:17`.
#[must_use]
pub fn names(query: &str, id: &str) -> bool {
    if id == query {
        return true;
    }
    id.match_indices(query).any(|(at, _)| {
        let whole = |edge: Option<char>| edge.is_none_or(|letter| !letter.is_ascii_alphanumeric());
        let end = at + query.len();
        let inner = query
            .chars()
            .next_back()
            .is_none_or(|c| !c.is_ascii_alphanumeric());
        inner || whole(id[end..].chars().next())
    })
}

/// All points of the sessions whose test is named by every one of `queries`, each
/// with its session: identifiers, parts of them, or functions that are entered.
pub fn tests<'a>(
    sessions: &'a [StudiedSession<'a>],
    wanted: &dyn Fn(&SessionKey) -> bool,
    query: &str,
) -> Vec<(&'a StudiedSession<'a>, usize)> {
    let mut found = Vec::new();
    for studied in sessions {
        let key = &studied.record.session;
        if !wanted(key) {
            continue;
        }
        for (place, point) in studied.record.trace.points.iter().enumerate() {
            let id = key.test_id(&point.id);
            if id == query {
                return vec![(studied, place)];
            }
            if names(query, &id) || studied.evaluator.function_entered(point) == query {
                found.push((studied, place));
            }
        }
    }
    found
}

/// The first few of many names.
pub fn examples(names: impl ExactSizeIterator<Item = String>) -> String {
    const MOST: usize = 4;
    let all = names.len();
    let mut shown: Vec<String> = names.take(MOST).collect();
    if all > MOST {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn a_part_ends_where_a_part_of_the_identifier_ends() {
        let id = "kvd-v1-v2/own+redirect/process/basic/server#1/0@3:17";
        for query in [id, "@3:17", "basic/server#1", "0@3:", "kvd-v1-v2"] {
            assert!(names(query, id), "{query}");
        }
        for query in ["@3:1", "kvd-v1-v", "@4:17"] {
            assert!(!names(query, id), "{query}");
        }
    }
}
