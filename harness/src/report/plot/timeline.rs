//! A session as a time line: its points from left to right, a lane for each process,
//! every point in the colour of its verdict; below, where each policy allows.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use plotters::style::RGBColor;

use super::canvas::{self, Canvas, HEADING, REMARK, ROW_LABEL, label_width, thousands, whole};
use super::legend::{self, Entry, Legend};
use super::style;
use crate::analysis::rows::Outcome;
use crate::analysis::timeline::{Timeline, TimelinePoint};
use crate::study::store::Arm;

/// Which sessions are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timelines {
    /// So many at most: those with most failing tests.
    Most(usize),
    /// Every session.
    All,
}

impl Default for Timelines {
    fn default() -> Self {
        Self::Most(8)
    }
}

/// A text that says of no number of time lines.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is neither a number nor `all`")]
pub struct ParseTimelinesError(String);

impl FromStr for Timelines {
    type Err = ParseTimelinesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "all" => Ok(Self::All),
            number => number
                .parse()
                .map(Self::Most)
                .map_err(|_| ParseTimelinesError(text.to_owned())),
        }
    }
}

impl fmt::Display for Timelines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.pad("all"),
            Self::Most(number) => write!(f, "{number}"),
        }
    }
}

/// The sessions to draw, in their order. Controls are among them only if all are, or
/// if there is nothing else.
#[must_use]
pub fn chosen(timelines: &[Timeline], which: Timelines) -> Vec<&Timeline> {
    let number = match which {
        Timelines::All => return timelines.iter().collect(),
        Timelines::Most(number) => number,
    };
    let has_updates = timelines.iter().any(|line| line.arm == Arm::Update);
    let mut candidates: Vec<(usize, &Timeline)> = timelines
        .iter()
        .enumerate()
        .filter(|(_, line)| !has_updates || line.arm == Arm::Update)
        .collect();
    candidates.sort_by_key(|(_, line)| std::cmp::Reverse(line.failures));
    candidates.truncate(number);
    candidates.sort_by_key(|(place, _)| *place);
    candidates.into_iter().map(|(_, line)| line).collect()
}

/// File name of a session's figure, without extension.
#[must_use]
pub fn file_name(timeline: &Timeline) -> String {
    let session = &timeline.session;
    let setting = session.labelled("");
    let setting: String = setting
        .chars()
        .map(|letter| {
            if letter.is_alphanumeric() {
                letter
            } else {
                ' '
            }
        })
        .collect();
    let parts = [session.pair.as_str(), session.workload.as_str()].into_iter();
    let parts: Vec<&str> = parts.chain(setting.split_whitespace()).collect();
    format!("timeline-{}", parts.join("-"))
}

const MARGIN: i32 = 16;
const WIDTH: i32 = 3560;
const RIGHT: i32 = WIDTH - 24;
const LABEL_GAP: i32 = 24;
const HEADING_HEIGHT: i32 = 72;
/// Height of a process' lane, and if there are many.
const LANE: i32 = 84;
const THIN_LANE: i32 = 50;
const POLICY_LANE: i32 = 46;
const LANE_GAP: i32 = 10;
/// The narrowest that a bin of points can be: 0.2 mm.
const BIN: i32 = 4;
/// From here on neighbouring points have a hairline between them.
const APART: i32 = 14;
/// With more processes than this, those of one role share a lane.
const MOST_LANES: usize = 16;
/// Letters of an exchange's label.
const MOST_LETTERS: usize = 30;
/// Distance of the labels of neighbouring exchanges, and how far a label may stand
/// beside its exchange.
const LABEL_STEP: i32 = 54;
const MOST_ASIDE: i32 = 130;
/// Height of the lines that lead to the labels.
const LEADER: i32 = 44;

/// Whether a kind of mark is that of an outcome; none for an untested point.
type Wanted = fn(Option<Outcome>) -> bool;

/// A lane of points.
struct Lane {
    label: String,
    /// Which of the time line's lanes it shows.
    of: Vec<usize>,
}

