//! What the old server, the new server and a test showed, line beside line.

use std::collections::HashMap;

use comfy_table::{ColumnConstraint, ContentArrangement, LineStyle, Table, TableStyle, Width};
use serde::Serialize;
use similar::{Algorithm, DiffOp, capture_diff_slices};

use crate::verdict::text::Likeness;

const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::new('─', '─', '─', '─'));

/// One row: what stands at the same place of each text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Whose line the observed one is.
    pub like: Likeness,
    /// Line of the old server.
    pub old: Option<String>,
    /// Line of the new server.
    pub new: Option<String>,
    /// Line of the test.
    pub seen: Option<String>,
}

/// The texts of one connection, log or file in three columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Columns {
    /// What the texts are, such as `replies on c`.
    pub title: String,
    /// Their lines, aligned.
    pub rows: Vec<Row>,
}

impl Columns {
    /// Aligns the lines of the three texts: those that the test shares with a
    /// version stand beside each other.
    #[must_use]
    pub fn of(title: impl Into<String>, old: &str, new: &str, seen: &str) -> Self {
        let seen: Vec<&str> = seen.split_inclusive('\n').collect();
        let mut old = Side::aligned(old, &seen);
        let mut new = Side::aligned(new, &seen);
        let mut rows = Vec::new();
        for place in 0..=seen.len() {
            let (before_old, before_new) = (old.before(place), new.before(place));
            for line in 0..before_old.len().max(before_new.len()) {
                rows.push(row(before_old.get(line), before_new.get(line), None));
            }
            if let Some(line) = seen.get(place) {
                let (old, new) = (old.at.get(&place), new.at.get(&place));
                rows.push(row(old, new, Some(line)));
            }
        }
        Self {
            title: title.into(),
            rows,
        }
    }

    /// Whether the test's text is that of both versions.
    #[must_use]
    pub fn agree(&self) -> bool {
        self.rows.iter().all(|row| row.like == Likeness::Both)
    }

    /// The table for people, at most `width` characters wide.
    #[must_use]
    pub fn render(&self, width: u16) -> String {
        const MARK: u16 = 9;
        let mut table = Table::new();
        table
            .load_style(STYLE)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(width)
            .set_header(["", "old", "new", "observed"]);
        for row in &self.rows {
            let mark = match row.like {
                Likeness::Both => "",
                Likeness::Old => "old",
                Likeness::New => "new",
                Likeness::Blend | Likeness::Neither => "neither",
            };
            table.add_row([
                mark.to_owned(),
                shown(row.old.as_deref()),
                shown(row.new.as_deref()),
                shown(row.seen.as_deref()),
            ]);
        }
        if let Some(column) = table.column_mut(0) {
            column.set_constraint(ColumnConstraint::Absolute(Width::Fixed(MARK)));
        }
        let lines: Vec<String> = table
            .to_string()
            .lines()
            .map(|line| line.trim_end().to_owned())
            .collect();
        format!("{}\n{}\n", self.title, lines.join("\n"))
    }
}

/// One version's lines in relation to the observed ones.
#[derive(Default)]
struct Side<'a> {
    /// Lines beside an observed one.
    at: HashMap<usize, &'a str>,
    /// Lines that the test lacks, before the observed line of that number.
    before: HashMap<usize, Vec<&'a str>>,
}

impl<'a> Side<'a> {
    fn aligned(text: &'a str, seen: &[&str]) -> Self {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let mut side = Self::default();
        for operation in capture_diff_slices(Algorithm::Myers, &lines, seen) {
            let (_, of_lines, of_seen) = operation.as_tag_tuple();
            let paired = match operation {
                DiffOp::Insert { .. } => 0,
                DiffOp::Delete { .. } => 0,
                _ => of_lines.len().min(of_seen.len()),
            };
            for (number, line) in lines[of_lines].iter().enumerate() {
                if number < paired {
                    side.at.insert(of_seen.start + number, line);
                } else {
                    side.before.entry(of_seen.end).or_default().push(line);
                }
            }
        }
        side
    }

