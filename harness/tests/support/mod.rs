//! What the end-to-end tests share: a project of one tiny server in a folder of
//! its own, the `kairos` binary run on it, and the rows it wrote.
#![allow(dead_code)] // each test file uses its own part

pub mod leftovers;
pub mod rows;
pub mod runs;
pub mod table;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use rows::Row;
use serde_json::Value;

/// Environment variable by which every process of a test is known, subjects too.
pub const TOKEN: &str = "KAIROS_END_TO_END";

/// Argument of a study that tests leaders alone, as a study does unless told otherwise:
/// no further members of any class.
pub const LEADERS: &str = "--check-members 0";

/// Copies a folder with everything in it.
pub fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

/// A project with one subject, whose two versions are one C file without and with
/// the macro `NEW`, and update pairs `tiny-v1-v2[-variant]`.
pub struct Project {
    folder: Rc<tempfile::TempDir>,
    /// The C source of both versions.
    pub source: String,
    /// Shell line that builds `tiny` from `main.c`.
    pub step: String,
    /// Lines of `subject.toml` after the built-in ones: roles, logs, state.
    pub manifest: String,
    /// When the server is ready.
    pub ready: String,
    /// As whom it runs: `user` or `root`.
    pub identity: &'static str,
    workloads: BTreeMap<String, String>,
    pairs: Vec<(String, Option<String>)>,
    /// Lines of the manifests of pairs, by variant.
    settings: BTreeMap<String, String>,
    /// Lines that every `pair.toml` ends with.
    pub rules: String,
}

impl Project {
    /// A project around `tests/servers/NAME.c`.
    pub fn of(server: &str) -> Self {
        take_a_processor();
        let path = servers().join(format!("{server}.c"));
        Self {
            folder: Rc::new(tempfile::tempdir().unwrap()),
            source: fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
            step: "$CC -o tiny main.c".to_owned(),
            manifest: "[[role]]\nname = \"server\"\nfirst = true\n".to_owned(),
            ready: "{ listening = \"main\" }".to_owned(),
            identity: "user",
            workloads: BTreeMap::new(),
            pairs: vec![(String::new(), None)],
            settings: BTreeMap::new(),
            rules: String::new(),
        }
    }

    /// Replaces the roles and adds whatever else the manifest needs.
    pub fn manifest(mut self, text: &str) -> Self {
        text.clone_into(&mut self.manifest);
        self
    }

    /// Replaces the build step.
    pub fn step(mut self, step: &str) -> Self {
        step.clone_into(&mut self.step);
        self
    }

    /// Adds a workload, named `session` if it is the only one.
    pub fn workload(mut self, name: &str, script: &str) -> Self {
        self.workloads.insert(name.to_owned(), script.to_owned());
        self
    }

    /// The session of the subject: a script whose exchanges are separated by
    /// empty lines and begin with their label.
    pub fn session(self, specification: &str, exchanges: &str) -> Self {
        let script = script(specification, exchanges);
        self.workload("session", &script)
    }

    /// Adds a pair of the same versions under a variant, with a transformer.
    pub fn transformed(mut self, variant: &str, transformer: &str) -> Self {
        self.pairs
            .push((variant.to_owned(), Some(transformer.to_owned())));
        self
    }

    /// Adds a pair of the same versions under a variant, with more lines in its
    /// manifest.
    pub fn variant(mut self, variant: &str, settings: &str) -> Self {
        self.pairs.push((variant.to_owned(), None));
        self.settings
            .insert(variant.to_owned(), settings.to_owned());
        self
    }