/// Where everything is.
struct Layout<'t> {
    timeline: &'t Timeline,
    lanes: Vec<Lane>,
    lane_height: i32,
    left: i32,
    bins: usize,
}

/// Draws a session as SVG, over both columns of a page.
///
/// # Errors
/// The drawing library's, as text.
pub fn draw(timeline: &Timeline) -> Result<String, String> {
    let layout = Layout::of(timeline);
    let legend = layout.legend();
    let exchanges = layout.exchanges();
    let labels = exchanges.iter().map(|(_, label)| label_width(label)).max();
    let top = MARGIN + HEADING_HEIGHT + legend.height() + LANE_GAP;
    let bottom = top + layout.lanes_height();
    // The width of a text is an estimate.
    let labels = labels.unwrap_or(0) * 11 / 10;
    let height = bottom + LEADER + 10 + labels + MARGIN;
    canvas::draw(style::WIDE_MM, height, |canvas| {
        let heading = (MARGIN, MARGIN + HEADING_HEIGHT / 2);
        canvas.text(&layout.heading(), heading, HEADING)?;
        legend.draw(canvas, (MARGIN, MARGIN + HEADING_HEIGHT))?;
        Layout::marks(canvas, &exchanges, (top, bottom))?;
        layout.all_lanes(canvas, top)
    })
}

impl<'t> Layout<'t> {
    fn of(timeline: &'t Timeline) -> Self {
        let lanes = lanes(timeline);
        let policies = timeline.policies.iter().map(|of| style::policy_label(of));
        let labels = lanes.iter().map(|lane| lane.label.clone());
        let widest = labels
            .chain(policies)
            .map(|label| label_width(&label))
            .max();
        let left = MARGIN + widest.unwrap_or(0) + LABEL_GAP;
        let most = usize::try_from((RIGHT - left) / BIN).unwrap_or(1);
        Self {
            lane_height: if lanes.len() > 6 { THIN_LANE } else { LANE },
            bins: timeline.points.len().clamp(1, most),
            timeline,
            lanes,
            left,
        }
    }

    fn heading(&self) -> String {
        let session = &self.timeline.session;
        let points = u64::try_from(self.timeline.points.len()).unwrap_or(u64::MAX);
        format!(
            "{}, {}: {} points in order of execution",
            session.label(),
            session.workload,
            thousands(points)
        )
    }

    fn legend(&self) -> Legend {
        let points = &self.timeline.points;
        let occurs = |outcome| points.iter().any(|point| point.outcome == Some(outcome));
        let mut entries: Vec<Entry> = legend::outcomes(occurs)
            .rows
            .into_iter()
            .flat_map(|(_, entries)| entries)
            .collect();
        let entry = |colour, name: &str| Entry {
            colour,
            name: name.to_owned(),
        };
        if points.iter().any(|point| point.outcome.is_none()) {
            entries.push(entry(style::UNTESTED, "not tested"));
        }
        let mut policies = vec![entry(style::ALLOWED, "allowed")];
        if self.bins < points.len() {
            policies.push(entry(style::PARTLY_ALLOWED, "some points allowed"));
        }
        let failing = points.iter().any(|point| {
            point.outcome.is_some_and(Outcome::is_failure) && point.allowed.contains(&true)
        });
        if failing {
            let worst = points
                .iter()
                .filter(|point| point.allowed.contains(&true))
                .filter_map(|point| point.outcome.filter(|outcome| outcome.is_failure()))
                .max_by_key(|outcome| rank(*outcome));
            let colour = worst.map_or(style::INK, style::colour);
            policies.push(entry(
                colour,
                "allowed, and fails (in the colour of the verdict)",
            ));
        }
        Legend {
            rows: vec![("points", entries), ("policies", policies)],
        }
    }

    fn lanes_height(&self) -> i32 {
        let count = |of: usize| i32::try_from(of).unwrap_or(0);
        count(self.lanes.len()) * (self.lane_height + LANE_GAP)
            + 2 * LANE_GAP
            + count(self.timeline.policies.len()) * (POLICY_LANE + LANE_GAP)
    }

