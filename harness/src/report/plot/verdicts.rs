//! The study's figure: for each pair, one bar per policy that shows how the
//! updates end that the policy allows.

use std::collections::BTreeMap;

use super::canvas::{
    self, Canvas, HEADING, NUMBER, REMARK, ROW_LABEL, TICK, label_width, thousands, whole,
};
use super::legend::{self, Legend};
use super::style;
use crate::analysis::Summary;
use crate::analysis::rows::Outcome;
use crate::analysis::summary::{Group, GroupKind};
use crate::study::store::Arm;

/// Height of the bars of one figure, so that it fits a page with its caption.
const TALLEST_MM: f64 = 205.0;

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
    pages(&groups)
        .into_iter()
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

/// Groups by page: as many as fit, and no page much emptier than the others.
fn pages(groups: &[BarGroup]) -> Vec<&[BarGroup]> {
    let height: i32 = groups.iter().map(group_height).max().unwrap_or(1);
    let per_page = whole(TALLEST_MM * style::UNITS_PER_MM) / height;
    let per_page = usize::try_from(per_page).unwrap_or(1).max(1);
    let pages = groups.len().div_ceil(per_page).max(1);
    groups.chunks(groups.len().div_ceil(pages).max(1)).collect()
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
                label: style::policy_label(measures.policy),
                allowed: measures.allowed,
                outcomes: measures.tally.outcomes.clone(),
            })
            .collect(),
    }
}

const MARGIN: i32 = 10;
const RIGHT: i32 = 1690;
const BARS_RIGHT: i32 = 1490;
const LABEL_GAP: i32 = 20;
const HEADING_HEIGHT: i32 = 64;
const GROUP_GAP: i32 = 22;
const AXIS_HEIGHT: i32 = 70;
/// Height of a bar and of its row: bars are thinner where there are many.
const BARS: (i32, i32) = (54, 62);
const THIN_BARS: (i32, i32) = (44, 53);
/// A failure that is rarer than this would vanish; it is drawn this wide.
const NARROWEST: f64 = 7.0;

fn bar_heights(group: &BarGroup) -> (i32, i32) {
    if group.bars.len() > 4 {
        THIN_BARS
    } else {
        BARS
    }
}

fn group_height(group: &BarGroup) -> i32 {
    let bars = i32::try_from(group.bars.len()).unwrap_or(0);
    HEADING_HEIGHT + bar_heights(group).1 * bars + GROUP_GAP
}

/// Draws a figure as SVG, one column wide.
///
/// # Errors
/// The drawing library's, as text.
pub fn draw(figure: &Figure) -> Result<String, String> {
    let labels = figure.groups.iter().flat_map(|group| &group.bars);
    let widest = labels.map(|bar| label_width(&bar.label)).max();
    let drawing = Drawing {
        bars_left: MARGIN + widest.unwrap_or(0) + LABEL_GAP,
        legend: legend::outcomes(occurring(figure)),
    };
    let bars: i32 = figure.groups.iter().map(group_height).sum();
    let height = MARGIN + drawing.legend.height() + GROUP_GAP + bars + AXIS_HEIGHT;
    canvas::draw(style::WIDTH_MM, height, |canvas| {
        drawing.all(canvas, figure)
    })
}

fn occurring(figure: &Figure) -> impl Fn(Outcome) -> bool {
    move |outcome| {
        figure
            .groups
            .iter()
            .flat_map(|group| &group.bars)
            .any(|bar| bar.outcomes.contains_key(&outcome))
    }
}

struct Drawing {
    bars_left: i32,
    legend: Legend,
}

impl Drawing {
    fn all(&self, canvas: &Canvas<'_, '_>, figure: &Figure) -> Result<(), String> {
        self.legend.draw(canvas, (MARGIN, MARGIN))?;
        let mut y = MARGIN + self.legend.height() + GROUP_GAP;
        canvas.text("points", (RIGHT, y + HEADING_HEIGHT / 2), NUMBER)?;
        for group in &figure.groups {
            self.group(canvas, group, y)?;
            y += group_height(group);
        }
        for (quarter, x) in self.quarters() {
            let label = format!("{} %", quarter * 25);
            canvas.text(&label, (x, y - GROUP_GAP + AXIS_HEIGHT / 2 + 8), TICK)?;
        }
        Ok(())
    }

