//! How much of an update's safety is its moment and how much its mechanism: of the
//! points that a policy allows, the share that fails, a mark per mechanism.

use super::canvas::{self, Canvas, HEADING, NUMBER, ROW_LABEL, label_width};
use super::legend::{Entry, Legend};
use super::style;
use crate::analysis::Summary;
use crate::analysis::statistics::Share;
use crate::analysis::summary::{Group, GroupKind};
use crate::analysis::table::{estimate, percent};

/// The policies that the study is about, in the order of its question.
const POLICIES: [&str; 4] = ["any", "con_free", "activeness", "manual"];

/// One policy under one mechanism.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// The mechanism, by its place among all.
    pub mechanism: usize,
    /// Share of the allowed points that fail; none where no allowed point was tested.
    pub failing: Option<Share>,
    /// How many fail, weighted.
    pub failures: f64,
}

/// One policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The policy.
    pub label: String,
    /// One mark per mechanism.
    pub marks: Vec<Mark>,
}

/// One update, or all of a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What it shows.
    pub name: String,
    /// One row per policy.
    pub rows: Vec<Row>,
}

/// The whole figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Mechanisms, in order.
    pub mechanisms: Vec<String>,
    /// Panels from top to bottom.
    pub panels: Vec<Panel>,
}

/// The figure of a run; none where no update was applied by two mechanisms. A subject
/// with several such updates is shown by their sum.
#[must_use]
pub fn figure(summary: &Summary) -> Option<Figure> {
    let is_sum = |group: &&Group| group.name.contains(", ");
    let sums: Vec<&Group> = summary.mechanisms.iter().filter(is_sum).collect();
    let subject = |name: &str| name.split(['-', ',']).next().unwrap_or_default().to_owned();
    let summed = |group: &&Group| {
        let of = |sum: &&Group| subject(&sum.name) == subject(&group.name);
        sums.iter().any(of)
    };
    let single = summary
        .mechanisms
        .iter()
        .filter(|group| !is_sum(group) && !summed(group));
    let groups: Vec<&Group> = sums.iter().copied().chain(single).collect();
    let mut mechanisms: Vec<String> = Vec::new();
    let mut panels: Vec<Panel> = Vec::new();
    for group in groups {
        let GroupKind::Mechanism(mechanism) = &group.kind else {
            continue;
        };
        let place = mechanisms.iter().position(|of| of == mechanism);
        let place = place.unwrap_or_else(|| {
            mechanisms.push(mechanism.clone());
            mechanisms.len() - 1
        });
        let known = panels.iter().position(|panel| panel.name == group.name);
        let panel = known.unwrap_or_else(|| {
            panels.push(empty_panel(&group.name));
            panels.len() - 1
        });
        let panel = &mut panels[panel];
        for (row, policy) in panel.rows.iter_mut().zip(POLICIES) {
            let measures = group.policies.iter().find(|of| of.policy == policy);
            row.marks.extend(measures.map(|measures| Mark {
                mechanism: place,
                failing: measures.tally.failure_share(),
                failures: measures.tally.failures(),
            }));
        }
    }
    (!panels.is_empty()).then_some(Figure { mechanisms, panels })
}

fn empty_panel(name: &str) -> Panel {
    let row = |policy| Row {
        label: style::policy_label(policy),
        marks: Vec::new(),
    };
    Panel {
        name: name.to_owned(),
        rows: POLICIES.into_iter().map(row).collect(),
    }
}

const MARGIN: i32 = 10;
const RIGHT: i32 = 1690;
const PLOT_RIGHT: i32 = 1360;
const LABEL_GAP: i32 = 36;
const HEADING_HEIGHT: i32 = 64;
/// Height of one mechanism's mark, and of the space around the marks of a row.
const MARK_HEIGHT: i32 = 54;
const ROW_GAP: i32 = 28;
const AXIS_HEIGHT: i32 = 132;
const RADIUS: i32 = 13;

