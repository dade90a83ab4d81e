//! The study's figure: for each pair, one bar per policy that shows how the
//! updates end that the policy allows.

use std::collections::BTreeMap;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::style;
use crate::analysis::Summary;
use crate::analysis::rows::Outcome;
use crate::analysis::summary::{Group, GroupKind};
use crate::policy::columns;
use crate::study::store::Arm;

/// Pairs on one figure, so that it fits a page.
const PAIRS_PER_FIGURE: usize = 14;

/// One bar.
#[derive(Clone, Debug, PartialEq)]
pub struct Bar {
    /// Policy.
    pub label: String,
    /// Points that it allows.
    pub allowed: u64,
    /// Weight of each outcome among the tested points that it allows.
    pub outcomes: BTreeMap<Outcome, f64>,
}

/// Bars of one pair.
#[derive(Clone, Debug, PartialEq)]
pub struct BarGroup {
    /// The pair, or `all pairs`.
    pub name: String,
    /// One bar per policy.
    pub bars: Vec<Bar>,
}

/// What one figure shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// File name without extension.
    pub name: String,
    /// Pairs from top to bottom.
    pub groups: Vec<BarGroup>,
}

/// The figures of a run: pairs in order, the total first where there are
/// several; controls and unreached pairs are left out.
#[must_use]
pub fn figures(summary: &Summary) -> Vec<Figure> {
    let pairs = summary
        .pairs
        .iter()
        .filter(|group| group.arm == Arm::Update && !group.unreached);
    let total = summary
        .totals
        .iter()
        .filter(|group| group.kind == GroupKind::Total && group.pairs > 1);
    let groups: Vec<BarGroup> = total.chain(pairs).map(bar_group).collect();
    groups
        .chunks(PAIRS_PER_FIGURE)
        .enumerate()
        .map(|(place, groups)| Figure {
            name: if place == 0 {
                "verdicts".to_owned()
            } else {
                format!("verdicts-{}", place + 1)
            },
            groups: groups.to_vec(),
        })
        .collect()
}

fn bar_group(group: &Group) -> BarGroup {
    let name = match group.kind {
        GroupKind::Total => format!("all {} pairs", group.pairs),
        _ => group.name.clone(),
    };
    BarGroup {
        name,
        bars: group
            .policies
            .iter()
            .map(|measures| Bar {
                label: label(measures.policy),
                allowed: measures.allowed,
                outcomes: measures.tally.outcomes.clone(),
            })
            .collect(),
    }
}

/// A form of another policy is told by what its name adds, below that one's bar.
fn label(policy: &str) -> String {
    columns()
        .filter_map(|base| policy.strip_prefix(base)?.strip_prefix('_'))
        .min_by_key(|form| form.len())
        .map_or_else(
            || policy.to_owned(),
            |form| format!("– {}", form.replace('_', " ")),
        )
}

const MARGIN: i32 = 10;
const BARS_LEFT: i32 = 400;
const BARS_RIGHT: i32 = 1490;
const RIGHT: i32 = 1690;
const LABEL_GAP: i32 = 20;
const BAR_HEIGHT: i32 = 54;
const BAR_STEP: i32 = 62;
const HEADING_HEIGHT: i32 = 68;
const GROUP_GAP: i32 = 22;
const LEGEND_ROW: i32 = 66;
const SWATCH: i32 = 38;
const AXIS_HEIGHT: i32 = 70;
/// A failure that is rarer than this would vanish; it is drawn this wide.
const NARROWEST: f64 = 7.0;

/// Draws a figure as SVG, one column wide.
///
/// # Errors
/// The drawing library's, as text.
pub fn draw(figure: &Figure) -> Result<String, String> {
    let legend = legend(figure);
    let legend_height = legend.iter().map(|entry| entry.row + 1).max().unwrap_or(0) * LEGEND_ROW;
    let bars: i32 = figure.groups.iter().map(group_height).sum();
    let height = MARGIN + legend_height + GROUP_GAP + bars + AXIS_HEIGHT;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small positive constant"
    )]
    let width = (style::WIDTH_MM * style::UNITS_PER_MM) as u32;
    let mut svg = String::new();
    {
        let size = (width, u32::try_from(height).unwrap_or(1));
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let canvas = Canvas { area: &area };
        canvas
            .all(figure, &legend, legend_height)
            .and_then(|()| area.present().map_err(|error| error.to_string()))?;
    }
    Ok(on_paper(&svg, width, height))
}