    fn group(&self, canvas: &Canvas<'_, '_>, group: &BarGroup, top: i32) -> Result<(), String> {
        let (height, step) = bar_heights(group);
        let heading = (MARGIN, top + HEADING_HEIGHT / 2);
        canvas.text(&group.name, heading, HEADING)?;
        for (_, x) in self.quarters() {
            let bottom = top + group_height(group) - GROUP_GAP;
            canvas.line(
                &[(x, top + HEADING_HEIGHT - 6), (x, bottom)],
                2,
                style::GRID,
            )?;
        }
        let mut y = top + HEADING_HEIGHT;
        for bar in &group.bars {
            let middle = y + height / 2;
            canvas.text(&bar.label, (self.bars_left - LABEL_GAP, middle), ROW_LABEL)?;
            self.bar(canvas, bar, (y, y + height))?;
            canvas.text(&thousands(bar.allowed), (RIGHT, middle), NUMBER)?;
            y += step;
        }
        Ok(())
    }

    fn bar(
        &self,
        canvas: &Canvas<'_, '_>,
        bar: &Bar,
        (top, bottom): (i32, i32),
    ) -> Result<(), String> {
        let left = self.bars_left;
        let segments = segments(bar, f64::from(BARS_RIGHT - left));
        if segments.is_empty() {
            canvas.fill((left, top), (BARS_RIGHT, bottom), style::TROUGH)?;
            let text = if bar.allowed == 0 {
                "no point"
            } else {
                "not tested"
            };
            return canvas.text(text, (left + LABEL_GAP, i32::midpoint(top, bottom)), REMARK);
        }
        let mut left = f64::from(left);
        for (outcome, width) in segments {
            let right = left + width;
            let last = right > f64::from(BARS_RIGHT) - 1.0;
            // A hairline of paper sets neighbours apart.
            let edge = if last { BARS_RIGHT } else { whole(right) - 2 };
            canvas.fill((whole(left), top), (edge, bottom), style::colour(outcome))?;
            left = right;
        }
        Ok(())
    }

    /// Places of the axis' labels: 0, 25, … 100 %.
    fn quarters(&self) -> impl Iterator<Item = (i32, i32)> {
        let (left, width) = (self.bars_left, BARS_RIGHT - self.bars_left);
        (0..=4).map(move |quarter| (quarter, left + width * quarter / 4))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::Verdict;

    fn groups(pairs: usize, policies: &[&str]) -> Vec<BarGroup> {
        let bar = |policy: &&str| Bar {
            label: style::policy_label(policy),
            allowed: 1234,
            outcomes: Outcome::TABLE_ORDER
                .into_iter()
                .map(|outcome| (outcome, 10.0))
                .collect(),
        };
        let bars: Vec<Bar> = policies.iter().map(bar).collect();
        (0..pairs)
            .map(|pair| BarGroup {
                name: format!("vsftpd-q{pair:04}-q{:04}", pair + 1),
                bars: bars.clone(),
            })
            .collect()
    }

    const POLICIES: [&str; 9] = [
        "any",
        "activeness",
        "activeness_edited",
        "activeness_conservative",
        "activeness_except_named",
        "activeness_rest",
        "con_free",
        "con_free_field",
        "manual",
    ];

    #[test]
    fn many_pairs_and_policies_fill_pages_evenly() {
        let all = groups(26, &POLICIES);
        let pages = pages(&all);
        let sizes: Vec<usize> = pages.iter().map(|page| page.len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 26);
        assert!(
            sizes
                .windows(2)
                .all(|of| of[0].abs_diff(of[1]) <= sizes[0] / 2),
            "{sizes:?}"
        );
        for page in pages {
            let figure = Figure {
                name: "verdicts".to_owned(),
                groups: page.to_vec(),
            };
            let svg = draw(&figure).unwrap();
            let height = svg.split("height=\"").nth(1).unwrap();
            let height: f64 = height.split("mm").next().unwrap().parse().unwrap();
            assert!(height < 230.0, "{height} mm");
        }
        assert_eq!(super::pages(&groups(3, &POLICIES[..3])).len(), 1);
    }

    #[test]
    fn what_is_rare_is_still_seen() {
        let rare = Outcome::Verdict(Verdict::Crash);
        let bar = Bar {
            label: "any".to_owned(),
            allowed: 100_000,
            outcomes: [(rare, 1.0), (Outcome::Verdict(Verdict::New), 99_999.0)].into(),
        };
        let segments = segments(&bar, 1000.0);
        let sum: f64 = segments.iter().map(|(_, width)| width).sum();
        assert!((sum - 1000.0).abs() < 1e-9);
        assert_eq!(segments.last(), Some(&(rare, NARROWEST)));
    }
}
