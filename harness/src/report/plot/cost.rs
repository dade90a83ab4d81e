//! What one update test costs, by engine: a mark per way on a logarithmic axis of
//! time, a panel per bench.

use super::canvas::{self, Canvas, HEADING, NUMBER, ROW_LABEL, TICK, label_width, whole};
use super::style;
use crate::bench::Way;
use crate::bench::kept::Kept;

/// Ways in the order of their rows.
const WAYS: [Way; 7] = [
    Way::Gdb,
    Way::Untraced,
    Way::Restart,
    Way::ForkServer,
    Way::ForkSnapshot,
    Way::Rollback,
    Way::Floor,
];

/// One way.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Its name.
    pub label: &'static str,
    /// Microseconds of a test: tenth percentile, median, ninetieth.
    pub times: [f64; 3],
    /// How many times the cost of restart, or its part.
    pub to_restart: Option<f64>,
}

/// One bench.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What it shows.
    pub name: String,
    /// Its ways.
    pub marks: Vec<Mark>,
}

/// One figure.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// File name without extension.
    pub name: &'static str,
    /// Powers of ten of microseconds where the axis begins and ends.
    pub decades: (i32, i32),
    /// Panels from top to bottom.
    pub panels: Vec<Panel>,
}

/// The figures of kept benches: `cost`, a panel for each session as it is, and
/// `cost-memory` where a session was measured with memory added, too.
#[must_use]
pub fn figures(kept: &[Kept]) -> Vec<Figure> {
    let plain: Vec<&Kept> = kept.iter().filter(|b| b.resident_mib == 0).collect();
    let added: Vec<&Kept> = kept.iter().filter(|b| b.resident_mib > 0).collect();
    let memory: Vec<&Kept> = plain
        .iter()
        .copied()
        .filter(|bench| added.iter().any(|other| of_one_session(bench, other)))
        .chain(added.iter().copied())
        .collect();
    let by_subject = figure("cost", &plain, |bench| {
        let which = if bench.neighbours {
            format!("{} points", bench.points)
        } else {
            bench.tested().to_owned()
        };
        format!("{}, {} ({which})", bench.pair, bench.workload)
    });
    let by_memory = figure("cost-memory", &memory, |bench| match bench.resident_mib {
        0 => format!("{}, {}", bench.pair, bench.workload),
        mib => format!("{}, {}, {mib} MiB added", bench.pair, bench.workload),
    });
    by_subject.into_iter().chain(by_memory).collect()
}

fn of_one_session(one: &Kept, other: &Kept) -> bool {
    let session = |bench: &Kept| (bench.pair.clone(), bench.workload.clone(), bench.neighbours);
    session(one) == session(other)
}

fn figure(
    name: &'static str,
    benches: &[&Kept],
    heading: impl Fn(&Kept) -> String,
) -> Option<Figure> {
    let panels: Vec<Panel> = benches
        .iter()
        .map(|bench| Panel {
            name: heading(bench),
            marks: marks(bench),
        })
        .collect();
    let times = || panels.iter().flat_map(|p| &p.marks).flat_map(|m| m.times);
    let least = times().fold(f64::INFINITY, f64::min);
    let most = times().fold(0.0, f64::max);
    let first = whole(least.max(1.0).log10().floor());
    let last = whole(most.max(1.0).log10().ceil()).max(first + 1);
    (!panels.is_empty()).then_some(Figure {
        name,
        decades: (first, last),
        panels,
    })
}

fn marks(bench: &Kept) -> Vec<Mark> {
    let restart = bench.median(Way::Restart);
    let mark = |way: Way| {
        let row = bench.rows.iter().find(|row| row.engine == way.name())?;
        Some(Mark {
            label: way.name(),
            times: [row.us_p10, row.us_median, row.us_p90],
            to_restart: restart.map(|restart| row.us_median / restart),
        })
    };
    WAYS.into_iter().filter_map(mark).collect()
}

const MARGIN: i32 = 10;
const RIGHT: i32 = 1690;
const PLOT_RIGHT: i32 = 1190;
const LABEL_GAP: i32 = 36;
const HEADING_HEIGHT: i32 = 70;
const ROW_HEIGHT: i32 = 62;
const AXIS_HEIGHT: i32 = 132;
const RADIUS: i32 = 13;

