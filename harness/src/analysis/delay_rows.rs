//! `delays.csv`: how long updates wait in each session, by role and policy.

use super::session_delay::{SessionDelays, Stopwatch};
use super::sessions::StudiedSession;
use super::steps::Steps;
use super::summary::DelaysByPolicy;
use super::table::{Cell, Column, Table};
use crate::policy::with_any;
use crate::study::plan::SessionKey;

/// What a request to update is equally likely to fall on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// Every moment of the session.
    Time,
    /// Every point of the session.
    Point,
}

impl Basis {
    /// The name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::Point => "point",
        }
    }
}

/// Median, 95 % and maximum of a delay; none where fewer requests are served.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    /// Half of the requests do not wait longer.
    pub median: Option<f64>,
    /// 95 % of the requests do not wait longer.
    pub p95: Option<f64>,
    /// No request that is served waits longer.
    pub max: Option<u64>,
}

impl Figures {
    fn of_steps(steps: &Steps) -> Self {
        let quantile = |level| steps.quantile(level).map(super::statistics::as_float);
        Self {
            median: quantile(0.5),
            p95: quantile(0.95),
            max: steps.longest(),
        }
    }
}

/// Delays of one policy in one role of one session.
#[derive(Clone, Debug, PartialEq)]
pub struct DelayRow {
    /// Pair, workload, scope and mechanism.
    pub session: SessionKey,
    /// Role whose processes wait each for itself; none where all wait together.
    pub role: Option<String>,
    /// The policy's column, `any` included.
    pub policy: &'static str,
    /// What requests fall on.
    pub basis: Basis,
    /// Whether allowed waits serve requests too, or allowed points alone.
    pub waits_count: bool,
    /// Share of the session's points that have a time.
    pub timed_share: f64,
    /// How many requests there could be: microseconds, or points.
    pub requests: u64,
    /// Delay in microseconds; unknown without times.
    pub time_us: Figures,
    /// Delay in points that pass.
    pub points: Figures,
    /// Share of the requests that are never served.
    pub never: Option<f64>,
}

const COLUMNS: [Column<DelayRow>; 17] = [
    ("pair", |row| Cell::text(&row.session.pair)),
    ("workload", |row| Cell::text(&row.session.workload)),
    ("scope", |row| Cell::text(row.session.scope)),
    ("mechanism", |row| Cell::text(&row.session.mechanism)),
    ("role", |row| {
        Cell::text(row.role.as_deref().unwrap_or("(all)"))
    }),
    ("policy", |row| Cell::text(row.policy)),
    ("basis", |row| Cell::text(row.basis.name())),
    ("served_by", |row| {
        Cell::text(if row.waits_count {
            "points-and-waits"
        } else {
            "points"
        })
    }),
    ("timed_share", |row| {
        Cell::number(format!("{:.4}", row.timed_share))
    }),
    ("requests_us_or_points", |row| Cell::number(row.requests)),
    ("delay_median_us", |row| rounded(row.time_us.median)),
    ("delay_p95_us", |row| rounded(row.time_us.p95)),
    ("delay_max_us", |row| Cell::optional(row.time_us.max)),
    ("delay_median_points", |row| rounded(row.points.median)),
    ("delay_p95_points", |row| rounded(row.points.p95)),
    ("delay_max_points", |row| Cell::optional(row.points.max)),
    ("never", |row| {
        Cell::optional(row.never.map(|share| format!("{share:.4}")))
    }),
];

fn rounded(value: Option<f64>) -> Cell {
    Cell::optional(value.map(f64::round))
}

/// `delays.csv` as a table.
#[must_use]
pub fn table(rows: &[DelayRow]) -> Table {
    let title = "How long requests to update wait, by session, role and policy.";
    Table::of("delays", title, &COLUMNS, rows)
}

/// Measures every session by every policy; also as rows.
#[must_use]
pub fn measure<'a>(sessions: &'a [StudiedSession<'a>]) -> (DelaysByPolicy<'a>, Vec<DelayRow>) {
    let (mut delays, mut rows) = (DelaysByPolicy::new(), Vec::new());
    for session in sessions {
        let key = &session.record.session;
        let stopwatch = Stopwatch::new(session);
        let of_policies: Vec<(&'static str, SessionDelays)> = with_any()
            .map(|policy| (policy.column(), stopwatch.delays(policy)))
            .collect();
        for role in of_policies
            .first()
            .into_iter()
            .flat_map(|(_, delays)| delays.by_role.keys())
        {
            for (policy, delays) in &of_policies {
                rows.extend(rows_of(key, role, policy, delays, stopwatch.timed_share()));
            }
        }
        for (policy, of_policy) in of_policies {
            delays.insert((key, policy), of_policy);
        }
    }
    (delays, rows)
}

fn rows_of(
    session: &SessionKey,
    role: &str,
    policy: &'static str,
    delays: &SessionDelays,
    timed_share: f64,
) -> Vec<DelayRow> {
    let Some(of_role) = delays.by_role.get(role) else {
        return Vec::new();
    };
    let row = |basis, requests, never| DelayRow {
        session: session.clone(),
        role: (!role.is_empty()).then(|| role.to_owned()),
        policy,
        basis,
        waits_count: delays.waits_count,
        timed_share,
        requests,
        time_us: Figures::default(),
        points: Figures::default(),
        never,
    };
    let at_time = of_role.at_time.as_ref().map(|at_time| DelayRow {
        time_us: Figures {
            median: at_time.time.quantile(0.5),
            p95: at_time.time.quantile(0.95),
            max: at_time.time.longest(),
        },
        points: Figures::of_steps(&at_time.points),
        ..row(
            Basis::Time,
            at_time.time.total(),
            at_time.time.share_never(),
        )
    });
    let points = &of_role.at_point.points;
    let at_point = DelayRow {
        time_us: of_role
            .at_point
            .time
            .as_ref()
            .map(Figures::of_steps)
            .unwrap_or_default(),
        points: Figures::of_steps(points),
        ..row(Basis::Point, points.total(), points.share_never())
    };
    at_time.into_iter().chain([at_point]).collect()
}
