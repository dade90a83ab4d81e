//! Legends: swatches with names, in rows.

use plotters::style::RGBColor;

use super::canvas::{Canvas, LABEL, REMARK, label_width};
use super::style;
use crate::analysis::rows::Outcome;
use crate::verdict::Verdict;

const ROW: i32 = 62;
const SWATCH: i32 = 36;
const SWATCH_GAP: i32 = 12;
const ENTRY_GAP: i32 = 34;
/// Between the labels of rows and their entries.
const LABEL_GAP: i32 = 28;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Colour of its swatch.
    pub colour: RGBColor,
    /// What it means.
    pub name: String,
}

/// Rows of entries, each row with a label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Legend {
    /// Rows from top to bottom.
    pub rows: Vec<(&'static str, Vec<Entry>)>,
}

/// A legend of the outcomes that occur: a row for those that pass, one for those
/// counted apart, one for failures.
#[must_use]
pub fn outcomes(occurs: impl Fn(Outcome) -> bool) -> Legend {
    let mut legend = Legend::default();
    for outcome in style::ORDER.into_iter().filter(|outcome| occurs(*outcome)) {
        let entry = Entry {
            colour: style::colour(outcome),
            name: outcome.name().to_owned(),
        };
        let kind = kind(outcome);
        match legend.rows.last_mut() {
            Some((label, entries)) if *label == kind => entries.push(entry),
            _ => legend.rows.push((kind, vec![entry])),
        }
    }
    legend
}

fn kind(outcome: Outcome) -> &'static str {
    if outcome == Outcome::Verdict(Verdict::Inert) {
        "apart"
    } else if outcome.is_pass() {
        "passes"
    } else if outcome.is_failure() {
        "fails"
    } else {
        "apart"
    }
}

impl Legend {
    /// Height in drawing units.
    #[must_use]
    pub fn height(&self) -> i32 {
        i32::try_from(self.rows.len()).unwrap_or(0) * ROW
    }

    /// Draws it below and to the right of `place`.
    ///
    /// # Errors
    /// The drawing library's, as text.
    pub fn draw(&self, canvas: &Canvas<'_, '_>, place: (i32, i32)) -> Result<(), String> {
        let labels = self.rows.iter().map(|(label, _)| label_width(label));
        let left = place.0 + labels.max().unwrap_or(0) + LABEL_GAP;
        let mut middle = place.1 + ROW / 2;
        for (label, entries) in &self.rows {
            canvas.text(label, (place.0, middle), REMARK)?;
            let mut x = left;
            for entry in entries {
                canvas.fill(
                    (x, middle - SWATCH / 2),
                    (x + SWATCH, middle + SWATCH / 2),
                    entry.colour,
                )?;
                canvas.text(&entry.name, (x + SWATCH + SWATCH_GAP, middle), LABEL)?;
                x += SWATCH + SWATCH_GAP + label_width(&entry.name) + ENTRY_GAP;
            }
            middle += ROW;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_stand_by_what_they_mean() {
        let legend = outcomes(|_| true);
        let rows: Vec<(&str, usize)> = legend
            .rows
            .iter()
            .map(|(label, entries)| (*label, entries.len()))
            .collect();
        assert_eq!(rows, [("passes", 2), ("apart", 4), ("fails", 6)]);
        let only = outcomes(|outcome| outcome == Outcome::Flaky);
        assert_eq!(only.rows.len(), 1);
    }
}