/// Gives the SVG its size on paper; the drawing library knows pixels only.
fn on_paper(svg: &str, width: u32, height: i32) -> String {
    let pixels = format!("width=\"{width}\" height=\"{height}\"");
    let millimetres = format!(
        "width=\"{}mm\" height=\"{}mm\"",
        style::WIDTH_MM,
        f64::from(height) / style::UNITS_PER_MM
    );
    svg.replacen(&pixels, &millimetres, 1)
}

fn group_height(group: &BarGroup) -> i32 {
    HEADING_HEIGHT + BAR_STEP * i32::try_from(group.bars.len()).unwrap_or(0) + GROUP_GAP
}

struct LegendEntry {
    outcome: Outcome,
    x: i32,
    row: i32,
}

/// Entries for the outcomes that occur: a row for those that pass, one for those
/// counted apart, one for failures.
fn legend(figure: &Figure) -> Vec<LegendEntry> {
    let occurs = |outcome: &Outcome| {
        figure
            .groups
            .iter()
            .flat_map(|group| &group.bars)
            .any(|bar| bar.outcomes.contains_key(outcome))
    };
    let (mut x, mut row, mut kind) = (BARS_LEFT, 0, None);
    let mut entries = Vec::new();
    for outcome in style::ORDER.into_iter().filter(occurs) {
        if kind.is_some_and(|kind| kind != legend_label(outcome)) {
            (x, row) = (BARS_LEFT, row + 1);
        }
        kind = Some(legend_label(outcome));
        entries.push(LegendEntry { outcome, x, row });
        let text = whole(style::text_width(outcome.name(), style::LABEL_POINTS));
        x += SWATCH + 12 + text + 36;
    }
    entries
}

const fn legend_label(outcome: Outcome) -> &'static str {
    if outcome.is_pass() {
        "passes"
    } else if outcome.is_failure() {
        "fails"
    } else {
        "apart"
    }
}

struct Canvas<'a, 'b> {
    area: &'a DrawingArea<SVGBackend<'b>, plotters::coord::Shift>,
}

/// How a text looks and which of its sides is at its place.
#[derive(Clone, Copy)]
struct Lettering {
    side: HPos,
    colour: RGBColor,
    bold: bool,
}

const LABEL: Lettering = Lettering {
    side: HPos::Left,
    colour: style::INK,
    bold: false,
};
const ROW_LABEL: Lettering = Lettering {
    side: HPos::Right,
    ..LABEL
};
const HEADING: Lettering = Lettering {
    bold: true,
    ..LABEL
};
const REMARK: Lettering = Lettering {
    colour: style::FAINT_INK,
    ..LABEL
};
const NUMBER: Lettering = Lettering {
    side: HPos::Right,
    ..REMARK
};
const TICK: Lettering = Lettering {
    side: HPos::Center,
    ..REMARK
};

impl Canvas<'_, '_> {
    fn all(
        &self,
        figure: &Figure,
        legend: &[LegendEntry],
        legend_height: i32,
    ) -> Result<(), String> {
        self.area
            .fill(&style::PAPER)
            .map_err(|error| error.to_string())?;
        for entry in legend {
            self.legend_entry(entry)?;
        }
        let mut y = MARGIN + legend_height + GROUP_GAP;
        self.text("points", (RIGHT, y + HEADING_HEIGHT / 2), NUMBER)?;
        for group in &figure.groups {
            self.group(group, y)?;
            y += group_height(group);
        }
        for (quarter, x) in quarters() {
            let label = format!("{} %", quarter * 25);
            self.text(&label, (x, y - GROUP_GAP + AXIS_HEIGHT / 2 + 8), TICK)?;
        }
        Ok(())
    }

    fn legend_entry(&self, entry: &LegendEntry) -> Result<(), String> {
        let middle = MARGIN + entry.row * LEGEND_ROW + LEGEND_ROW / 2;
        if entry.x == BARS_LEFT {
            let label = legend_label(entry.outcome);
            self.text(label, (BARS_LEFT - LABEL_GAP, middle), ROW_LABEL)?;
        }
        self.box_filled(
            (entry.x, middle - SWATCH / 2),
            (entry.x + SWATCH, middle + SWATCH / 2),
            style::colour(entry.outcome),
        )?;
        self.text(entry.outcome.name(), (entry.x + SWATCH + 12, middle), LABEL)
    }

