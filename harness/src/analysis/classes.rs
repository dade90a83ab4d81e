//! `classes.csv`: classes of equivalent points with their leaders, and why each begins
//! where it does; how many tests they save; and those whose members disagree.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::AnalysisError;
use super::disagreements::{Disagreement, disagreements};
use super::rows::TestRow;
use super::sessions::StudiedSession;
use super::statistics::as_float;
use super::table::{Cell, Column, Table, percent};
use crate::equivalence::Conflict;
use crate::study::agreement::{ByClass, Disagreements, gather};
use crate::study::plan::{PlannedTest, SessionKey};
use crate::study::store::{Arm, Run};

/// The share of update tests that equivalence saved on `OpenSSH` and vsftpd (Hayden et
/// al., `HotSWUp` 2009).
pub const PUBLISHED: f64 = 0.93;

/// One class of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassRow {
    /// The session.
    pub session: SessionKey,
    /// What its pair is for.
    pub arm: Arm,
    /// Role of its process.
    pub role: String,
    /// Its leader.
    pub leader: String,
    /// Function entered there.
    pub function: String,
    /// How many points it has.
    pub points: u64,
    /// How many of them were tested.
    pub tested: u64,
    /// Why it begins where it does.
    pub conflict: Conflict,
    /// What conflicts, for people.
    pub what: String,
    /// `same`, `race` or `differ` where several members were tested.
    pub agreement: &'static str,
}

const COLUMNS: [Column<ClassRow>; 12] = [
    ("pair", |row| Cell::text(&row.session.pair)),
    ("workload", |row| Cell::text(&row.session.workload)),
    ("scope", |row| Cell::text(row.session.scope)),
    ("mechanism", |row| Cell::text(&row.session.mechanism)),
    ("role", |row| Cell::text(&row.role)),
    ("class", |row| Cell::text(&row.leader)),
    ("function", |row| Cell::text(&row.function)),
    ("points", |row| Cell::number(row.points)),
    ("tested", |row| Cell::number(row.tested)),
    ("conflict", |row| Cell::text(row.conflict)),
    ("what", |row| Cell::text(&row.what)),
    ("agreement", |row| Cell::text(row.agreement)),
];

/// `classes.csv` as a table.
#[must_use]
pub fn table(measured: &Measured) -> Table {
    let title = "Classes of equivalent points, and why each begins where it does.";
    Table::of("classes", title, &COLUMNS, &measured.classes)
}

/// How many tests classes save on one pair, scope and mechanism.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Reduction {
    /// The pair as tables name it.
    pub pair: String,
    /// Sessions.
    pub workloads: u64,
    /// Points.
    pub points: u64,
    /// Classes.
    pub classes: u64,
    /// The fewest classes there can be: one for each thread, and one behind each entry
    /// of a changed function.
    pub fewest: u64,
    /// Points tested.
    pub tested: u64,
    /// Classes of which several points were tested.
    pub checked: u64,
    /// Those of them in which tests of one point differ.
    pub races: u64,
    /// Those of them in which points disagree.
    pub disagree: u64,
    /// Classes by why they begin.
    pub conflicts: BTreeMap<Conflict, u64>,
}

impl Reduction {
    /// Share of the points that need no test of their own.
    #[must_use]
    pub fn share(&self) -> f64 {
        saved(self.classes, self.points)
    }

    /// The largest share there can be.
    #[must_use]
    pub fn bound(&self) -> f64 {
        saved(self.fewest, self.points)
    }

    fn add(&mut self, other: &Self) {
        self.workloads += other.workloads;
        self.points += other.points;
        self.classes += other.classes;
        self.fewest += other.fewest;
        self.tested += other.tested;
        self.checked += other.checked;
        self.races += other.races;
        self.disagree += other.disagree;
        for (conflict, count) in &other.conflicts {
            *self.conflicts.entry(*conflict).or_default() += count;
        }
    }

    /// Why classes begin, with counts, the most frequent first.
    #[must_use]
    pub fn reasons(&self) -> String {
        let mut reasons: Vec<_> = self.conflicts.iter().collect();
        reasons.sort_by_key(|(conflict, count)| (std::cmp::Reverse(**count), **conflict));
        let texts: Vec<String> = reasons
            .into_iter()
            .map(|(conflict, count)| format!("{conflict} {count}"))
            .collect();
        texts.join(", ")
    }
}

fn saved(classes: u64, points: u64) -> f64 {
    if points == 0 {
        return 0.0;
    }
    1.0 - as_float(classes) / as_float(points)
}

const REDUCTIONS: [Column<Reduction>; 10] = [
    ("pair", |row| Cell::text(&row.pair)),
    ("workloads", |row| Cell::number(row.workloads)),
    ("points", |row| Cell::number(row.points)),
    ("classes", |row| Cell::number(row.classes)),
    ("reduction", |row| Cell::Number(percent(row.share()))),
    ("at most", |row| Cell::Number(percent(row.bound()))),
    ("tested", |row| Cell::number(row.tested)),
    ("classes checked", |row| Cell::number(row.checked)),
    ("disagree", |row| Cell::number(row.disagree)),
    ("why classes begin", |row| Cell::text(row.reasons())),
];

/// How many tests classes save, by pair and in total, as a table.
#[must_use]
pub fn reduction_table(reductions: &[Reduction]) -> Table {
    let title = "Update points, and classes of equivalent ones that need one test each.";
    let mut rows = reductions.to_vec();
    if rows.len() > 1 {
        rows.push(total(reductions));
    }
    let mut table = Table::of("reduction", title, &REDUCTIONS, &rows);
    table.notes.push(format!(
        "At most: every entry of a changed function ends a class, whatever else is known. Published for OpenSSH and vsftpd: {} (Hayden et al., HotSWUp 2009).",
        percent(PUBLISHED)
    ));
    let races: u64 = reductions.iter().map(|row| row.races).sum();
    if races > 0 {
        table.notes.push(format!(
            "In {races} classes runs of one and the same test differ: races of the servers, which say nothing about the class."
        ));
    }
    table
}