    /// Where a point begins.
    fn x(&self, index: usize, of: usize) -> i32 {
        let share = |number: usize| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        let width = f64::from(RIGHT - self.left);
        self.left + whole(width * share(index) / share(of.max(1)))
    }

    /// The points of a bin.
    fn points_of(&self, bin: usize) -> Range<usize> {
        let points = self.timeline.points.len();
        let first = |bin: usize| (bin * points).div_ceil(self.bins);
        first(bin)..first(bin + 1)
    }

    /// Where each exchange begins, with its label.
    fn exchanges(&self) -> Vec<(i32, String)> {
        let mut marks: Vec<(i32, String)> = Vec::new();
        let mut latest = None;
        for (index, point) in self.timeline.points.iter().enumerate() {
            if index > 0 && point.exchange <= latest {
                continue;
            }
            latest = point.exchange;
            let label = point.exchange.map_or_else(
                || "start-up".to_owned(),
                |exchange| {
                    let place = usize::try_from(exchange).unwrap_or(usize::MAX);
                    let label = self
                        .timeline
                        .exchanges
                        .get(place)
                        .map_or("", String::as_str);
                    shortened(&format!("{exchange} {label}"))
                },
            );
            marks.push((self.x(index, self.timeline.points.len()), label));
        }
        marks
    }

    fn marks(
        canvas: &Canvas<'_, '_>,
        exchanges: &[(i32, String)],
        (top, bottom): (i32, i32),
    ) -> Result<(), String> {
        let mut free = i32::MIN;
        for (x, label) in exchanges {
            canvas.line(&[(*x, top - LANE_GAP), (*x, bottom + 8)], 3, style::MARK)?;
            // Where exchanges are shorter than a label is high, labels stand aside,
            // and where many are, some go without.
            let aside = (*x).max(free);
            if aside - x <= MOST_ASIDE && aside <= RIGHT {
                let leader = [(*x, bottom + 8), (aside, bottom + LEADER)];
                canvas.line(&leader, 3, style::MARK)?;
                canvas.text_upwards(label, (aside, bottom + LEADER + 10), REMARK)?;
                free = aside + LABEL_STEP;
            }
        }
        Ok(())
    }

    fn all_lanes(&self, canvas: &Canvas<'_, '_>, top: i32) -> Result<(), String> {
        let mut y = top;
        for lane in &self.lanes {
            let middle = y + self.lane_height / 2;
            canvas.text(&lane.label, (self.left - LABEL_GAP, middle), ROW_LABEL)?;
            self.lane(canvas, lane, y)?;
            y += self.lane_height + LANE_GAP;
        }
        y += 2 * LANE_GAP;
        for (place, policy) in self.timeline.policies.iter().enumerate() {
            let label = style::policy_label(policy);
            let middle = y + POLICY_LANE / 2;
            canvas.text(&label, (self.left - LABEL_GAP, middle), ROW_LABEL)?;
            canvas.fill((self.left, y), (RIGHT, y + POLICY_LANE), style::TROUGH)?;
            let colours = self.bins(|points| policy_colour(points, place));
            self.boxes(canvas, &colours, (y, y + POLICY_LANE))?;
            y += POLICY_LANE + LANE_GAP;
        }
        Ok(())
    }