    fn group(&self, group: &BarGroup, top: i32) -> Result<(), String> {
        let heading = (MARGIN, top + HEADING_HEIGHT / 2);
        self.text(&group.name, heading, HEADING)?;
        for (_, x) in quarters() {
            let bottom = top + group_height(group) - GROUP_GAP;
            let line = vec![(x, top + HEADING_HEIGHT - 6), (x, bottom)];
            self.draw(&PathElement::new(line, style::GRID.stroke_width(2)))?;
        }
        let mut y = top + HEADING_HEIGHT;
        for bar in &group.bars {
            let middle = y + BAR_HEIGHT / 2;
            self.text(&bar.label, (BARS_LEFT - LABEL_GAP, middle), ROW_LABEL)?;
            self.bar(bar, y)?;
            self.text(&thousands(bar.allowed), (RIGHT, middle), NUMBER)?;
            y += BAR_STEP;
        }
        Ok(())
    }

    fn bar(&self, bar: &Bar, top: i32) -> Result<(), String> {
        let bottom = top + BAR_HEIGHT;
        let segments = segments(bar, f64::from(BARS_RIGHT - BARS_LEFT));
        if segments.is_empty() {
            self.box_filled((BARS_LEFT, top), (BARS_RIGHT, bottom), style::TROUGH)?;
            let text = if bar.allowed == 0 {
                "no point"
            } else {
                "not tested"
            };
            return self.text(text, (BARS_LEFT + LABEL_GAP, top + BAR_HEIGHT / 2), REMARK);
        }
        let mut left = f64::from(BARS_LEFT);
        for (outcome, width) in segments {
            let right = left + width;
            let last = right > f64::from(BARS_RIGHT) - 1.0;
            // A hairline of paper sets neighbours apart.
            let edge = if last { BARS_RIGHT } else { whole(right) - 2 };
            self.box_filled((whole(left), top), (edge, bottom), style::colour(outcome))?;
            left = right;
        }
        Ok(())
    }

    fn box_filled(&self, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<(), String> {
        self.draw(&Rectangle::new([from, to], colour.filled()))
    }

    fn text(&self, text: &str, place: (i32, i32), look: Lettering) -> Result<(), String> {
        let (points, weight) = if look.bold {
            (style::HEADING_POINTS, FontStyle::Bold)
        } else {
            (style::LABEL_POINTS, FontStyle::Normal)
        };
        let family = FontFamily::Name(style::FONT);
        let font = FontDesc::new(family, style::font_size(points), weight);
        let style = TextStyle::from(font)
            .color(&look.colour)
            .pos(Pos::new(look.side, VPos::Center));
        self.draw(&Text::new(text.to_owned(), place, style))
    }

    fn draw<E>(&self, element: &E) -> Result<(), String>
    where
        for<'e> &'e E: plotters::element::PointCollection<'e, (i32, i32)>,
        E: for<'d> plotters::element::Drawable<SVGBackend<'d>>,
    {
        self.area.draw(element).map_err(|error| error.to_string())
    }
}

/// Places of the axis' labels: 0, 25, … 100 %.
fn quarters() -> impl Iterator<Item = (i32, i32)> {
    (0..=4).map(|quarter| (quarter, BARS_LEFT + (BARS_RIGHT - BARS_LEFT) * quarter / 4))
}

/// Outcomes of a bar from left to right with their widths, which add up to
/// `width`. Each is wide enough to be seen; the widest gives way.
fn segments(bar: &Bar, width: f64) -> Vec<(Outcome, f64)> {
    let total: f64 = bar.outcomes.values().sum();
    let mut segments: Vec<(Outcome, f64)> = style::ORDER
        .into_iter()
        .filter_map(|outcome| Some((outcome, *bar.outcomes.get(&outcome)?)))
        .filter(|(_, weight)| *weight > 0.0)
        .map(|(outcome, weight)| (outcome, (weight / total * width).max(NARROWEST)))
        .collect();
    let excess = segments.iter().map(|(_, width)| width).sum::<f64>() - width;
    if let Some((_, widest)) = segments.iter_mut().max_by(|a, b| a.1.total_cmp(&b.1)) {
        *widest -= excess;
    }
    segments
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a coordinate on the figure"
)]
fn whole(coordinate: f64) -> i32 {
    coordinate.round() as i32
}

/// A count with commas between thousands.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