/// Draws a figure as SVG, one column wide.
///
/// # Errors
/// The drawing library's, as text.
pub fn draw(figure: &Figure) -> Result<String, String> {
    let widest = WAYS.iter().map(|way| label_width(way.name())).max();
    let left = MARGIN + widest.unwrap_or(0) + LABEL_GAP;
    let panels: i32 = figure.panels.iter().map(panel_height).sum();
    let height = MARGIN + panels + AXIS_HEIGHT;
    canvas::draw(style::WIDTH_MM, height, |canvas| {
        let (first, last) = figure.decades;
        let per_decade = f64::from(PLOT_RIGHT - left) / f64::from(last - first);
        let at = |time: f64| left + whole((time.log10() - f64::from(first)) * per_decade);
        let mut top = MARGIN;
        for panel in &figure.panels {
            let bottom = top + panel_height(panel);
            for decade in first..=last {
                let x = at(10f64.powi(decade));
                canvas.line(&[(x, top + HEADING_HEIGHT), (x, bottom)], 2, style::GRID)?;
            }
            draw_panel(canvas, panel, (left, top), &at)?;
            top = bottom;
        }
        for decade in first..=last {
            let place = (at(10f64.powi(decade)), top + 36);
            canvas.text(&duration(decade), place, TICK)?;
        }
        let middle = i32::midpoint(left, PLOT_RIGHT);
        let title = "time of one test: median, 10–90 %";
        canvas.text(title, (middle, top + 92), TICK)
    })
}

fn panel_height(panel: &Panel) -> i32 {
    HEADING_HEIGHT + ROW_HEIGHT * i32::try_from(panel.marks.len()).unwrap_or(0)
}

fn draw_panel(
    canvas: &Canvas<'_, '_>,
    panel: &Panel,
    (left, top): (i32, i32),
    at: &impl Fn(f64) -> i32,
) -> Result<(), String> {
    use plotters::style::Color as _;
    let heading = top + HEADING_HEIGHT / 2;
    canvas.text(&panel.name, (MARGIN, heading), HEADING)?;
    canvas.text("µs (to restart)", (RIGHT, heading), NUMBER)?;
    let mut y = top + HEADING_HEIGHT + ROW_HEIGHT / 2;
    for mark in &panel.marks {
        let colour = if mark.label == Way::Restart.name() {
            style::INK
        } else {
            style::subject(0)
        };
        let [low, median, high] = mark.times.map(at);
        canvas.text(mark.label, (left - LABEL_GAP, y), ROW_LABEL)?;
        canvas.line(&[(low, y), (high, y)], 5, colour)?;
        canvas.dot((median, y), RADIUS, colour.filled())?;
        canvas.text(&cost(mark), (RIGHT, y), NUMBER)?;
        y += ROW_HEIGHT;
    }
    Ok(())
}

fn cost(mark: &Mark) -> String {
    let time = format!("{:.0}", mark.times[1]);
    let time = canvas::thousands(time.parse().unwrap_or(0));
    match mark.to_restart {
        Some(_) if mark.label == Way::Restart.name() => time,
        Some(ratio) if ratio > 1.0 => format!("{time} (× {ratio:.1})"),
        Some(ratio) => format!("{time} (÷ {:.1})", 1.0 / ratio),
        None => time,
    }
}

/// A power of ten of microseconds.
fn duration(decade: i32) -> String {
    let power = |decade: i32| 10_u32.pow(decade.unsigned_abs());
    match decade {
        ..=2 => format!("{} µs", power(decade.max(0))),
        3..=5 => format!("{} ms", power(decade - 3)),
        _ => format!("{} s", power(decade - 6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::kept::tests::bench;

    #[test]
    fn every_subject_has_a_panel_and_memory_a_figure_of_its_own() {
        let ways = [
            (Way::Gdb, 400_000.0),
            (Way::Restart, 4000.0),
            (Way::Rollback, 200.0),
        ];
        let kept = [
            bench("kvd", 0, &ways),
            bench("kvd", 200, &ways),
            bench("ngircd", 0, &ways),
        ];
        let figures = figures(&kept);
        let shown: Vec<_> = figures
            .iter()
            .map(|figure| (figure.name, figure.panels.len(), figure.decades))
            .collect();
        assert_eq!(shown, [("cost", 2, (2, 6)), ("cost-memory", 2, (2, 6))]);
        let svg = draw(&figures[1]).unwrap();
        for text in [
            "200 MiB added",
            "200 (÷ 20.0)",
            "400,000 (× 100.0)",
            "1 ms",
            "1 s",
        ] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }
}
