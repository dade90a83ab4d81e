//! `kairos record`: a real client's session with an unpatched server becomes a
//! workload.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use clap::Args;
use kairos::engine::spec::SessionSpec;
use kairos::recording::check::{self, Difference, Outcome};
use kairos::recording::proxy::Note;
use kairos::recording::{
    self, Composed, Heading, Options, RecordError, Recorded, Request, compose,
};
use kairos::study::StudyError;
use kairos::study::sessions::first_processor;
use kairos::study::setting::unpatched;
use kairos::subject::manifest::Setting;
use kairos::subject::{BuildOptions, BuiltVersion, Catalogue, Subject, build};
use kairos::verdict::Observation;
use kairos::workload::Normaliser;
use kairos::workload::script::Specification;

use super::Project;
use super::exit_code::ExitCode;

/// Other versions that a recording is played on unless they are named.
const OTHERS_BY_DEFAULT: usize = 2;

/// Arguments of `kairos record`.
#[derive(Args)]
#[command(after_help = "Examples:
  kairos record vsftpd lftp_get -- lftp -c 'open -p {port} localhost; cd pub; get a.txt -o /dev/null'
  kairos record ngircd hello --paced -- sh -c 'nc -N localhost {port} < lines'
  kairos record kvd by_hand          # connect with any client; Ctrl-C ends")]
pub struct Arguments {
    /// The program under study
    #[arg(value_name = "SUBJECT")]
    subject: String,
    /// Name of the new workload
    #[arg(value_name = "NAME")]
    name: String,
    /// Version to record [default: the oldest]
    #[arg(long, value_name = "LABEL")]
    version: Option<String>,
    /// Listen on this port of the loopback interface, for the server's first port or
    /// the one named (may be repeated) [default: a free one for each]
    #[arg(long, value_name = "[NAME=]PORT")]
    listen: Vec<String>,
    /// Where to write the script [default: workloads/NAME.session of the subject]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Replace the script if it exists
    #[arg(long)]
    force: bool,
    /// One line saying what the session does
    #[arg(long, value_name = "TEXT")]
    about: Option<String>,
    /// The script's claim: backward-compatible, post-update or conformable
    /// [default: backward-compatible if the versions played reply the same, else
    /// conformable]
    #[arg(long, value_name = "KIND")]
    specification: Option<String>,
    /// Run the server as this profile of its manifest says
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// Hand lines that the client sends in one burst to the server one by one, so
    /// that each becomes an exchange of its own
    #[arg(long)]
    paced: bool,
    /// Another version that the script must pass on (may be repeated) [default: the
    /// new versions of up to two pairs that update the recorded one, or the newest]
    #[arg(long, value_name = "LABEL")]
    check: Vec<String>,
    /// A folder of source archives, used before the network (may be repeated)
    /// [default: `KAIROS_ARCHIVES`]
    #[arg(long, value_name = "DIR")]
    archives: Vec<PathBuf>,
    /// The client with its arguments, in which {port} and {port:NAME} stand for
    /// where to connect on localhost (also in `KAIROS_PORT`) [default: any client may
    /// connect, until Ctrl-C]
    #[arg(last = true, value_name = "CLIENT")]
    client: Vec<String>,
}

