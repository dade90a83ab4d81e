//! `kairos explain`: why a test failed or a point was refused, from the records of
//! a run alone.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context as _;
use kairos::analysis::coverage::NewCode;
use kairos::analysis::{AnalysisError, Outcome, StudiedSession, TestRow, rows, sessions};
use kairos::explain::causes::{Frequency, frequency, group, is_notable};
use kairos::explain::select::{SelectError, examples, tests};
use kairos::explain::{Account, account, causes, text};
use kairos::report::export::{Exporter as _, Terminal};
use kairos::study::plan::SessionKey;
use kairos::study::session::judge_record;
use kairos::study::store::Run;
use kairos::trace::Scope;
use kairos::verdict::Observation;
use serde::Serialize;

use super::exit_code::ExitCode;
use super::{print, width};

/// Arguments of `kairos explain`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Folder of the run, such as results/runs/20260131T120000Z-1a2b3c4d
    run: PathBuf,
    /// Tests or points: an identifier, a part of it that only one has, such as
    /// `server#1/0@3:17`, or the name of the function that is entered; without any,
    /// what went wrong is listed with the first test of each kind
    #[arg(value_name = "TEST|POINT")]
    tests: Vec<String>,
    /// Only this update pair (may be repeated)
    #[arg(long, value_name = "PAIR")]
    pair: Vec<String>,
    /// Only this workload (may be repeated)
    #[arg(long, value_name = "NAME")]
    workload: Vec<String>,
    /// Only this scope
    #[arg(long, value_name = "SCOPE")]
    scope: Option<Scope>,
    /// Only tests of this verdict, or `flaky` (may be repeated)
    #[arg(long, value_name = "VERDICT", value_parser = outcome)]
    verdict: Vec<Outcome>,
    /// Of several tests take the first
    #[arg(long)]
    first: bool,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

fn outcome(text: &str) -> Result<Outcome, String> {
    let known = || Outcome::TABLE_ORDER.into_iter();
    known()
        .find(|outcome| outcome.name() == text)
        .ok_or_else(|| {
            let names: Vec<&str> = known().map(Outcome::name).collect();
            format!("there are: {}", names.join(", "))
        })
}

/// A run with every point judged.
struct Judged<'a> {
    run: &'a Run,
    sessions: &'a [StudiedSession<'a>],
    rows: Vec<TestRow>,
}

/// Explains the tests asked for.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let dir = &arguments.run;
    let run = Run::load(dir).with_context(|| format!("cannot read `{}`", dir.display()))?;
    let sessions = sessions::studied(&run.pairs, &run.sessions)?;
    let rows = rows::rows(
        &run.plan,
        &sessions,
        run.tests()?,
        &mut NewCode::default(),
        judge_record,
    )?;
    let judged = Judged {
        run: &run,
        sessions: &sessions,
        rows,
    };
    if arguments.tests.is_empty() && !arguments.first {
        return overview(arguments, &judged);
    }
    let chosen = judged.choose(arguments)?;
    let observations = judged.observations(&chosen)?;
    let mut explained = Vec::new();
    for (session, place) in chosen {
        let id = test_id(session, place);
        let seen = observations.get(&id).map_or(&[][..], Vec::as_slice);
        let Some(account) = account(session, place, seen) else {
            continue;
        };
        let row = judged.row(session, place);
        explained.push(Explained {
            account,
            frequency: row.map(|row| frequency(&judged.rows, row)),
        });
    }
    if arguments.json {
        print(&(serde_json::to_string_pretty(&explained)? + "\n"))?;
    } else {
        let texts: Vec<String> = explained
            .iter()
            .map(|one| text::render(&one.account, one.frequency, width()))
            .collect();
        print(&texts.join("\n"))?;
    }
    Ok(ExitCode::Success)
}

#[derive(Serialize)]
struct Explained {
    #[serde(flatten)]
    account: Account,
    frequency: Option<Frequency>,
}

