//! How many points each policy allows: a row per policy, a dot per pair, and arrows
//! for all pairs together.

use plotters::style::{Color as _, ShapeStyle};

use super::canvas::{self, Canvas, HEADING, NUMBER, ROW_LABEL, label_width};
use super::legend::{Entry, Legend};
use super::style;
use crate::analysis::Summary;
use crate::analysis::statistics::as_float;
use crate::analysis::summary::{Group, GroupKind};
use crate::analysis::table::percent;
use crate::policy::columns;
use crate::study::store::Arm;

/// One policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The policy.
    pub label: String,
    /// Share of the points that it allows in each pair, with the pair's subject by
    /// its place among all subjects.
    pub pairs: Vec<(f64, usize)>,
    /// The same over all pairs.
    pub total: f64,
}

/// Rows of one scope and mechanism.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What sets it apart from other panels; may be empty.
    pub name: String,
    /// How many pairs it shows.
    pub pairs: usize,
    /// One row per policy.
    pub rows: Vec<Row>,
}

/// The whole figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// Subjects, in order.
    pub subjects: Vec<String>,
    /// Panels from top to bottom.
    pub panels: Vec<Panel>,
}

/// What distinguishes a group from the usual scope and mechanism, as its name ends.
#[must_use]
pub fn setting(name: &str) -> &str {
    name.find(" (").map_or("", |at| name[at..].trim())
}

/// The figure of a run; none without an update that a workload enters. Controls and
/// unreached pairs are left out.
#[must_use]
pub fn figure(summary: &Summary) -> Option<Figure> {
    let counted: Vec<&Group> = summary
        .pairs
        .iter()
        .filter(|group| group.arm == Arm::Update && !group.unreached && group.population > 0)
        .collect();
    let subject = |group: &Group| group.name.split('-').next().unwrap_or_default().to_owned();
    let mut subjects: Vec<String> = Vec::new();
    for name in counted.iter().map(|group| subject(group)) {
        if !subjects.contains(&name) {
            subjects.push(name);
        }
    }
    let panels: Vec<Panel> = summary
        .totals
        .iter()
        .filter(|group| group.kind == GroupKind::Total && group.population > 0)
        .map(|total| {
            let of_panel: Vec<&Group> = counted
                .iter()
                .filter(|group| setting(&group.name) == setting(&total.name))
                .copied()
                .collect();
            let place = |group: &Group| {
                let name = subject(group);
                subjects.iter().position(|of| *of == name).unwrap_or(0)
            };
            Panel {
                name: setting(&total.name).to_owned(),
                pairs: of_panel.len(),
                rows: columns()
                    .map(|column| Row {
                        label: style::policy_label(column),
                        pairs: of_panel
                            .iter()
                            .map(|group| (share(group, column), place(group)))
                            .collect(),
                        total: share(total, column),
                    })
                    .collect(),
            }
        })
        .collect();
    (!panels.is_empty()).then_some(Figure { subjects, panels })
}

fn share(group: &Group, column: &str) -> f64 {
    let of = group.policies.iter().find(|of| of.policy == column);
    of.map_or(0.0, |of| as_float(of.allowed) / as_float(group.population))
}

const MARGIN: i32 = 10;
const RIGHT: i32 = 1690;
const PLOT_RIGHT: i32 = 1480;
const LABEL_GAP: i32 = 36;
const HEADING_HEIGHT: i32 = 64;
const ROW_HEIGHT: i32 = 116;
const AXIS_HEIGHT: i32 = 132;
const RADIUS: i32 = 12;
/// How far dots may stray from the middle of their row.
const STRAY: i32 = 28;
/// Height of the arrows that mark all pairs together.
const ARROW: i32 = 15;

/// Draws the figure as SVG, one column wide.
///
/// # Errors
/// The drawing library's, as text.
pub fn draw(figure: &Figure) -> Result<String, String> {
    let labels = figure.panels.iter().flat_map(|panel| &panel.rows);
    let widest = labels.map(|row| label_width(&row.label)).max();
    let left = MARGIN + widest.unwrap_or(0) + LABEL_GAP;
    let legend = legend(figure);
    let panels: i32 = figure.panels.iter().map(panel_height).sum();
    let height = MARGIN + legend.height() + panels;
    canvas::draw(style::WIDTH_MM, height, |canvas| {
        legend.draw(canvas, (MARGIN, MARGIN))?;
        let mut top = MARGIN + legend.height();
        for panel in &figure.panels {
            draw_panel(canvas, panel, left, top)?;
            top += panel_height(panel);
        }
        Ok(())
    })
}

fn legend(figure: &Figure) -> Legend {
    if figure.subjects.len() < 2 {
        return Legend::default();
    }
    let entries = figure.subjects.iter().enumerate();
    let entries = entries.map(|(place, name)| Entry {
        colour: style::subject(place),
        name: name.clone(),
    });
    Legend {
        rows: vec![("subject", entries.collect())],
    }
}