/// Set by SIGINT and SIGTERM: the session is over.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Runs `kairos record`.
pub fn run(arguments: &Arguments, project: &Project) -> anyhow::Result<ExitCode> {
    let catalogue = project.open()?;
    let subject = catalogue.subject(&arguments.subject)?;
    let plan = Plan::of(arguments, &catalogue, subject)?;
    let options = BuildOptions::from_environment(arguments.archives.clone())?;
    let executable = std::env::current_exe()?;
    let mut builds = Vec::new();
    for label in std::iter::once(&plan.version).chain(&plan.others) {
        eprintln!("building {} {label}", subject.name);
        builds.push(build(subject, subject.version(label)?, &options)?);
    }

    let recorded = record(arguments, &plan, &builds[0], &executable)?;
    let mut heading = Heading {
        origin: origin(arguments, &plan),
        about: plan.about.clone(),
        specification: plan
            .specification
            .unwrap_or(Specification::BackwardCompatible),
        profile: arguments.profile.clone(),
    };
    let composed = compose(&recorded.log, &heading).map_err(RecordError::from)?;
    write(&plan, &composed.text, arguments.force)?;
    tell(&plan, &composed, &recorded);

    let verdict = Verdict::of(&plan, &builds, &composed, &executable)?;
    if plan.specification.is_none() && verdict.versions_differ {
        heading.specification = Specification::Conformable;
        let composed = compose(&recorded.log, &heading).map_err(RecordError::from)?;
        write(&plan, &composed.text, true)?;
        println!("The versions reply differently: its specification is `conformable`.");
    }
    if !verdict.passes {
        println!(
            "Edit the script (docs/sessions.md says how) and play it again with `kairos study`."
        );
        return Ok(ExitCode::Findings);
    }
    if !subject.workloads.study.contains(&arguments.name) && arguments.out.is_none() {
        println!(
            "Add \"{}\" to `[workloads] study` in {} to study it.",
            arguments.name,
            subject.manifest().display()
        );
    }
    Ok(ExitCode::Success)
}

/// What the arguments come to.
struct Plan<'a> {
    subject: &'a Subject,
    setting: Setting<'a>,
    version: String,
    others: Vec<String>,
    out: PathBuf,
    about: String,
    specification: Option<Specification>,
    listen: Vec<(String, u16)>,
    ports: Vec<(String, u16)>,
}

impl<'a> Plan<'a> {
    fn of(
        arguments: &Arguments,
        catalogue: &Catalogue,
        subject: &'a Subject,
    ) -> anyhow::Result<Self> {
        let name = &arguments.name;
        let named = name.starts_with(|first: char| first.is_ascii_alphabetic())
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
        if !named {
            return Err(RecordError::Name(name.clone()).into());
        }
        let out = arguments
            .out
            .clone()
            .unwrap_or_else(|| subject.workload(name));
        if out.exists() && !arguments.force {
            return Err(RecordError::Exists(out).into());
        }
        let version = match &arguments.version {
            Some(label) => subject.version(label)?.label.clone(),
            None => subject
                .versions
                .first()
                .map(|v| v.label.clone())
                .unwrap_or_default(),
        };
        for label in &arguments.check {
            subject.version(label)?;
        }
        let others = if arguments.check.is_empty() {
            others(catalogue, subject, &version)
        } else {
            arguments.check.clone()
        };
        let ports: Vec<(String, u16)> = subject
            .run
            .ports
            .iter()
            .map(|port| (port.name.clone(), port.number))
            .collect();
        let client = arguments.client.first().and_then(|program| {
            let name = Path::new(program).file_name()?;
            Some(name.to_string_lossy().into_owned())
        });
        Ok(Self {
            listen: listen(&arguments.listen, &ports)?,
            about: one_line(arguments.about.clone().unwrap_or_else(|| match client {
                Some(client) => format!("a recorded session of {client}"),
                None => "a recorded session".to_owned(),
            })),
            specification: specification(arguments.specification.as_deref())?,
            subject,
            setting: setting(subject, arguments.profile.as_deref())?,
            version,
            others,
            out,
            ports,
        })
    }

    fn spec(&self, version: &BuiltVersion) -> Result<SessionSpec, StudyError> {
        let processor = first_processor();
        let mut spec = unpatched(self.subject, self.setting, version, version, processor)?;
        spec.workload.clone_from(&self.out);
        Ok(spec)
    }
}

fn setting<'a>(subject: &'a Subject, profile: Option<&str>) -> Result<Setting<'a>, RecordError> {
    subject.setting(profile).ok_or_else(|| {
        let known: Vec<&str> = subject.profiles.iter().map(|p| p.name.as_str()).collect();
        RecordError::Usage(format!(
            "--profile {}: {} has the profiles [{}]",
            profile.unwrap_or_default(),
            subject.name,
            known.join(", ")
        ))
    })
}