    /// A process: pale from its first point to its last, and on it its points, those
    /// that fail the tallest.
    fn lane(&self, canvas: &Canvas<'_, '_>, lane: &Lane, top: i32) -> Result<(), String> {
        let bottom = top + self.lane_height;
        let in_lane = |point: &&TimelinePoint| lane.of.contains(&point.lane);
        let points = &self.timeline.points;
        let first = points.iter().position(|point| in_lane(&point));
        let last = points.iter().rposition(|point| in_lane(&point));
        if let (Some(first), Some(last)) = (first, last) {
            let from = self.x(first, points.len());
            let to = self.x(last + 1, points.len());
            canvas.fill((from, top), (to, bottom), style::TROUGH)?;
        }
        let worst = self.bins(|points| {
            points
                .iter()
                .filter(in_lane)
                .map(|point| (rank_of(point), point.outcome))
                .max_by_key(|(rank, _)| *rank)
                .map(|(_, outcome)| outcome)
        });
        let kinds: [(Wanted, i32); 3] = [
            (|outcome| outcome.is_none(), self.lane_height * 3 / 10),
            (
                |outcome| outcome.is_some_and(|outcome| !outcome.is_failure()),
                self.lane_height / 8,
            ),
            (|outcome| outcome.is_some_and(Outcome::is_failure), 0),
        ];
        for (wanted, inset) in kinds {
            let colours: Vec<Option<RGBColor>> = worst
                .iter()
                .map(|worst| {
                    let outcome = worst.filter(|outcome| wanted(*outcome))?;
                    Some(outcome.map_or(style::UNTESTED, style::colour))
                })
                .collect();
            self.boxes(canvas, &colours, (top + inset, bottom - inset))?;
        }
        Ok(())
    }

    fn bins<T>(&self, of: impl Fn(&[TimelinePoint]) -> Option<T>) -> Vec<Option<T>> {
        (0..self.bins)
            .map(|bin| of(self.timeline.points.get(self.points_of(bin))?))
            .collect()
    }

    /// Bins of equal colour as one box, unless there is room to set points apart.
    fn boxes(
        &self,
        canvas: &Canvas<'_, '_>,
        colours: &[Option<RGBColor>],
        (top, bottom): (i32, i32),
    ) -> Result<(), String> {
        let width = (RIGHT - self.left) / i32::try_from(self.bins).unwrap_or(1);
        let apart = width >= APART;
        let mut begin = 0;
        while begin < colours.len() {
            let same = colours[begin..]
                .iter()
                .take_while(|of| **of == colours[begin]);
            let end = if apart {
                begin + 1
            } else {
                begin + same.count()
            };
            if let Some(colour) = colours[begin] {
                let from = self.x(begin, self.bins);
                let to = self.x(end, self.bins) - if apart { 3 } else { 0 };
                canvas.fill((from, top), (to, bottom), colour)?;
            }
            begin = end;
        }
        Ok(())
    }
}

/// The colour of a policy's lane where it allows some of `points`: that of the worst
/// failure that it allows, if there is one.
fn policy_colour(points: &[TimelinePoint], policy: usize) -> Option<RGBColor> {
    let allowed = |point: &&TimelinePoint| point.allowed.get(policy) == Some(&true);
    let worst = points
        .iter()
        .filter(allowed)
        .filter_map(|point| point.outcome.filter(|outcome| outcome.is_failure()))
        .max_by_key(|outcome| rank(*outcome));
    if let Some(worst) = worst {
        return Some(style::colour(worst));
    }
    match points.iter().filter(allowed).count() {
        0 => None,
        all if all == points.len() => Some(style::ALLOWED),
        _ => Some(style::PARTLY_ALLOWED),
    }
}

/// How bad an outcome is.
fn rank(outcome: Outcome) -> usize {
    let place = style::ORDER.iter().position(|of| *of == outcome);
    place.unwrap_or(0) + 1
}

fn rank_of(point: &TimelinePoint) -> usize {
    point.outcome.map_or(0, rank)
}

/// A lane for each process, or for each role where there are too many processes.
fn lanes(timeline: &Timeline) -> Vec<Lane> {
    if timeline.lanes.len() <= MOST_LANES {
        let lanes = timeline.lanes.iter().enumerate();
        return lanes
            .map(|(place, role)| Lane {
                label: role.to_string(),
                of: vec![place],
            })
            .collect();
    }
    let mut lanes: Vec<Lane> = Vec::new();
    for (place, role) in timeline.lanes.iter().enumerate() {
        match lanes.iter_mut().find(|lane| lane.label == role.role) {
            Some(lane) => lane.of.push(place),
            None => lanes.push(Lane {
                label: role.role.clone(),
                of: vec![place],
            }),
        }
    }
    for lane in &mut lanes {
        if lane.of.len() > 1 {
            lane.label = format!("{} × {}", lane.of.len(), lane.label);
        }
    }
    lanes
}

