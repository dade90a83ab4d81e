//! How many update tests equivalent points save: a row per pair, with the share that
//! needs no test of its own and the most that can be saved, beside what was published.

use plotters::style::Color as _;

use super::canvas::{self, Canvas, NUMBER, ROW_LABEL, TICK, label_width};
use super::style;
use crate::analysis::classes::{PUBLISHED, Reduction, total};
use crate::analysis::table::percent;

const MARGIN: i32 = 10;
const RIGHT: i32 = 1690;
const PLOT_RIGHT: i32 = 1480;
const LABEL_GAP: i32 = 36;
const HEADING_HEIGHT: i32 = 64;
const ROW_HEIGHT: i32 = 52;
const AXIS_HEIGHT: i32 = 132;
const RADIUS: i32 = 12;
/// Half the height of the mark of the most that can be saved.
const MARK: i32 = 18;

/// Draws the figure as SVG, one column wide.
///
/// # Errors
/// The drawing library's, as text.
pub fn draw(reductions: &[Reduction]) -> Result<String, String> {
    let mut rows = reductions.to_vec();
    if rows.len() > 1 {
        rows.push(total(reductions));
    }
    let widest = rows.iter().map(|row| label_width(&row.pair)).max();
    let left = MARGIN + widest.unwrap_or(0) + LABEL_GAP;
    let count = i32::try_from(rows.len()).unwrap_or(0);
    let height = MARGIN + HEADING_HEIGHT + ROW_HEIGHT * count + AXIS_HEIGHT;
    canvas::draw(style::WIDTH_MM, height, |canvas| {
        draw_rows(canvas, &rows, left, MARGIN + HEADING_HEIGHT)
    })
}

fn draw_rows(
    canvas: &Canvas<'_, '_>,
    rows: &[Reduction],
    left: i32,
    first: i32,
) -> Result<(), String> {
    let bottom = first + ROW_HEIGHT * i32::try_from(rows.len()).unwrap_or(0);
    let title = "points that need no test (dot); at most (mark)";
    let axis = canvas.percent_axis((left, PLOT_RIGHT), (first, bottom), title)?;
    let published = axis.at(PUBLISHED);
    canvas.line(&[(published, first), (published, bottom)], 4, style::INK)?;
    let label = format!("published {}", percent(PUBLISHED));
    canvas.text(&label, (published, first - HEADING_HEIGHT / 2), TICK)?;
    for (place, row) in rows.iter().enumerate() {
        let middle = first + ROW_HEIGHT * i32::try_from(place).unwrap_or(0) + ROW_HEIGHT / 2;
        canvas.text(&row.pair, (left - LABEL_GAP, middle), ROW_LABEL)?;
        let bound = axis.at(row.bound());
        let mark = [(bound, middle - MARK), (bound, middle + MARK)];
        canvas.line(&mark, 6, style::INK)?;
        let centre = (axis.at(row.share()), middle);
        canvas.dot(centre, RADIUS + 3, style::PAPER.filled())?;
        canvas.dot(centre, RADIUS, style::subject(0).filled())?;
        canvas.text(&percent(row.share()), (RIGHT, middle), NUMBER)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_has_a_row_and_the_published_share_a_line() {
        let pair = |name: &str, classes| Reduction {
            pair: name.to_owned(),
            points: 1000,
            classes,
            fewest: 20,
            ..Reduction::default()
        };
        let svg = draw(&[pair("kvd-1-2", 60), pair("kvd-2-3", 500)]).unwrap();
        for text in [
            "kvd-1-2",
            "kvd-2-3",
            "total",
            "94.0 %",
            "50 %",
            "published 93",
        ] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }
}