/// All pairs together.
#[must_use]
pub fn total(reductions: &[Reduction]) -> Reduction {
    let mut total = Reduction {
        pair: "total".to_owned(),
        ..Reduction::default()
    };
    for row in reductions {
        total.add(row);
    }
    total
}

/// What a run shows of classes.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Every class.
    pub classes: Vec<ClassRow>,
    /// Pairs, without controls.
    pub reductions: Vec<Reduction>,
    /// Classes whose members disagree.
    pub disagreements: Vec<Disagreement>,
}

impl Measured {
    /// How many classes disagree.
    #[must_use]
    pub fn disagree(&self) -> Disagreements {
        let mut found = Disagreements::default();
        for one in &self.disagreements {
            found.all += 1;
            found.unconfirmed += u64::from(!one.confirmed);
        }
        found
    }

    /// Classes of which several points were tested.
    #[must_use]
    pub fn checked(&self) -> u64 {
        self.reductions.iter().map(|row| row.checked).sum()
    }
}

/// Measures the classes of a run.
///
/// # Errors
/// A record cannot be read.
pub fn measure(
    run: &Run,
    sessions: &[StudiedSession<'_>],
    rows: &[TestRow],
) -> Result<Measured, AnalysisError> {
    let plan: Vec<PlannedTest> = relabelled(&run.plan, sessions);
    let plan: Vec<&PlannedTest> = plan.iter().collect();
    let records = sessions.iter().map(|session| session.record);
    let compared = gather(records, &plan, run.tests()?)?;
    let classes = class_rows(sessions, rows, &compared.classes);
    Ok(Measured {
        reductions: reductions(sessions, &classes),
        disagreements: disagreements(run, sessions, &plan, &compared)?,
        classes,
    })
}

/// The classes of sessions of which nothing was tested yet, by pair.
#[must_use]
pub fn planned(sessions: &[StudiedSession<'_>]) -> Vec<Reduction> {
    reductions(sessions, &class_rows(sessions, &[], &ByClass::new()))
}

/// The plan with the classes that this Kairos computes.
fn relabelled(plan: &[PlannedTest], sessions: &[StudiedSession<'_>]) -> Vec<PlannedTest> {
    let by_key: HashMap<&SessionKey, &StudiedSession<'_>> = sessions
        .iter()
        .map(|session| (&session.record.session, session))
        .collect();
    let relabel = |test: &PlannedTest| {
        let mut test = test.clone();
        if let Some(session) = by_key.get(&test.session)
            && let Some(place) = session.index_of(&test.point)
            && let Some(class) = session.classes.as_ref().and_then(|c| c.of_point(place))
        {
            test.class = session.record.trace.points[class.leader()].id.to_string();
        }
        test
    };
    plan.iter().map(relabel).collect()
}

fn class_rows(
    sessions: &[StudiedSession<'_>],
    rows: &[TestRow],
    by_class: &ByClass<'_>,
) -> Vec<ClassRow> {
    let mut tested: HashMap<(&SessionKey, String), u64> = HashMap::new();
    for row in rows.iter().filter(|row| row.was_tested()) {
        let point = row.point.to_string();
        *tested.entry((&row.session, point)).or_default() += 1;
    }
    let mut found = Vec::new();
    for session in sessions {
        let (key, trace) = (&session.record.session, &session.record.trace);
        let classes = session.classes.iter().flat_map(|classes| &classes.classes);
        for class in classes {
            let point = &trace.points[class.leader()];
            let leader = point.id.to_string();
            let members = class.members.iter();
            let members = members.filter_map(|place| {
                let id = trace.points[*place].id.to_string();
                tested.get(&(key, id))
            });
            let compared = by_class.get(&(key, leader.as_str()));
            found.push(ClassRow {
                session: key.clone(),
                arm: session.pair.arm,
                role: point.id.role.role.clone(),
                function: session.evaluator.function_entered(point),
                points: class.members.len() as u64,
                tested: members.sum(),
                conflict: class.boundary.conflict,
                what: class.boundary.what.clone(),
                agreement: match compared {
                    None => "",
                    Some(tested) if tested.disagreement().is_some() => "differ",
                    Some(tested) if tested.races() => "race",
                    Some(_) => "same",
                },
                leader,
            });
        }
    }
    found
}

fn reductions(sessions: &[StudiedSession<'_>], classes: &[ClassRow]) -> Vec<Reduction> {
    let mut found: Vec<Reduction> = Vec::new();
    for session in sessions {
        let key = &session.record.session;
        let Some(computed) = &session.classes else {
            continue;
        };
        if session.pair.arm != Arm::Update {
            continue;
        }
        let mut reduction = Reduction {
            pair: key.label(),
            workloads: 1,
            points: computed.points() as u64,
            classes: computed.classes.len() as u64,
            fewest: computed.fewest() as u64,
            ..Reduction::default()
        };
        for class in classes.iter().filter(|class| class.session == *key) {
            reduction.tested += class.tested;
            reduction.checked += u64::from(!class.agreement.is_empty());
            reduction.races += u64::from(class.agreement == "race");
            reduction.disagree += u64::from(class.agreement == "differ");
            *reduction.conflicts.entry(class.conflict).or_default() += 1;
        }
        match found.iter_mut().find(|of| of.pair == reduction.pair) {
            Some(of) => of.add(&reduction),
            None => found.push(reduction),
        }
    }
    found
}
