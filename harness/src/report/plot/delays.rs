//! How long updates wait: for each policy, the share of the requests that are
//! served within a delay. Where a curve stays below 100 %, the rest is never served.

use super::allowed::setting;
use super::canvas::{self, Canvas, HEADING, LABEL, NUMBER, TICK, label_width, whole};
use super::style::{self, CurveStyle};
use crate::analysis::Summary;
use crate::analysis::statistics::as_float;
use crate::analysis::summary::{Group, GroupKind, PolicyMeasures};

/// One curve: shares of the requests served at once and within each delay.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// The policy's column.
    pub policy: &'static str,
    /// Served at once.
    pub at_once: f64,
    /// Delays, rising, and the share served within each.
    pub within: Vec<(f64, f64)>,
}

/// Curves of one subject, or of all.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What it shows.
    pub name: String,
    /// One curve per policy whose delays are known.
    pub curves: Vec<Curve>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// File name without extension.
    pub name: &'static str,
    /// What its horizontal axis measures.
    pub axis: &'static str,
    /// Powers of ten where the axis begins and ends.
    pub decades: (i32, i32),
    /// Panels from top to bottom.
    pub panels: Vec<Panel>,
}

/// The figures of a run: delays in time, where they are known, and in points.
#[must_use]
pub fn figures(summary: &Summary) -> Vec<Figure> {
    let in_time = Figure {
        name: "delays",
        axis: "delay in ms",
        decades: (-3, 0),
        panels: panels(summary, times),
    };
    let in_points = Figure {
        name: "delays-points",
        axis: "delay in points",
        decades: (0, 0),
        panels: panels(summary, points),
    };
    let known = [in_time, in_points].into_iter();
    known
        .filter(|figure| !figure.panels.is_empty())
        .map(|mut figure| {
            figure.decades.1 = end(&figure.panels).max(figure.decades.0 + 1);
            figure
        })
        .collect()
}

/// The power of ten within which every curve has reached its height.
fn end(panels: &[Panel]) -> i32 {
    let curves = panels.iter().flat_map(|panel| &panel.curves);
    let reached = |curve: &Curve| {
        let height = curve.within.last()?.1;
        let reached = curve.within.iter().find(|(_, share)| *share >= height)?;
        Some(reached.0)
    };
    let last = curves.filter_map(reached).fold(0.0, f64::max);
    whole(last.max(1e-9).log10().ceil())
}

/// Subjects of each setting, and their total where there are several.
fn panels(summary: &Summary, curve: fn(&PolicyMeasures) -> Option<Curve>) -> Vec<Panel> {
    let totals = summary.totals.iter().filter(|total| {
        let in_total = |group: &&Group| setting(&group.name) == setting(&total.name);
        total.kind == GroupKind::Total && summary.subjects.iter().filter(in_total).count() > 1
    });
    let groups = totals.chain(&summary.subjects);
    let panels = groups.map(|group| Panel {
        name: match group.kind {
            GroupKind::Total => {
                format!("all {} pairs {}", group.pairs, setting(&group.name))
            }
            _ => group.name.clone(),
        },
        curves: group.policies.iter().filter_map(curve).collect(),
    });
    panels.filter(|panel| !panel.curves.is_empty()).collect()
}

/// Delays from 1 µs up, evenly on a logarithmic axis.
const PER_DECADE: i32 = 60;

fn times(measures: &PolicyMeasures) -> Option<Curve> {
    let delays = measures.times()?;
    let within = (0..=8 * PER_DECADE).filter_map(|step| {
        let microseconds = 10f64.powf(f64::from(step) / f64::from(PER_DECADE));
        let share = delays.share_within(microseconds)?;
        Some((microseconds / 1000.0, share))
    });
    Some(Curve {
        policy: measures.policy,
        at_once: delays.share_within(0.0)?,
        within: within.collect(),
    })
}

fn points(measures: &PolicyMeasures) -> Option<Curve> {
    let delays = &measures.at_point.points;
    let mut within: Vec<(f64, f64)> = Vec::new();
    let mut limit: u64 = 1;
    while within.len() < 2000 {
        let share = delays.share_within(limit)?;
        // A step: the share holds up to the next delay.
        if let Some((_, before)) = within.last().copied() {
            within.push((as_float(limit), before));
        }
        within.push((as_float(limit), share));
        if delays.longest().is_none_or(|longest| limit >= longest) {
            break;
        }
        limit += (limit / 40).max(1);
    }
    Some(Curve {
        policy: measures.policy,
        at_once: delays.share_within(0)?,
        within,
    })
}

const MARGIN: i32 = 14;
const LEFT: i32 = 170;
const RIGHT: i32 = 1650;
const PAPER_RIGHT: i32 = 1692;
/// Between the place of what is served at once and the logarithmic axis.
const BREAK: i32 = 236;
const HEADING_HEIGHT: i32 = 96;
const PANEL_HEIGHT: i32 = 660;
const AXIS_HEIGHT: i32 = 140;
const LEGEND_ROW: i32 = 58;
const SAMPLE: i32 = 130;

/// Draws a figure as SVG, one column wide.
///
/// # Errors
/// The drawing library's, as text.
pub fn draw(figure: &Figure) -> Result<String, String> {
    let mut policies: Vec<&'static str> = Vec::new();
    for curve in figure.panels.iter().flat_map(|panel| &panel.curves) {
        if !policies.contains(&curve.policy) {
            policies.push(curve.policy);
        }
    }
    let rows = i32::try_from(policies.len().div_ceil(2)).unwrap_or(0);
    let step = HEADING_HEIGHT + PANEL_HEIGHT + AXIS_HEIGHT;
    let panels = i32::try_from(figure.panels.len()).unwrap_or(0);
    let height = MARGIN + rows * LEGEND_ROW + panels * step;
    canvas::draw(style::WIDTH_MM, height, |canvas| {
        legend(canvas, &policies, rows)?;
        let mut top = MARGIN + rows * LEGEND_ROW;
        for panel in &figure.panels {
            draw_panel(canvas, figure, panel, top)?;
            top += step;
        }
        Ok(())
    })
}