    /// Ends every `pair.toml` with these lines.
    pub fn rules(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.rules);
        self
    }

    /// The project's folder.
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A folder of results in the project.
    pub fn out(&self, name: &str) -> PathBuf {
        self.root().join("out").join(name)
    }

    /// Where temporary files of the run belong.
    pub fn temporary(&self) -> PathBuf {
        self.root().join("tmp")
    }

    /// What the processes of this project's runs carry in their environment.
    pub fn token(&self) -> String {
        format!("{TOKEN}={}", self.root().display())
    }

    /// Writes everything to disk.
    pub fn write(&self) {
        let subject = self.root().join("subjects/tiny");
        for (label, define) in [("v1", ""), ("v2", "#define NEW\n")] {
            let version = subject.join(label);
            fs::create_dir_all(&version).unwrap();
            let source = format!("{define}{}", self.source);
            fs::write(version.join("main.c"), source).unwrap();
            fs::copy(
                servers().join("line_server.h"),
                version.join("line_server.h"),
            )
            .unwrap();
        }
        fs::create_dir_all(subject.join("workloads")).unwrap();
        for (name, script) in &self.workloads {
            fs::write(subject.join(format!("workloads/{name}.session")), script).unwrap();
        }
        fs::write(subject.join("subject.toml"), self.subject_manifest()).unwrap();
        for (variant, transformer) in &self.pairs {
            self.write_pair(variant, transformer.as_deref());
        }
        for folder in ["update-pairs", "tmp", "out"] {
            fs::create_dir_all(self.root().join(folder)).unwrap();
        }
    }

    fn subject_manifest(&self) -> String {
        let study: Vec<String> = self
            .workloads
            .keys()
            .filter(|name| *name != "probe")
            .map(|name| format!("{name:?}"))
            .collect();
        let probe = if self.workloads.contains_key("probe") {
            "probe = \"probe\"\n"
        } else {
            ""
        };
        format!(
            r#"name = "tiny"
about = "a tiny server whose verdicts are known"
[[version]]
label = "v1"
folder = "v1"
[[version]]
label = "v2"
folder = "v2"
[build]
steps = ['''{step}''']
program = "tiny"
[run]
command = ["{{program}}", "{{run}}"]
ports = {{ main = 7000, other = 7001 }}
identity = "{identity}"
ready = {ready}
stop = "SIGTERM"
environment = {{ {TOKEN} = "{root}" }}
{manifest}
[workloads]
study = [{study}]
{probe}"#,
            step = self.step,
            ready = self.ready,
            identity = self.identity,
            root = self.root().display(),
            manifest = self.manifest,
            study = study.join(", "),
        )
    }

    fn write_pair(&self, variant: &str, transformer: Option<&str>) {
        let mut name = "tiny-v1-v2".to_owned();
        let mut manifest = "subject = \"tiny\"\nold = \"v1\"\nnew = \"v2\"\n".to_owned();
        if !variant.is_empty() {
            let _ = write!(name, "-{variant}");
            let _ = writeln!(manifest, "variant = \"{variant}\"");
        }
        let folder = self.root().join("update-pairs").join(name);
        fs::create_dir_all(&folder).unwrap();
        if let Some(transformer) = transformer {
            fs::write(folder.join("transform.c"), transformer).unwrap();
            manifest.push_str("transformer = \"transform.c\"\n");
        }
        if let Some(settings) = self.settings.get(variant) {
            let _ = writeln!(manifest, "{settings}");
        }
        manifest.push_str(&self.rules);
        fs::write(folder.join("pair.toml"), manifest).unwrap();
    }

    /// `kairos --root PROJECT`, with everything it keeps inside the project.
    pub fn kairos(&self) -> Command {
        let mut command = kairos();
        command
            .arg("--root")
            .arg(self.root())
            .env("KAIROS_CACHE", self.root().join("cache"))
            .env("TMPDIR", self.temporary())
            .env(TOKEN, self.root());
        command
    }

    /// `kairos study` into `out(name)`; arguments are separated by blanks. Every point
    /// is tested, unless they choose otherwise: tests speak of every point.
    pub fn study_command(&self, name: &str, arguments: &str) -> Command {
        let mut command = self.kairos();
        command
            .arg("study")
            .arg("--out")
            .arg(self.out(name))
            .args(arguments.split_ascii_whitespace());
        for (option, value) in [("--jobs", "1"), ("--repeat", "0")] {
            if !arguments.contains(option) {
                command.args([option, value]);
            }
        }
        let chooses = ["--sample", "--check-members", "--resume", LEADERS];
        if chooses.iter().all(|option| !arguments.contains(option)) {
            command.arg("--exhaustive");
        }
        command
    }

    /// Writes the project and runs a study of it that must succeed.
    pub fn study(&self, arguments: &str) -> Run {
        self.write();
        self.study_as("run", arguments)
    }

    /// Runs a study that must succeed, into `out(name)`.
    pub fn study_as(&self, name: &str, arguments: &str) -> Run {
        let output = self.study_command(name, arguments).output().unwrap();
        let run = Run {
            _project: Rc::clone(&self.folder),
            dir: self.out(name),
            output,
        };
        assert!(
            run.output.status.success(),
            "kairos study: {}\n{}\n{}",
            run.output.status,
            run.stderr(),
            fs::read_to_string(run.dir.join("run.json")).unwrap_or_default()
        );
        run
    }
}

/// What a command printed as JSON.
pub fn report_of(command: &mut Command) -> Value {
    let output = command.output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {message}"))
}

