//! The course of what one update reaches, its points and waits in order, and how
//! long requests to update wait on it.

use super::delay::Delays;
use super::steps::Steps;

/// One point as one policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// When, in microseconds. For a point that has no time of its own, when the
    /// point before it was.
    pub time: u64,
    /// Whether that time is its own.
    pub timed: bool,
    /// Whether the policy allows it.
    pub allowed: bool,
}

/// Points and waits of one process, or of all that are updated together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Course {
    /// Points in order; their times do not fall.
    pub points: Vec<Moment>,
    /// When it waits where the policy allows, in microseconds: stretches in order,
    /// none overlapping another. A request during one is served at once.
    pub waits: Vec<(u64, u64)>,
}

/// Delays of requests at a uniformly random time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AtTime {
    /// In microseconds.
    pub time: Delays,
    /// In points that pass although the update waits, each request weighing one
    /// microsecond.
    pub points: Steps,
}

impl AtTime {
    /// Adds the requests of another stretch of time.
    pub fn merge(&mut self, other: &Self) {
        self.time.merge(&other.time);
        self.points.merge(&other.points);
    }
}

/// Delays of requests at a uniformly random point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AtPoint {
    /// In points that pass although the update waits.
    pub points: Steps,
    /// In microseconds, over the points that have a time; none without times.
    pub time: Option<Steps>,
}

impl AtPoint {
    /// Adds the requests at other points. Times stay known only if those have them.
    pub fn merge(&mut self, other: &Self) {
        self.points.merge(&other.points);
        match (&mut self.time, &other.time) {
            (Some(time), Some(other)) => time.merge(other),
            _ => self.time = None,
        }
    }
}

impl Course {
    /// Delays of requests at a uniformly random time of `life`. Points without a
    /// time of their own serve nobody here, which can only lengthen the delays.
    #[must_use]
    pub fn at_time(&self, life: (u64, u64)) -> AtTime {
        let timed = Self {
            points: self
                .points
                .iter()
                .filter(|point| point.timed)
                .copied()
                .collect(),
            waits: self.waits.clone(),
        };
        let allowed = timed.points.iter().filter(|point| point.allowed);
        let served = allowed
            .map(|point| (point.time, point.time))
            .chain(self.waits.iter().copied())
            .collect();
        let mut points = Steps::default();
        let mut from = life.0;
        for (point, passing) in timed.points.iter().zip(timed.passing()) {
            let to = point.time.clamp(from, life.1.max(from));
            self.add_stretch(&mut points, (from, to), passing);
            from = to;
        }
        self.add_stretch(&mut points, (from, life.1), None);
        AtTime {
            time: Delays::over(life, served),
            points,
        }
    }

    /// Requests between two points: those before the end of a wait pass no point,
    /// the others all that pass from the second point on.
    fn add_stretch(&self, steps: &mut Steps, (from, to): (u64, u64), passing: Option<u64>) {
        if to <= from {
            return;
        }
        let begun = self.waits.partition_point(|wait| wait.0 < to);
        let waited = self.waits[..begun].last().map_or(from, |wait| wait.1);
        let cut = waited.clamp(from, to);
        steps.add(Some(0), cut - from);
        steps.add(passing, to - cut);
    }

    /// Delays of requests at a uniformly random point; in microseconds as well if
    /// `timed`.
    #[must_use]
    pub fn at_point(&self, timed: bool) -> AtPoint {
        let mut delays = AtPoint {
            time: timed.then(Steps::default),
            ..AtPoint::default()
        };
        for passing in self.passing() {
            delays.points.add(passing, 1);
        }
        if let Some(times) = &mut delays.time {
            let mut next_allowed = None;
            for point in self.points.iter().rev().filter(|point| point.timed) {
                if point.allowed {
                    next_allowed = Some(point.time);
                }
                let wait = if point.allowed {
                    None
                } else {
                    self.wait_from(point.time)
                };
                let wait = wait.map(|wait| wait.0.max(point.time));
                let served = next_allowed.into_iter().chain(wait).min();
                times.add(served.map(|served| served - point.time), 1);
            }
        }
        delays
    }

    /// For each point, how many points pass if a request is made there: itself and
    /// those after it, up to the first that is allowed or to an allowed wait; none
    /// if neither comes.
    fn passing(&self) -> Vec<Option<u64>> {
        let mut passing = vec![None; self.points.len()];
        let (mut after, mut next) = (None, u64::MAX);
        for (point, passing) in self.points.iter().zip(&mut passing).rev() {
            let waits_next = || {
                let wait = self.wait_from(point.time);
                wait.is_some_and(|wait| wait.0 < next)
            };
            *passing = if point.allowed {
                Some(0)
            } else if waits_next() {
                Some(1)
            } else {
                after.map(|after: u64| after + 1)
            };
            (after, next) = (*passing, point.time);
        }
        passing
    }