/// The new versions of pairs that update `version`; if there are none, the newest.
fn others(catalogue: &Catalogue, subject: &Subject, version: &str) -> Vec<String> {
    let mut others: Vec<String> = Vec::new();
    for pair in &catalogue.pairs {
        let updates = pair.subject == subject.name && pair.old == version;
        if updates && !others.contains(&pair.new) && others.len() < OTHERS_BY_DEFAULT {
            others.push(pair.new.clone());
        }
    }
    let newest = subject
        .versions
        .last()
        .filter(|newest| newest.label != version);
    if others.is_empty() {
        others.extend(newest.map(|newest| newest.label.clone()));
    }
    others
}

fn listen(texts: &[String], ports: &[(String, u16)]) -> anyhow::Result<Vec<(String, u16)>> {
    let known = || {
        let names: Vec<&str> = ports.iter().map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    };
    texts
        .iter()
        .map(|text| {
            let (name, number) = match text.split_once('=') {
                Some((name, number)) => (name.to_owned(), number),
                None => (
                    ports
                        .first()
                        .map(|(name, _)| name.clone())
                        .unwrap_or_default(),
                    text.as_str(),
                ),
            };
            if !ports.iter().any(|(port, _)| *port == name) {
                return Err(RecordError::Port {
                    name,
                    known: known(),
                }
                .into());
            }
            let number = number.parse().map_err(|_| {
                RecordError::Usage(format!("--listen {text}: `{number}` is no port number"))
            })?;
            Ok((name, number))
        })
        .collect()
}

fn specification(text: Option<&str>) -> anyhow::Result<Option<Specification>> {
    text.map(|text| {
        kairos::workload::script::specification(text)
            .map_err(|message| RecordError::Usage(message).into())
    })
    .transpose()
}

fn one_line(text: String) -> String {
    text.split_whitespace()
        .map(|word| word.trim_start_matches('#'))
        .collect::<Vec<_>>()
        .join(" ")
}

fn origin(arguments: &Arguments, plan: &Plan<'_>) -> String {
    let client: Vec<String> = arguments.client.iter().map(|word| quoted(word)).collect();
    let from = if client.is_empty() {
        String::new()
    } else {
        format!(": {}", client.join(" "))
    };
    format!(
        "Recorded by `kairos record` from {} {}{from}",
        plan.subject.name, plan.version
    )
}

/// The word as a shell reads it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+{}".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''").replace('\n', "\n    "))
}

fn record(
    arguments: &Arguments,
    plan: &Plan<'_>,
    version: &BuiltVersion,
    executable: &Path,
) -> anyhow::Result<Recorded> {
    let request = Request {
        spec: plan.spec(version)?,
        ports: plan.ports.clone(),
        paced: arguments.paced,
    };
    kairos::sandbox::interrupt::note_in(&INTERRUPTED)?;
    let alone = arguments.client.is_empty();
    let mut ready = |places: &[(String, u16)]| {
        for (name, port) in places {
            let line = format!("{name}: 127.0.0.1 port {port}");
            if alone {
                println!("{line}");
            } else {
                eprintln!("{line}");
            }
        }
        if alone {
            println!("Connect any client; Ctrl-C ends the session.");
            let _ = std::io::stdout().flush();
        }
    };
    let mut note = |note: &Note| match note {
        Note::Connected(_) if !alone => {}
        Note::Connected(name) => println!("a client connected to {name}"),
        Note::ActiveMode(line) => eprintln!(
            "kairos: the client asks the server to connect back to it (`{line}`): active mode cannot be recorded; use the client's passive mode"
        ),
        Note::Restless => eprintln!(
            "kairos: the server does not come to rest; where its exchanges end is a guess"
        ),
    };
    Ok(recording::record(
        &request,
        Options {
            executable,
            listen: &plan.listen,
            client: &arguments.client,
            interrupted: &INTERRUPTED,
            ready: &mut ready,
            note: &mut note,
        },
    )?)
}