fn overview(arguments: &Arguments, judged: &Judged<'_>) -> anyhow::Result<ExitCode> {
    let wanted = judged.rows.iter().filter(|row| {
        let named = if arguments.verdict.is_empty() {
            is_notable(row.outcome)
        } else {
            arguments.verdict.contains(&row.outcome)
        };
        named && arguments.wants(&row.session)
    });
    let causes = group(wanted);
    if arguments.json {
        print(&(serde_json::to_string_pretty(&causes)? + "\n"))?;
    } else if causes.is_empty() {
        print("No test of that kind.\n")?;
    } else {
        let mut table = causes::table(&causes);
        table.notes.push(
            "`kairos explain RUN TEST` tells more of one of them, `kairos try` runs it again."
                .to_owned(),
        );
        print(&Terminal.export(&table)?)?;
    }
    Ok(ExitCode::Success)
}

impl Arguments {
    fn wants(&self, key: &SessionKey) -> bool {
        let among = |list: &[String], name: &String| list.is_empty() || list.contains(name);
        among(&self.pair, &key.pair)
            && among(&self.workload, &key.workload)
            && self.scope.is_none_or(|scope| scope == key.scope)
    }
}

fn test_id(session: &StudiedSession<'_>, place: usize) -> String {
    let record = session.record;
    record.session.test_id(&record.trace.points[place].id)
}

type Chosen<'a> = (&'a StudiedSession<'a>, usize);

impl<'a> Judged<'a> {
    fn row(&self, session: &StudiedSession<'_>, place: usize) -> Option<&TestRow> {
        let record = session.record;
        let point = &record.trace.points.get(place)?.id;
        self.rows
            .iter()
            .find(|row| row.point == *point && row.session == record.session)
    }

    fn choose(&self, arguments: &Arguments) -> Result<Vec<Chosen<'a>>, SelectError> {
        let everything = [String::new()];
        let queries = if arguments.tests.is_empty() {
            &everything[..]
        } else {
            &arguments.tests
        };
        queries
            .iter()
            .map(|query| self.choose_one(arguments, query))
            .collect()
    }

    fn choose_one(&self, arguments: &Arguments, query: &str) -> Result<Chosen<'a>, SelectError> {
        let mut found = tests(self.sessions, &|key| arguments.wants(key), query);
        if !arguments.verdict.is_empty() {
            let outcomes: BTreeMap<String, Outcome> = self
                .rows
                .iter()
                .map(|row| (row.session.test_id(&row.point), row.outcome))
                .collect();
            found.retain(|(session, place)| {
                outcomes
                    .get(&test_id(session, *place))
                    .is_some_and(|outcome| arguments.verdict.contains(outcome))
            });
        }
        match found.as_slice() {
            [one] => Ok(*one),
            [first, ..] if arguments.first => Ok(*first),
            [] => Err(SelectError::None {
                query: query.to_owned(),
                advice: "`kairos explain RUN` lists what went wrong, tests.csv all tests"
                    .to_owned(),
            }),
            several => Err(SelectError::Several {
                query: query.to_owned(),
                count: several.len(),
                examples: examples(several.iter().map(|(s, place)| test_id(s, *place))),
            }),
        }
    }

    /// The test that speaks for a point: its own, or that of its class's leader.
    fn serving(&self, session: &StudiedSession<'_>, id: &str) -> String {
        let planned = self.run.plan.iter().find(|test| test.id == id);
        match planned.filter(|test| !test.tested) {
            Some(test) => match test.class.parse() {
                Ok(leader) => session.record.session.test_id(&leader),
                Err(_) => id.to_owned(),
            },
            None => id.to_owned(),
        }
    }

    /// What was seen of the chosen tests, as it was written last; of points that were
    /// not tested themselves, what their class's leader showed.
    fn observations(
        &self,
        chosen: &[Chosen<'_>],
    ) -> Result<BTreeMap<String, Vec<Observation>>, AnalysisError> {
        let wanted: Vec<(String, String)> = chosen
            .iter()
            .map(|(session, place)| {
                let id = test_id(session, *place);
                (self.serving(session, &id), id)
            })
            .collect();
        let mut observations = BTreeMap::new();
        for record in self.run.tests()? {
            let record = record?;
            for (serving, id) in &wanted {
                if *id == record.test {
                    observations.insert(id.clone(), record.observations.clone());
                } else if *serving == record.test {
                    let known = observations.entry(id.clone());
                    known.or_insert_with(|| record.observations.clone());
                }
            }
        }
        Ok(observations)
    }
}
