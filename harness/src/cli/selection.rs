//! Which updates a study is about: the arguments that `kairos study` and `kairos
//! plan` share.

use std::path::{Path, PathBuf};

use clap::Args;
use kairos::engine::EngineWish;
use kairos::study::Options;
use kairos::study::controls::Extent;
use kairos::trace::Scope;

/// Arguments that choose pairs, workloads and points.
#[derive(Args)]
pub struct Selection {
    /// Only this subject (may be repeated)
    #[arg(long, value_name = "NAME")]
    subject: Vec<String>,
    /// Only this update pair (may be repeated)
    #[arg(long, value_name = "PAIR")]
    pair: Vec<String>,
    /// Only this workload (may be repeated)
    #[arg(long, value_name = "NAME")]
    workload: Vec<String>,
    /// Test so many points per pair, workload and role, evenly spread; manual
    /// points and loop heads are always added [default: the leader of every class of equivalent points]
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// Test every point, and not only the leader of each class of equivalent points;
    /// classes whose points' observations differ are reported
    #[arg(long, conflicts_with_all = ["sample", "check_members"])]
    exhaustive: bool,
    /// Test so many points of each class besides its leader, evenly spread, and report
    /// classes whose points' observations differ
    #[arg(long, default_value_t = 0, value_name = "N", conflicts_with = "sample")]
    check_members: usize,
    /// Seed of the sample, and of the members that are checked
    #[arg(long, default_value_t = 1, value_name = "N")]
    seed: u64,
    /// Which processes one update reaches: `process`, only the one at the point, or
    /// `tree`, every process of the server at once (may be repeated)
    #[arg(long, default_value = "process", value_name = "SCOPE")]
    scope: Vec<Scope>,
    /// Test the points before the server is ready, too
    #[arg(long)]
    startup: bool,
    /// How often a failing test is repeated
    #[arg(long, default_value_t = 2, value_name = "N")]
    repeat: u32,
    /// Which engine runs the tests: `restart`, a new server for each; `fork-server`, a
    /// copy of a started server for each; `rollback`, one server in a simulated world;
    /// `fork-snapshot`, a copy of that one for each; or `auto`, the fastest that a session
    /// allows. None is used that does not agree with restart at sampled points
    #[arg(long, default_value = "auto", value_name = "ENGINE")]
    engine: EngineWish,
    /// Study the control arm (old to old) of the chosen pairs' old versions
    /// instead of the updates
    #[arg(long)]
    control: bool,
}

/// Arguments on how to run, which change no result.
#[derive(Args)]
pub struct Means {
    /// Workers, each on a processor of its own [default: all processors]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// A folder of source archives, used before the network (may be repeated)
    /// [default: `KAIROS_ARCHIVES`]
    #[arg(long, value_name = "DIR")]
    pub archives: Vec<PathBuf>,
}

/// What the arguments say, for a project at `root`.
pub fn options(selection: &Selection, means: &Means, root: &Path) -> anyhow::Result<Options> {
    Ok(Options {
        subjects: selection.subject.clone(),
        pairs: selection.pair.clone(),
        workloads: selection.workload.clone(),
        sample: selection.sample,
        exhaustive: selection.exhaustive,
        check_members: selection.check_members,
        seed: selection.seed,
        scopes: selection.scope.clone(),
        startup: selection.startup,
        jobs: means
            .jobs
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into)),
        repeat: selection.repeat,
        control: selection.control,
        extent: Extent::default(),
        engine: selection.engine,
        shard: None,
        resume: None,
        out: None,
        runs: root.join("results").join("runs"),
        executable: std::env::current_exe()?,
        arguments: std::env::args().skip(1).collect(),
    })
}
