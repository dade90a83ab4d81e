//! `kairos trace`: records one run of the old version, or reads a stored one, and
//! says what happens in it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use kairos::analysis::{StudiedSession, Table, sessions};
use kairos::engine::wanted::Wanted;
use kairos::explain::select::{SelectError, examples};
use kairos::explain::traced;
use kairos::report::export::{Exporter as _, Terminal};
use kairos::study::sessions::first_processor;
use kairos::study::single;
use kairos::study::store::{PairRecord, Run, SessionRecord};
use kairos::subject::BuildOptions;
use kairos::trace::Scope;

use super::exit_code::ExitCode;
use super::{Project, print};

/// Arguments of `kairos trace`.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Update pair, whose old version is traced; or the folder of a run, to look at
    /// a trace that it recorded
    #[arg(value_name = "PAIR|RUN")]
    pair: String,
    /// Workload; of a stored run its session: `PAIR/WORKLOAD`, or a part of the name
    #[arg(value_name = "WORKLOAD")]
    workload: Option<String>,
    /// Which processes one update reaches: `process` or `tree` [default: process]
    #[arg(long, value_name = "SCOPE")]
    scope: Option<Scope>,
    /// Trace the points before the server is ready, too
    #[arg(long)]
    startup: bool,
    /// List the distinct stacks
    #[arg(long)]
    stacks: bool,
    /// List every update point with what each policy says
    #[arg(long)]
    points: bool,
    /// Print the whole trace as JSON
    #[arg(long)]
    json: bool,
    /// A folder of source archives, used before the network (may be repeated)
    /// [default: `KAIROS_ARCHIVES`]
    #[arg(long, value_name = "DIR")]
    archives: Vec<PathBuf>,
}

/// Prints a trace.
pub fn run(arguments: &Arguments, project: &Project) -> anyhow::Result<ExitCode> {
    let (pair, session) = if Path::new(&arguments.pair).join("run.json").exists() {
        stored(arguments)?
    } else {
        recorded(arguments, project)?
    };
    let (pairs, records) = ([pair], [session]);
    let studied = sessions::studied(&pairs, &records)?;
    let Some(studied) = studied.first() else {
        bail!("the session has no trace");
    };
    if arguments.json {
        print(&(serde_json::to_string_pretty(&studied.record.trace)? + "\n"))?;
    } else {
        print(&human(studied, arguments)?)?;
    }
    Ok(ExitCode::Success)
}

fn recorded(
    arguments: &Arguments,
    project: &Project,
) -> anyhow::Result<(PairRecord, SessionRecord)> {
    let catalogue = project.open()?;
    let build = BuildOptions::from_environment(arguments.archives.clone())?;
    let pair = single::pair(&catalogue, &arguments.pair, &build)?;
    let workload = super::workload(&pair, arguments.workload.as_deref())?;
    let which = single::Which {
        engine: Wanted::Restart,
        workload: &workload,
        scope: arguments.scope.unwrap_or_default(),
        startup: arguments.startup,
    };
    let executable = std::env::current_exe()?;
    let (session, engine) = single::session(&pair, &which, &executable, first_processor())?;
    drop(engine);
    Ok((pair.record(), session.record))
}

fn stored(arguments: &Arguments) -> anyhow::Result<(PairRecord, SessionRecord)> {
    let dir = Path::new(&arguments.pair);
    let run = Run::load(dir).with_context(|| format!("cannot read `{}`", dir.display()))?;
    let query = arguments.workload.as_deref().unwrap_or_default();
    let label = |session: &SessionRecord| {
        let key = &session.session;
        format!("{}/{}", key.pair, key.workload)
    };
    let exact = run.sessions.iter().any(|session| label(session) == query);
    let found: Vec<&SessionRecord> = run
        .sessions
        .iter()
        .filter(|session| {
            let named = label(session);
            (if exact {
                named == query
            } else {
                named.contains(query)
            }) && arguments
                .scope
                .is_none_or(|scope| scope == session.session.scope)
        })
        .collect();
    let session = match found.as_slice() {
        [session] => (*session).clone(),
        [] => {
            return Err(SelectError::None {
                query: query.to_owned(),
                advice: format!(
                    "the run has the sessions {}",
                    examples(run.sessions.iter().map(label))
                ),
            }
            .into());
        }
        several => bail!(SelectError::Several {
            query: query.to_owned(),
            count: several.len(),
            examples: examples(several.iter().map(|session| label(session))),
        }),
    };
    let pair = run
        .pairs
        .into_iter()
        .find(|pair| pair.pair == session.session.pair)
        .with_context(|| format!("pairs.jsonl lacks {}", session.session.pair))?;
    Ok((pair, session))
}

fn human(studied: &StudiedSession<'_>, arguments: &Arguments) -> anyhow::Result<String> {
    let record = studied.record;
    let trace = &record.trace;
    let mut tables: Vec<Table> = vec![
        traced::processes(trace),
        traced::exchanges(trace),
        traced::functions(studied),
        traced::waits(studied),
    ];
    if arguments.points {
        tables.push(traced::points(studied));
    }
    let mut text = format!(
        "{} of {}, workload {}, scope {}: {} update points, {} distinct stacks, {} waits\n\n",
        trace.version,
        record.session.pair,
        trace.workload,
        record.session.scope,
        trace.points.len(),
        trace.stacks.len(),
        trace.waits.len(),
    );
    for table in tables {
        text.push_str(&Terminal.export(&table)?);
        text.push('\n');
    }
    if arguments.stacks {
        text.push_str(&traced::stacks(studied));
    }
    Ok(text)
}