/// Draws the figure as SVG, one column wide.
///
/// # Errors
/// The drawing library's, as text.
pub fn draw(figure: &Figure) -> Result<String, String> {
    let labels = figure.panels.iter().flat_map(|panel| &panel.rows);
    let widest = labels.map(|row| label_width(&row.label)).max();
    let left = MARGIN + widest.unwrap_or(0) + LABEL_GAP;
    let entries = figure
        .mechanisms
        .iter()
        .enumerate()
        .map(|(place, name)| Entry {
            colour: style::mechanism(place),
            name: name.clone(),
        });
    let legend = Legend {
        rows: vec![("mechanism", entries.collect())],
    };
    let panels: i32 = figure.panels.iter().map(panel_height).sum();
    canvas::draw(
        style::WIDTH_MM,
        MARGIN + legend.height() + panels,
        |canvas| {
            legend.draw(canvas, (MARGIN, MARGIN))?;
            let mut top = MARGIN + legend.height();
            for panel in &figure.panels {
                draw_panel(canvas, panel, left, top)?;
                top += panel_height(panel);
            }
            Ok(())
        },
    )
}

fn row_height(row: &Row) -> i32 {
    MARK_HEIGHT * i32::try_from(row.marks.len()).unwrap_or(0) + ROW_GAP
}

fn panel_height(panel: &Panel) -> i32 {
    HEADING_HEIGHT + panel.rows.iter().map(row_height).sum::<i32>() + AXIS_HEIGHT
}

fn draw_panel(canvas: &Canvas<'_, '_>, panel: &Panel, left: i32, top: i32) -> Result<(), String> {
    canvas.text(&panel.name, (MARGIN, top + HEADING_HEIGHT / 2), HEADING)?;
    canvas.text("points failing", (RIGHT, top + HEADING_HEIGHT / 2), NUMBER)?;
    let first = top + HEADING_HEIGHT;
    let bottom = first + panel.rows.iter().map(row_height).sum::<i32>();
    let axis = canvas.percent_axis(
        (left, PLOT_RIGHT),
        (first, bottom),
        "failing, of the points that the policy allows",
    )?;
    let mut row_top = first;
    for row in &panel.rows {
        let middle = row_top + row_height(row) / 2;
        canvas.text(&row.label, (left - LABEL_GAP, middle), ROW_LABEL)?;
        let mut y = row_top + i32::midpoint(ROW_GAP, MARK_HEIGHT);
        for mark in &row.marks {
            draw_mark(canvas, mark, y, axis)?;
            y += MARK_HEIGHT;
        }
        row_top += row_height(row);
    }
    Ok(())
}

fn draw_mark(
    canvas: &Canvas<'_, '_>,
    mark: &Mark,
    y: i32,
    axis: canvas::PercentAxis,
) -> Result<(), String> {
    use plotters::style::Color as _;
    let Some(failing) = mark.failing else {
        return canvas.text("none allowed", (RIGHT, y), NUMBER);
    };
    let colour = style::mechanism(mark.mechanism);
    let x = axis.at(failing.value);
    canvas.line(&[(axis.at(0.0), y), (x, y)], 10, colour)?;
    if let Some((low, high)) = failing.interval {
        canvas.line(&[(axis.at(low), y), (axis.at(high), y)], 3, style::INK)?;
    }
    canvas.dot((x, y), RADIUS, colour.filled())?;
    let text = format!("{} ({})", estimate(mark.failures), percent(failing.value));
    canvas.text(&text, (RIGHT, y), NUMBER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{analyse, fixture};

    #[test]
    fn every_mechanism_has_a_mark_for_every_policy() {
        let runs = tempfile::tempdir().unwrap();
        let run = fixture::run(runs.path(), None);
        let analysis = analyse(&run, fixture::judge).unwrap();
        let figure = figure(&analysis.summary).unwrap();
        assert_eq!(
            figure.mechanisms,
            ["own+redirect", "own+redirect, no transformer"]
        );
        let [panel] = &figure.panels[..] else {
            panic!("{} panels", figure.panels.len());
        };
        assert_eq!(panel.name, "kvd-2-3");
        for row in &panel.rows {
            let mechanisms: Vec<usize> = row.marks.iter().map(|mark| mark.mechanism).collect();
            assert_eq!(mechanisms, [0, 1], "{}", row.label);
        }
        // `kvd-2-3` never fails but for a flaky point; `-bare` crashes.
        let any = &panel.rows[0].marks;
        assert!(any[0].failures < 0.5 && any[1].failures > 0.5, "{any:?}");
        let svg = draw(&figure).unwrap();
        assert!(svg.contains("kvd-2-3") && svg.contains("manual"), "{svg}");
    }
}