fn panel_height(panel: &Panel) -> i32 {
    HEADING_HEIGHT + ROW_HEIGHT * i32::try_from(panel.rows.len()).unwrap_or(0) + AXIS_HEIGHT
}

fn draw_panel(canvas: &Canvas<'_, '_>, panel: &Panel, left: i32, top: i32) -> Result<(), String> {
    let several = panel.pairs > 1;
    let heading = match (several, panel.name.is_empty()) {
        (true, true) => format!("{} pairs", panel.pairs),
        (true, false) => format!("{} pairs {}", panel.pairs, panel.name),
        (false, _) => format!("one pair {}", panel.name),
    };
    canvas.text(&heading, (MARGIN, top + HEADING_HEIGHT / 2), HEADING)?;
    let what = if several { "in all" } else { "points" };
    canvas.text(what, (RIGHT, top + HEADING_HEIGHT / 2), NUMBER)?;
    let first = top + HEADING_HEIGHT;
    let bottom = first + ROW_HEIGHT * i32::try_from(panel.rows.len()).unwrap_or(0);
    let title = if several {
        "points allowed: dots are pairs, arrows mark all pairs"
    } else {
        "points allowed"
    };
    let axis = canvas.percent_axis((left, PLOT_RIGHT), (first, bottom), title)?;
    for (place, row) in panel.rows.iter().enumerate() {
        let middle = first + ROW_HEIGHT * i32::try_from(place).unwrap_or(0) + ROW_HEIGHT / 2;
        canvas.text(&row.label, (left - LABEL_GAP, middle), ROW_LABEL)?;
        let xs: Vec<i32> = row.pairs.iter().map(|(share, _)| axis.at(*share)).collect();
        for ((_, subject), place) in row.pairs.iter().zip(swarm(&xs)) {
            let centre = (place.0, middle + place.1);
            let style: ShapeStyle = style::PAPER.filled();
            canvas.dot(centre, RADIUS + 3, style)?;
            canvas.dot(centre, RADIUS, style::subject(*subject).filled())?;
        }
        if several {
            // Beside the dots, which it must not hide.
            let x = axis.at(row.total);
            for side in [-1, 1] {
                let base = middle + side * (ROW_HEIGHT / 2 - 2);
                let tip = base - side * ARROW;
                canvas.shape(&[(x - 12, base), (x + 12, base), (x, tip)], style::INK)?;
            }
        }
        canvas.text(&percent(row.total), (RIGHT, middle), NUMBER)?;
    }
    Ok(())
}

/// Places for dots at `xs`, those that would cover each other moved up and down in
/// turn.
fn swarm(xs: &[i32]) -> Vec<(i32, i32)> {
    let near = |a: i32, b: i32| (a - b).abs() < 2 * RADIUS;
    (0..xs.len())
        .map(|index| {
            let crowd = xs.iter().filter(|x| near(**x, xs[index])).count();
            let before = xs[..index].iter().filter(|x| near(**x, xs[index])).count();
            let [crowd, before] = [crowd, before].map(|count| i32::try_from(count).unwrap_or(0));
            // Not further apart than the row allows, whatever the crowd.
            let step = (2 * RADIUS + 2).min(2 * STRAY / (crowd - 1).max(1));
            let side = if before % 2 == 0 { 1 } else { -1 };
            (xs[index], side * ((before + 1) / 2) * step)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{analyse, fixture};

    #[test]
    fn rows_hold_pairs_that_count_and_their_total() {
        let runs = tempfile::tempdir().unwrap();
        let run = fixture::run(runs.path(), None);
        let analysis = analyse(&run, fixture::judge).unwrap();
        let figure = figure(&analysis.summary).unwrap();
        assert_eq!(figure.subjects, ["kvd"]);
        let [panel] = &figure.panels[..] else {
            panic!("{} panels", figure.panels.len());
        };
        // kvd-3-4 is unreached, and the control is none.
        assert_eq!(panel.pairs, 3);
        let activeness = &panel.rows[0];
        let shares: Vec<f64> = activeness.pairs.iter().map(|(share, _)| *share).collect();
        assert_eq!(shares, [13.0 / 17.0, 1.0, 1.0]);
        assert!((activeness.total - 47.0 / 51.0).abs() < 1e-9);
        let svg = draw(&figure).unwrap();
        assert!(svg.contains("3 pairs") && svg.contains("AS"), "{svg}");
    }

    #[test]
    fn dots_of_a_crowd_stay_in_their_row_and_apart() {
        let places = swarm(&[100; 25]);
        let offsets: std::collections::BTreeSet<i32> =
            places.iter().map(|(_, offset)| *offset).collect();
        assert_eq!(offsets.len(), 25);
        assert!(offsets.iter().all(|offset| offset.abs() <= ROW_HEIGHT / 2));
        assert_eq!(swarm(&[100, 900]), [(100, 0), (900, 0)]);
    }
}
