//! Where the time of one run goes, from the empty run folder to the last process
//! reaped.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// A part of a run, in the order in which runs go through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Emptying what is shared, and making the run folder.
    Folder,
    /// Starting the first process and instrumenting it, or copying a started one.
    Start,
    /// Until the server is ready for clients.
    StartUp,
    /// The session up to the point.
    Before,
    /// Looking at the point and applying the update.
    Apply,
    /// The session from the point to its end.
    After,
    /// The probe session.
    Probe,
    /// The ordinary stop.
    Stop,
    /// Reading the end state.
    Look,
    /// Ending what is left and putting the run folder away, or in order.
    CleanUp,
}

impl Stage {
    /// All stages in order.
    pub const ALL: [Self; 10] = [
        Self::Folder,
        Self::Start,
        Self::StartUp,
        Self::Before,
        Self::Apply,
        Self::After,
        Self::Probe,
        Self::Stop,
        Self::Look,
        Self::CleanUp,
    ];

    /// Its name in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Start => "start",
            Self::StartUp => "start-up",
            Self::Before => "before",
            Self::Apply => "apply",
            Self::After => "after",
            Self::Probe => "probe",
            Self::Stop => "stop",
            Self::Look => "look",
            Self::CleanUp => "clean-up",
        }
    }
}

/// How long each stage of one run took, in microseconds; a stage that the run did
/// not have is missing.
pub type Spent = Vec<(Stage, f64)>;

/// Notes when stages end.
#[derive(Debug)]
pub struct StageClock {
    last: Instant,
    spent: Spent,
}

impl StageClock {
    /// Starts with the first stage.
    #[must_use]
    pub fn start() -> Self {
        Self {
            last: Instant::now(),
            spent: Vec::new(),
        }
    }

    /// A stage is over, and the next one begins.
    pub fn over(&mut self, stage: Stage) {
        self.over_at(stage, Instant::now());
    }

    /// The session is over; `update` tells when the point was reached and when the
    /// server went on from it, if it was.
    pub fn session_over(&mut self, update: Option<(Instant, Instant)>) {
        match update {
            Some((reached, went_on)) if reached >= self.last => {
                self.over_at(Stage::Before, reached);
                self.over_at(Stage::Apply, went_on);
                self.over(Stage::After);
            }
            // Reached before the server was ready, or not at all.
            _ => self.over(Stage::Before),
        }
    }

    fn over_at(&mut self, stage: Stage, now: Instant) {
        let took: Duration = now.saturating_duration_since(self.last);
        self.spent.push((stage, took.as_secs_f64() * 1e6));
        self.last = now;
    }

    /// What was noted.
    #[must_use]
    pub fn into_spent(self) -> Spent {
        self.spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_parted_at_its_point() {
        let mut clock = StageClock::start();
        let reached = clock.last + Duration::from_millis(2);
        let went_on = reached + Duration::from_millis(1);
        clock.session_over(Some((reached, went_on)));
        let spent = clock.into_spent();
        assert_eq!(
            spent[..2],
            [(Stage::Before, 2000.0), (Stage::Apply, 1000.0)]
        );
        assert_eq!(spent[2].0, Stage::After);
    }

    #[test]
    fn a_point_before_readiness_does_not_part_the_session() {
        let mut clock = StageClock::start();
        let before = clock.last.checked_sub(Duration::from_millis(1)).unwrap();
        clock.session_over(Some((before, before)));
        clock.over(Stage::Stop);
        let stages: Vec<Stage> = clock.into_spent().iter().map(|(stage, _)| *stage).collect();
        assert_eq!(stages, [Stage::Before, Stage::Stop]);
    }
}