fn write(plan: &Plan<'_>, text: &str, replace: bool) -> anyhow::Result<()> {
    let path = &plan.out;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let shown = || format!("writing {}", path.display());
    std::fs::create_dir_all(folder).with_context(shown)?;
    let mut file = tempfile::Builder::new()
        .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
        .tempfile_in(folder)
        .with_context(shown)?;
    file.write_all(text.as_bytes()).with_context(shown)?;
    if replace {
        file.persist(path).map(drop).with_context(shown)
    } else {
        file.persist_noclobber(path).map(drop).with_context(shown)
    }
}

fn tell(plan: &Plan<'_>, composed: &Composed, recorded: &Recorded) {
    if let Some(status) = recorded.client.filter(|status| !status.success()) {
        eprintln!("kairos: the client ended with {status}");
    }
    if let Some(ending) = &recorded.log.server_ending {
        eprintln!("kairos: the server ended by itself during the session: {ending:?}");
    }
    println!(
        "{}: {} exchanges",
        plan.out.display(),
        composed.labels.len()
    );
}

/// How the script did on all versions.
struct Verdict {
    passes: bool,
    versions_differ: bool,
}

impl Verdict {
    fn of(
        plan: &Plan<'_>,
        builds: &[BuiltVersion],
        composed: &Composed,
        executable: &Path,
    ) -> anyhow::Result<Self> {
        let rules = plan
            .subject
            .volatile
            .iter()
            .map(|rule| (rule.pattern.as_str(), rule.replace.as_str()));
        let normaliser = Normaliser::new(rules)?;
        let recorded = check::normalised(&composed.replies, &normaliser);
        let mut verdict = Self {
            passes: true,
            versions_differ: false,
        };
        let mut first: Option<Box<Observation>> = None;
        for version in builds {
            let outcome = check::check(executable, &plan.spec(version)?)?;
            let label = &version.label;
            match outcome {
                Outcome::Passes(seen) => {
                    let replies = check::replies(&seen);
                    let expected = first
                        .as_ref()
                        .map_or_else(|| recorded.clone(), |first| check::replies(first));
                    let what = if first.is_some() {
                        &plan.version
                    } else {
                        "the recording"
                    };
                    match check::first_difference(&expected, &replies) {
                        None => println!("{label}: passes; replies equal those of {what}"),
                        Some(difference) => {
                            verdict.versions_differ |= first.is_some();
                            println!(
                                "{label}: passes; replies differ from {what} in {}",
                                shown(&difference, composed)
                            );
                        }
                    }
                    first.get_or_insert(seen);
                }
                Outcome::Stalled {
                    exchange,
                    waiting_for,
                    replies,
                } => {
                    verdict.passes = false;
                    println!(
                        "{label}: does not pass: {} did not finish; waited for {waiting_for}; until then it brought:",
                        place(exchange, composed)
                    );
                    for (connection, text) in replies {
                        println!("    {connection}: {text:?}");
                    }
                }
                Outcome::Unstable(difference) => {
                    verdict.passes = false;
                    println!(
                        "{label}: is not stable: two equal runs differ {difference}; if the text is volatile, add a [[volatile]] rule to {}",
                        plan.subject.manifest().display()
                    );
                }
                Outcome::Failed(message) => {
                    verdict.passes = false;
                    println!("{label}: does not pass: {message}");
                }
            }
        }
        Ok(verdict)
    }
}

fn place(exchange: usize, composed: &Composed) -> String {
    match composed.labels.get(exchange) {
        Some(label) => format!("exchange {exchange} ({label})"),
        None => "the probe session after it".to_owned(),
    }
}

/// The place and the first line that differs, as both sides have it.
fn shown(difference: &Difference, composed: &Composed) -> String {
    let (mut expected, mut seen) = (difference.expected.lines(), difference.seen.lines());
    let (expected, seen) = loop {
        match (expected.next(), seen.next()) {
            (Some(one), Some(other)) if one == other => {}
            lines => break lines,
        }
    };
    format!(
        "{} on {}:\n    {}\n    {}",
        place(difference.exchange, composed),
        difference.connection,
        expected.unwrap_or("(no more lines)"),
        seen.unwrap_or("(no more lines)")
    )
}