    /// The first wait that begins at `time` or later, or is under way then.
    fn wait_from(&self, time: u64) -> Option<(u64, u64)> {
        let over = self
            .waits
            .partition_point(|wait| wait.1 <= time && wait.0 < time);
        self.waits.get(over).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn course(points: &[(u64, bool)], waits: &[(u64, u64)]) -> Course {
        let moment = |(time, allowed): &(u64, bool)| Moment {
            time: *time,
            timed: true,
            allowed: *allowed,
        };
        Course {
            points: points.iter().map(moment).collect(),
            waits: waits.to_vec(),
        }
    }

    #[test]
    fn points_pass_until_one_is_allowed() {
        let course = course(&[(10, false), (20, false), (30, true), (40, false)], &[]);
        let passing = [Some(2), Some(1), Some(0), None];
        assert_eq!(course.passing(), passing);
        let at_point = course.at_point(true);
        assert_eq!(at_point.points.share_never(), Some(0.25));
        assert_eq!(at_point.points.longest(), Some(2));
        assert_eq!(at_point.time.unwrap().longest(), Some(20));
        let at_time = course.at_time((0, 100));
        // 0–10 pass two points, 10–20 one, 20–30 none; later requests are never served.
        assert_eq!(at_time.points.total(), 100);
        assert_eq!(at_time.points.share_within(0), Some(0.1));
        assert_eq!(at_time.points.share_within(1), Some(0.2));
        assert_eq!(at_time.points.share_within(2), Some(0.3));
        assert_eq!(at_time.time.share_never(), Some(0.7));
    }

    #[test]
    fn an_allowed_wait_serves_before_the_next_point() {
        let course = course(&[(10, false), (60, false)], &[(20, 50)]);
        assert_eq!(course.passing(), [Some(1), None]);
        let at_point = course.at_point(true);
        assert_eq!(at_point.time.unwrap().longest(), Some(10));
        let at_time = course.at_time((0, 100));
        assert_eq!(at_time.time.at_once, 30);
        // 0–10 pass the point at 10, 10–50 none; 50–100 are never served.
        assert_eq!(at_time.points.share_within(0), Some(0.4));
        assert_eq!(at_time.points.share_within(1), Some(0.5));
        assert_eq!(at_time.points.share_never(), Some(0.5));
    }

    #[test]
    fn a_point_without_a_time_counts_as_a_point_only() {
        let mut course = course(&[(10, false), (10, true)], &[]);
        course.points[1].timed = false;
        let at_point = course.at_point(true);
        assert_eq!(at_point.points.share_never(), Some(0.0));
        assert_eq!(at_point.time.unwrap().share_never(), Some(1.0));
        assert_eq!(course.at_time((0, 50)).time.share_never(), Some(1.0));
    }

    /// The delay of one request by looking through everything that comes: in
    /// microseconds, and the points that pass.
    fn search(course: &Course, request: u64) -> Option<(u64, u64)> {
        let waiting = course
            .waits
            .iter()
            .find(|wait| wait.1 > request)
            .map(|wait| wait.0.max(request));
        let allowed = course
            .points
            .iter()
            .find(|point| point.allowed && point.time > request)
            .map(|point| point.time);
        let served = waiting.into_iter().chain(allowed).min()?;
        let pass = |point: &&Moment| !point.allowed && point.time > request && point.time < served;
        let passed = course.points.iter().filter(pass).count();
        Some((served - request, u64::try_from(passed).unwrap()))
    }

    proptest! {
        #[test]
        fn delays_are_those_of_a_search(
            gaps in proptest::collection::vec((1u64..9, any::<bool>(), 0u64..4, any::<bool>()), 0..25),
            tail in 0u64..20,
        ) {
            // Points at odd times, waits between even ones: no two things at once.
            let (mut now, mut points, mut waits) = (0, Vec::new(), Vec::new());
            for (gap, allowed, wait, waits_allowed) in gaps {
                now += 2 * gap;
                points.push((now + 1, allowed));
                if wait > 0 {
                    if waits_allowed {
                        waits.push((now + 2, now + 2 + 2 * wait));
                    }
                    now += 2 + 2 * wait;
                }
            }
            let course = course(&points, &waits);
            let life = (0, now + 2 + tail);
            let at_time = course.at_time(life);
            prop_assert_eq!(at_time.points.total(), life.1);
            prop_assert_eq!(at_time.time.total(), life.1);
            prop_assert_eq!(at_time.points.share_never(), at_time.time.share_never());
            let mut searched = Steps::default();
            let mut at_once = 0;
            for request in 0..life.1 {
                let found = search(&course, request);
                // Requests fill the microsecond that begins with them.
                searched.add(found.map(|(_, points)| points), 1);
                at_once += u64::from(found.is_some_and(|(delay, _)| delay == 0));
            }
            prop_assert_eq!(&searched, &at_time.points);
            prop_assert_eq!(at_once, at_time.time.at_once);
            let at_point = course.at_point(true);
            prop_assert_eq!(at_point.points.total(), u64::try_from(points.len()).unwrap());
            prop_assert_eq!(at_point.points.share_never(), at_point.time.unwrap().share_never());
        }
    }
}