/// Compares what an engine and restart show at every point of the session of a tiny
/// server, where nothing may differ, and returns how that went.
pub fn compared(project: &Project, engine: &str) -> Value {
    project.write();
    let report = report_of(
        project
            .kairos()
            .args(["bench", "--engines-only", "--json", "--every-point"])
            .args(["--subject", "tiny", "--engine", engine]),
    );
    let engines = report["engines"].as_array().unwrap();
    let how = engines.iter().find(|row| row["engine"] == engine);
    let how = how.unwrap_or_else(|| panic!("{}", report["notes"]));
    assert_eq!(how["differences"], Value::Array(Vec::new()), "{report}");
    how.clone()
}

/// The binary under test, away from the user's settings.
pub fn kairos() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kairos"));
    command
        .env_remove("KAIROS_ROOT")
        .env_remove("KAIROS_ARCHIVES")
        .stdin(Stdio::null());
    command
}

fn servers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers")
}

/// A session script from exchanges that are separated by empty lines.
pub fn script(specification: &str, exchanges: &str) -> String {
    let mut script = format!("about a tiny session\nspecification {specification}\n");
    for (number, exchange) in exchanges.split("\n\n").enumerate() {
        let _ = write!(script, "\nexchange {number}\n");
        for line in exchange.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let _ = writeln!(script, "{line}");
        }
    }
    script
}

/// Gives this test's thread, and all it starts, one processor, in turn: one
/// worker always takes the first that it may use.
pub fn take_a_processor() {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let this = Pid::from_raw(0);
    let Ok(allowed) = sched_getaffinity(this) else {
        return;
    };
    let processors: Vec<usize> = (0..CpuSet::count())
        .filter(|processor| allowed.is_set(*processor).unwrap_or(false))
        .collect();
    let mut one = CpuSet::new();
    let chosen = processors[NEXT.fetch_add(1, Ordering::Relaxed) % processors.len()];
    if one.set(chosen).is_ok() {
        let _ = sched_setaffinity(this, &one);
    }
}

/// A finished run.
pub struct Run {
    /// Keeps the results on disk as long as the run is looked at.
    _project: Rc<tempfile::TempDir>,
    /// Its folder.
    pub dir: PathBuf,
    /// How `kairos` ended and what it printed.
    pub output: Output,
}

impl Run {
    /// What was printed to standard error.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// The rows of `tests.csv`, in the order of the trace.
    pub fn rows(&self) -> Vec<Row> {
        // Shown only if the test fails.
        println!("{}", self.stderr());
        rows::read(&self.dir)
    }

    /// `run.json`.
    pub fn facts(&self) -> serde_json::Value {
        let text = fs::read_to_string(self.dir.join("run.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// The observations of `tests.jsonl`, by test identifier.
    pub fn observations(&self) -> BTreeMap<String, serde_json::Value> {
        let text = fs::read_to_string(self.dir.join("tests.jsonl")).unwrap();
        text.lines()
            .map(|line| {
                let record: serde_json::Value = serde_json::from_str(line).unwrap();
                let test = record["test"].as_str().unwrap().to_owned();
                (test, record["observations"][0].clone())
            })
            .collect()
    }

    /// Compares every row with the verdict that `rule` gives it, and checks that
    /// the controls held. Returns the rows.
    pub fn expect(&self, rule: impl Fn(&Row) -> &'static str) -> Vec<Row> {
        let rows = self.rows();
        rows::expect(&rows, rule);
        self.expect_sound_controls();
        rows
    }

    /// No control was violated, and the planted fault was really tried.
    pub fn expect_sound_controls(&self) {
        let facts = self.facts();
        let controls = facts["controls"].as_array().unwrap();
        assert!(!controls.is_empty());
        for control in controls {
            assert_eq!(control["violations"], 0, "{control}");
            assert_ne!(control["tests"], 0, "{control}");
        }
    }
}

/// What `kairos study --jobs 1 --repeat 2` would be told, for studies that a test
/// runs through the library.
pub fn options(project: &Project, executable: &Path) -> kairos::study::Options {
    kairos::study::Options {
        subjects: Vec::new(),
        pairs: Vec::new(),
        workloads: Vec::new(),
        sample: None,
        exhaustive: true,
        check_members: 0,
        seed: 1,
        scopes: vec![kairos::trace::Scope::default()],
        startup: false,
        jobs: 1,
        repeat: 2,
        control: false,
        extent: kairos::study::controls::Extent::default(),
        engine: kairos::engine::EngineWish::default(),
        shard: None,
        resume: None,
        out: None,
        runs: project.root().join("runs"),
        executable: executable.to_owned(),
        arguments: Vec::new(),
    }
}