/// Two columns of policies, in reading order down each.
fn legend(canvas: &Canvas<'_, '_>, policies: &[&str], rows: i32) -> Result<(), String> {
    for (place, policy) in policies.iter().enumerate() {
        let place = i32::try_from(place).unwrap_or(0);
        let column = place / rows.max(1);
        let x = MARGIN + column * (RIGHT + MARGIN) / 2;
        let y = MARGIN + place % rows.max(1) * LEGEND_ROW + LEGEND_ROW / 2;
        let CurveStyle {
            colour,
            dashes,
            width,
        } = style::curve_of(policy);
        canvas.dashed(&[(x, y), (x + SAMPLE, y)], width, colour, dashes)?;
        let label = style::policy_label(policy);
        canvas.text(&label, (x + SAMPLE + 24, y), LABEL)?;
    }
    Ok(())
}

fn draw_panel(
    canvas: &Canvas<'_, '_>,
    figure: &Figure,
    panel: &Panel,
    top: i32,
) -> Result<(), String> {
    canvas.text(&panel.name, (MARGIN, top + HEADING_HEIGHT / 2), HEADING)?;
    let top = top + HEADING_HEIGHT;
    let bottom = top + PANEL_HEIGHT;
    let (first, last) = figure.decades;
    let begin = LEFT + BREAK;
    let per_decade = f64::from(RIGHT - begin) / f64::from(last - first);
    let at = |delay: f64| {
        let decades = delay.log10() - f64::from(first);
        begin + whole(decades * per_decade)
    };
    let height = |share: f64| bottom - whole(f64::from(PANEL_HEIGHT) * share);
    canvas.fill((LEFT, top), (begin - 20, bottom), style::TROUGH)?;
    for quarter in 0..=4 {
        let y = height(f64::from(quarter) / 4.0);
        canvas.line(&[(LEFT, y), (RIGHT, y)], 2, style::GRID)?;
        let label = format!("{} %", quarter * 25);
        canvas.text(&label, (LEFT - 20, y), NUMBER)?;
    }
    let at_once = LEFT + BREAK / 2 - 46;
    let mut labelled = at_once + label_width("at once") / 2;
    canvas.text("at once", (at_once, bottom + 42), TICK)?;
    for decade in first..=last {
        let x = at(10f64.powi(decade));
        canvas.line(&[(x, top), (x, bottom)], 2, style::GRID)?;
        let label = power(decade);
        let half = label_width(&label) / 2;
        if x - half > labelled + 8 {
            // The last label must not stick out of the paper.
            let x = x.min(PAPER_RIGHT - half);
            canvas.text(&label, (x, bottom + 42), TICK)?;
            labelled = x + half;
        }
    }
    let middle = i32::midpoint(LEFT, RIGHT);
    canvas.text(figure.axis, (middle, bottom + 98), TICK)?;
    for curve in &panel.curves {
        let CurveStyle {
            colour,
            dashes,
            width,
        } = style::curve_of(curve.policy);
        let mut line = vec![(LEFT, height(curve.at_once))];
        line.push((begin.min(RIGHT), height(curve.at_once)));
        for (delay, share) in &curve.within {
            let place = (at(*delay), height(*share));
            if place.0 >= begin && place.0 <= RIGHT && line.last() != Some(&place) {
                line.push(place);
            }
        }
        if let Some(last) = line.last().copied() {
            line.push((RIGHT, last.1));
        }
        canvas.dashed(&line, width, colour, dashes)?;
    }
    Ok(())
}

/// A power of ten as a plain number.
fn power(decade: i32) -> String {
    if decade < 0 {
        format!(
            "{:.*}",
            usize::try_from(-decade).unwrap_or(0),
            10f64.powi(decade)
        )
    } else {
        let number = 10u64.checked_pow(decade.unsigned_abs());
        canvas::thousands(number.unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{analyse, fixture};

    #[test]
    fn curves_rise_to_the_share_that_is_ever_served() {
        let runs = tempfile::tempdir().unwrap();
        let run = fixture::run(runs.path(), None);
        let analysis = analyse(&run, fixture::judge).unwrap();
        let figures = figures(&analysis.summary);
        let names: Vec<&str> = figures.iter().map(|figure| figure.name).collect();
        assert_eq!(names, ["delays", "delays-points"]);
        for figure in &figures {
            let [panel] = &figure.panels[..] else {
                panic!("{} panels", figure.panels.len());
            };
            assert_eq!(panel.name, "kvd");
            for curve in &panel.curves {
                let mut before = curve.at_once;
                for (_, share) in &curve.within {
                    assert!(*share >= before - 1e-12, "{}", curve.policy);
                    before = *share;
                }
            }
            let manual = panel.curves.last().unwrap();
            assert_eq!(manual.policy, "manual");
            assert!(manual.within.last().unwrap().1 < 0.9);
            assert!(draw(figure).unwrap().contains("at once"));
        }
        // The longest delay in the fixture is 1 ms.
        assert_eq!(figures[0].decades, (-3, 0));
    }

    #[test]
    fn axes_have_plain_numbers() {
        assert_eq!([-3, 0, 4].map(power), ["0.001", "1", "10,000"]);
    }
}