    fn before(&mut self, place: usize) -> Vec<&'a str> {
        self.before.remove(&place).unwrap_or_default()
    }
}

fn row(old: Option<&&str>, new: Option<&&str>, seen: Option<&&str>) -> Row {
    let like = match (seen == old, seen == new) {
        (true, true) => Likeness::Both,
        (true, false) => Likeness::Old,
        (false, true) => Likeness::New,
        (false, false) => Likeness::Neither,
    };
    let owned = |line: Option<&&str>| line.map(|line| (*line).to_owned());
    Row {
        like,
        old: owned(old),
        new: owned(new),
        seen: owned(seen),
    }
}

/// A line without its end; what could not be seen is spelled out.
fn shown(line: Option<&str>) -> String {
    let Some(line) = line else {
        return String::new();
    };
    let line = line.strip_suffix('\n').unwrap_or(line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    let text = line.trim_end_matches(' ');
    let blanks = line.len() - text.len();
    let mut shown: String = text
        .chars()
        .map(|letter| {
            if letter.is_control() {
                letter.escape_default().to_string()
            } else {
                letter.to_string()
            }
        })
        .collect();
    shown.push_str(&"·".repeat(blanks));
    if shown.is_empty() {
        shown.push_str("(an empty line)");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likes(old: &str, new: &str, seen: &str) -> Vec<Likeness> {
        let columns = Columns::of("", old, new, seen);
        columns.rows.iter().map(|row| row.like).collect()
    }

    #[test]
    fn lines_stand_beside_their_like() {
        use Likeness::{Both, Neither, New, Old};
        assert_eq!(likes("a\nb\n", "a\nB\n", "a\nb\n"), [Both, Old]);
        assert_eq!(likes("a\nb\n", "a\nB\n", "a\nB\n"), [Both, New]);
        assert_eq!(likes("a\nb\n", "a\nB\n", "a\nx\n"), [Both, Neither]);
        assert_eq!(
            likes("a\nb\nc\n", "a\nb\nc\n", "a\nc\n"),
            [Both, Neither, Both]
        );
        assert_eq!(likes("a\n", "a\n", "a\nx\n"), [Both, Neither]);
        assert_eq!(likes("", "", ""), []);
    }

    #[test]
    fn a_line_that_only_one_version_has_and_the_test_lacks_is_the_others_way() {
        let columns = Columns::of("", "a\nlost\nb\n", "a\nb\n", "a\nb\n");
        assert_eq!(columns.rows[1].like, Likeness::New);
        assert_eq!(columns.rows[1].old.as_deref(), Some("lost\n"));
        assert_eq!(columns.rows.len(), 3);
    }

    #[test]
    fn no_line_is_lost_or_made_up() {
        use proptest::prelude::*;
        let text = || proptest::collection::vec("[ab]\n", 0..8).prop_map(|lines| lines.concat());
        proptest!(|(old in text(), new in text(), seen in text())| {
            let rows = Columns::of("", &old, &new, &seen).rows;
            let join = |of: fn(&Row) -> Option<&String>| -> String {
                rows.iter().filter_map(of).map(String::as_str).collect()
            };
            prop_assert_eq!(join(|row| row.old.as_ref()), old);
            prop_assert_eq!(join(|row| row.new.as_ref()), new);
            prop_assert_eq!(join(|row| row.seen.as_ref()), seen);
        });
    }

    #[test]
    fn the_table_shows_what_cannot_be_seen() {
        let columns = Columns::of("replies on c", "ok \r\n", "ok\r\n\r\n", "o\tk\n");
        insta::assert_snapshot!(columns.render(80));
    }

    #[test]
    fn long_lines_are_wrapped_into_their_column() {
        let long = "a long line that does not fit into a third of the width of this table\n";
        let columns = Columns::of("log notes", long, "short\n", long);
        insta::assert_snapshot!(columns.render(80));
    }
}