fn shortened(label: &str) -> String {
    if label.chars().count() <= MOST_LETTERS {
        return label.trim_end().to_owned();
    }
    let kept: String = label.chars().take(MOST_LETTERS - 1).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::{analyse, fixture};
    use crate::trace::RoleInstance;
    use crate::verdict::Verdict;

    fn timelines() -> Vec<Timeline> {
        let runs = tempfile::tempdir().unwrap();
        let run = fixture::run(runs.path(), None);
        analyse(&run, fixture::judge).unwrap().timelines
    }

    #[test]
    fn sessions_with_most_failures_are_drawn() {
        let all = timelines();
        let names = |which| -> Vec<String> {
            chosen(&all, which)
                .into_iter()
                .map(|line| line.session.pair.clone())
                .collect()
        };
        assert_eq!(names(Timelines::Most(2)), ["kvd-1-2", "kvd-2-3-bare"]);
        assert_eq!(names(Timelines::Most(1)), ["kvd-2-3-bare"]);
        assert_eq!(names(Timelines::default()).len(), 4);
        assert_eq!(names("all".parse().unwrap()).len(), 5);
        assert!(names("0".parse().unwrap()).is_empty());
        assert!("some".parse::<Timelines>().is_err());
        assert_eq!(file_name(&all[0]), "timeline-kvd-1-2-basic");
    }

    #[test]
    fn the_worst_verdict_wins_and_lanes_follow_processes() {
        let all = timelines();
        let layout = Layout::of(&all[0]);
        assert_eq!(layout.bins, 17);
        let labels: Vec<&str> = layout.lanes.iter().map(|of| of.label.as_str()).collect();
        assert_eq!(labels, ["listener#1", "session#1"]);
        let exchanges: Vec<String> = layout.exchanges().into_iter().map(|of| of.1).collect();
        assert_eq!(exchanges, ["0 GET 0", "1 GET 1", "2 GET 2", "3 GET 3"]);
        let failing = |verdict| Some(Outcome::Verdict(verdict));
        let point = |outcome, allowed| TimelinePoint {
            lane: 0,
            exchange: Some(0),
            outcome,
            allowed: vec![allowed],
        };
        let new = point(failing(Verdict::New), true);
        let untested = point(None, false);
        let crash = point(failing(Verdict::Crash), true);
        let mixed = point(failing(Verdict::Mixed), true);
        assert!(rank_of(&crash) > rank_of(&mixed) && rank_of(&mixed) > rank_of(&new));
        assert!(rank_of(&new) > rank_of(&untested));
        let colour = |points: &[&TimelinePoint]| {
            let points: Vec<TimelinePoint> = points.iter().copied().cloned().collect();
            policy_colour(&points, 0)
        };
        assert_eq!(colour(&[&untested]), None);
        assert_eq!(colour(&[&new, &new]), Some(style::ALLOWED));
        assert_eq!(colour(&[&new, &untested]), Some(style::PARTLY_ALLOWED));
        let crash_colour = style::colour(Outcome::Verdict(Verdict::Crash));
        assert_eq!(colour(&[&mixed, &new, &crash]), Some(crash_colour));
    }

    #[test]
    fn thousands_of_points_stay_a_small_figure() {
        let mut long = timelines().swap_remove(0);
        let points = std::mem::take(&mut long.points);
        long.points = points.iter().cycle().take(7000).cloned().collect();
        long.lanes = (1..=40)
            .map(|number| RoleInstance {
                role: "session".to_owned(),
                number,
            })
            .collect();
        let layout = Layout::of(&long);
        assert_eq!(layout.lanes.len(), 1);
        assert_eq!(layout.lanes[0].label, "40 × session");
        let every: usize = (0..layout.bins)
            .map(|bin| layout.points_of(bin).len())
            .sum();
        assert_eq!(every, 7000);
        assert!(draw(&long).unwrap().len() < 1_000_000);
    }
}
