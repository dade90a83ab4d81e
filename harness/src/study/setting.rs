//! From a subject's manifest to what a worker needs to run its server: command,
//! environment, files, roles.

use std::path::{Path, PathBuf};

use super::StudyError;
use crate::engine::spec::{Ready, RoleRule, SessionSpec, VersionSpec};
use crate::sandbox::namespaces::Identity;
use crate::sandbox::root::{PROGRAM_LINK, RUN_FOLDER, SandboxUser};
use crate::sandbox::run_folder::Entry;
use crate::subject::manifest::{self, FileContent, Placeholders};
use crate::subject::{BuiltVersion, Subject};
use crate::trace::Scope;
use crate::workload::Script;
use crate::workload::script::ScriptError;
use crate::world::Limits;

/// What a worker needs to run two versions without a patch, but for the session.
///
/// # Errors
/// When a file of the run folder or the probe session cannot be read.
pub fn unpatched(
    subject: &Subject,
    setting: manifest::Setting<'_>,
    old: &BuiltVersion,
    new: &BuiltVersion,
    processor: usize,
) -> Result<SessionSpec, StudyError> {
    let run = setting.run;
    let values = Placeholders {
        run: RUN_FOLDER,
        program: PROGRAM_LINK,
    };
    let mut environment = vec![
        (
            "PATH".to_owned(),
            "/usr/bin:/bin:/usr/sbin:/sbin".to_owned(),
        ),
        ("LANG".to_owned(), "C".to_owned()),
        ("TZ".to_owned(), "UTC".to_owned()),
        ("HOME".to_owned(), "/home/kairos".to_owned()),
    ];
    environment.retain(|(name, _)| !run.environment.contains_key(name));
    for (name, value) in &run.environment {
        environment.push((name.clone(), run.expand(value, values)));
    }
    Ok(SessionSpec {
        processor,
        identity: match run.identity {
            manifest::Identity::User => Identity::User,
            manifest::Identity::Root => Identity::Root,
        },
        users: run
            .users
            .iter()
            .map(|user| SandboxUser {
                name: user.name.clone(),
                password: user.password.clone(),
                home: run.expand(&user.home, values),
            })
            .collect(),
        old: version_spec(old),
        new: version_spec(new),
        command: run
            .command
            .iter()
            .map(|argument| run.expand(argument, values))
            .collect(),
        environment,
        ports: run.named_ports(),
        ready: match &run.ready {
            manifest::Ready::Listening(name) => Ready::Listening(run.port(name).unwrap_or(0)),
            manifest::Ready::Output(pattern) => Ready::Output(pattern.clone()),
        },
        stop: run.stop.as_str().to_owned(),
        resident: 0,
        entries: entries(subject, run, values)?,
        roles: setting
            .roles
            .iter()
            .filter(|role| !role.threads)
            .map(|role| RoleRule {
                name: role.name.clone(),
                first: role.first,
                parent: role.parent.clone(),
                forked_in: role.forked_in.clone(),
            })
            .collect(),
        volatile: subject
            .volatile
            .iter()
            .map(|rule| (rule.pattern.clone(), rule.replace.clone()))
            .collect(),
        varying: subject
            .volatile
            .iter()
            .flat_map(|rule| rule.functions.iter().cloned())
            .collect(),
        logs: subject.logs.clone(),
        state_files: subject.state.files.clone(),
        scope: Scope::Process,
        startup: false,
        workload: PathBuf::new(),
        probe: setting
            .probe
            .map(|probe| probe_script(subject, probe))
            .transpose()?,
        functions: Vec::new(),
        patch: None,
        image: Vec::new(),
        limits: Limits::BASELINE,
    })
}

fn version_spec(built: &BuiltVersion) -> VersionSpec {
    VersionSpec {
        label: built.label.clone(),
        tree: built.tree.clone(),
        program: built.program.clone(),
    }
}

/// How the server of this workload runs: as the script's profile says.
///
/// # Errors
/// When the script cannot be read, or the subject has no such profile.
pub fn setting<'a>(
    subject: &'a Subject,
    workload: &Path,
) -> Result<manifest::Setting<'a>, StudyError> {
    let profile = Script::read(workload, &subject.run.named_ports())?.profile;
    let name = profile.as_ref().map(|(name, _)| name.as_str());
    subject.setting(name).ok_or_else(|| {
        let (name, line) = profile.unwrap_or_default();
        let known: Vec<&str> = subject.profiles.iter().map(|p| p.name.as_str()).collect();
        let known = if known.is_empty() {
            "its manifest has no [[profile]]".to_owned()
        } else {
            format!("it has {}", known.join(", "))
        };
        StudyError::Script(ScriptError::Line {
            path: workload.display().to_string(),
            line,
            message: format!("{} has no profile `{name}`; {known}", subject.name),
        })
    })
}

/// The script of a probe session, which is played on the server of a workload.
fn probe_script(subject: &Subject, name: &str) -> Result<PathBuf, StudyError> {
    let path = subject.workload(name);
    match Script::read(&path, &subject.run.named_ports())?.profile {
        None => Ok(path),
        Some((_, line)) => Err(StudyError::Script(ScriptError::Line {
            path: path.display().to_string(),
            line,
            message: "a probe session is played on the server of each workload and names no profile; remove this line".to_owned(),
        })),
    }
}

fn entries(
    subject: &Subject,
    run: &manifest::Run,
    values: Placeholders<'_>,
) -> Result<Vec<Entry>, StudyError> {
    let folders = run.folders.iter().map(|folder| Entry {
        path: folder.path.display().to_string(),
        mode: folder.mode.unwrap_or(0o755),
        content: None,
    });
    let mut entries: Vec<Entry> = folders.collect();
    for file in &run.files {
        let content = match &file.content {
            FileContent::Text(text) => run.expand(text, values).into_bytes(),
            FileContent::Source(path) => {
                let path = subject.folder.join(path);
                std::fs::read(&path).map_err(|source| StudyError::File {
                    path: path.display().to_string(),
                    source,
                })?
            }
        };
        entries.push(Entry {
            path: file.path.display().to_string(),
            mode: file.mode.unwrap_or(0o644),
            content: Some(content),
        });
    }
    Ok(entries)
}
