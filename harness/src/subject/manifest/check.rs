//! From the manifest as written to a [`Subject`], refusing what makes no sense.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use regex::Regex;
use toml::Spanned;

use super::check_profile::profiles;
use super::check_rules::rules;
use super::check_run::{ports, run};
use super::raw;
use super::{
    Archive, Build, ManualPoint, Queue, Role, State, Step, Subject, Version, VersionSource,
    Volatile, Workloads,
};
use crate::subject::error::ManifestError;
use crate::subject::place::Text;

pub(crate) type Checked<T> = Result<T, ManifestError>;

pub(super) fn subject(raw: raw::Manifest, place: &Text<'_>) -> Checked<Subject> {
    subject_with(raw, place, |raw, folder| workloads(raw, folder, place))
}

/// A subject whose sessions lie where `workloads` looks for them.
pub(crate) fn subject_with(
    raw: raw::Manifest,
    place: &Text<'_>,
    workloads: impl FnOnce(raw::Workloads, &Path) -> Checked<Workloads>,
) -> Checked<Subject> {
    let folder = place
        .path
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default();
    name(&raw.name, &folder, place)?;
    if raw.version.is_empty() {
        return Err(place.error(
            raw.name.span(),
            "the subject has no version",
            "add at least one [[version]]",
        ));
    }
    let ports = ports(&raw.run, place)?;
    let roles = roles(raw.role, place)?;
    let run = run(raw.run, ports, &folder, place)?;
    let profiles = profiles(raw.profile, &run, &roles, &folder, place)?;
    let all_roles: Vec<&Role> = profiles
        .iter()
        .flat_map(|profile| &profile.roles)
        .chain(&roles)
        .collect();
    Ok(Subject {
        about: raw.about,
        versions: versions(raw.version, &folder, place)?,
        build: build(raw.build, place)?,
        run,
        manual_lines: raw.manual.iter().map(|point| lines_of(point, place)).sum(),
        manual: raw
            .manual
            .into_iter()
            .map(|point| manual(point.into_inner(), &all_roles, place))
            .collect::<Checked<_>>()?,
        profiles,
        roles,
        except_named: function_names(raw.except_named, place)?,
        rules: rules(
            raw::Rules {
                array: raw.array,
                cast: raw.cast,
                union: raw.union,
            },
            true,
            place,
        )?,
        volatile: raw
            .volatile
            .into_iter()
            .map(|rule| volatile(rule, place))
            .collect::<Checked<_>>()?,
        logs: raw
            .log
            .into_iter()
            .map(|log| log_path(log, place))
            .collect::<Checked<_>>()?,
        state: state(raw.state, place)?,
        workloads: workloads(raw.workloads, &folder)?,
        name: raw.name.into_inner(),
        folder,
    })
}

fn name(name: &raw::Text, folder: &Path, place: &Text<'_>) -> Checked<()> {
    let expected = folder.file_name().map(|name| name.to_string_lossy());
    let text = name.get_ref();
    if text.is_empty() || !text.chars().all(is_word) {
        return Err(place.error(
            name.span(),
            format!("'{text}' cannot name a subject"),
            "use letters, digits and underscores; hyphens separate the parts of a pair's name",
        ));
    }
    match expected {
        Some(expected) if expected != text.as_str() => Err(place.error(
            name.span(),
            format!("the subject is named '{text}' but lies in the folder '{expected}'"),
            format!("write name = \"{expected}\", or rename the folder"),
        )),
        _ => Ok(()),
    }
}

pub(crate) fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

fn versions(
    raw: Vec<Spanned<raw::Version>>,
    folder: &Path,
    place: &Text<'_>,
) -> Checked<Vec<Version>> {
    let mut seen = BTreeSet::new();
    raw.into_iter()
        .map(|version| {
            let span = version.span();
            let version = version.into_inner();
            let label = version.label.get_ref().clone();
            let allowed = |c: char| is_word(c) || matches!(c, '.' | '+' | '~');
            if label.is_empty() || !label.chars().all(allowed) {
                return Err(place.error(
                    version.label.span(),
                    format!("'{label}' cannot label a version"),
                    "use letters, digits, '.', '_', '+' and '~'; hyphens separate the parts of a pair's name",
                ));
            }
            if !seen.insert(label.clone()) {
                return Err(place.error(
                    version.label.span(),
                    format!("two versions are labelled '{label}'"),
                    "give each version its own label",
                ));
            }
            let source = match (version.archive, version.queue, version.folder) {
                (Some(upstream), queue, None) => VersionSource::Archive {
                    archive: archive(&upstream.file, &upstream.sha256, &upstream.package, place)?,
                    queue: queue.map(|queue| queue_of(queue, place)).transpose()?,
                },
                (None, None, Some(path)) => {
                    VersionSource::Folder(folder.join(inside(&path, place)?))
                }
                (None, Some(queue), _) => {
                    return Err(place.error(
                        queue.span(),
                        "a patch queue needs an archive to apply to",
                        "add `archive = { file, sha256, package }` to this version",
                    ));
                }
                _ => {
                    return Err(place.error(
                        span,
                        format!("version '{label}' needs either `archive` or `folder`"),
                        "name the upstream archive, or a source tree beside the manifest",
                    ));
                }
            };
            Ok(Version {
                label,
                about: version.about,
                source,
            })
        })
        .collect()
}

fn queue_of(queue: Spanned<raw::Queue>, place: &Text<'_>) -> Checked<Queue> {
    let queue = queue.into_inner();
    Ok(Queue {
        archive: archive(&queue.file, &queue.sha256, &queue.package, place)?,
        upto: queue.upto,
        without: queue.without,
    })
}

fn archive(
    file: &raw::Text,
    sha256: &raw::Text,
    package: &raw::Text,
    place: &Text<'_>,
) -> Checked<Archive> {
    if file.get_ref().is_empty() || file.get_ref().contains('/') {
        return Err(place.error(
            file.span(),
            format!("'{}' is not a file name", file.get_ref()),
            "name the archive without any folder or address; Kairos asks apt for the rest",
        ));
    }
    let hash = sha256.get_ref();
    if hash.len() != 64 || !hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(place.error(
            sha256.span(),
            "this is not a SHA-256",
            "write the 64 hexadecimal digits that `sha256sum` prints for the archive",
        ));
    }
    // The package name becomes an argument of apt: nothing but a name may pass.
    let is_package = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c))
    };
    if !is_package(package.get_ref()) {
        return Err(place.error(
            package.span(),
            format!("'{}' is not a Debian source package", package.get_ref()),
            "name the source package, in lower case",
        ));
    }
    Ok(Archive {
        file: file.get_ref().clone(),
        sha256: hash.clone(),
        package: package.get_ref().clone(),
    })
}

fn build(raw: raw::Build, place: &Text<'_>) -> Checked<Build> {
    if raw.steps.get_ref().is_empty() {
        return Err(place.error(
            raw.steps.span(),
            "the recipe has no step",
            "write at least one shell line, such as \"make CC=\\\"$CC\\\"\"",
        ));
    }
    Ok(Build {
        debian_packages: raw.debian_packages,
        program: inside(&raw.program, place)?,
        steps: raw
            .steps
            .into_inner()
            .into_iter()
            .map(|step| Step {
                line: place.line(step.span().start),
                command: step.into_inner(),
            })
            .collect(),
    })
}

pub(super) fn roles(raw: Vec<Spanned<raw::Role>>, place: &Text<'_>) -> Checked<Vec<Role>> {
    let names: BTreeSet<String> = raw
        .iter()
        .map(|role| role.get_ref().name.get_ref().clone())
        .collect();
    let firsts = raw.iter().filter(|role| role.get_ref().first).count();
    if firsts != 1 {
        let span = raw.last().map_or(0..0, Spanned::span);
        return Err(place.error(
            span,
            format!("{firsts} roles are marked `first = true`"),
            "mark exactly one [[role]]: the process that Kairos starts",
        ));
    }
    raw.into_iter()
        .map(|role| {
            let role = role.into_inner();
            if role.first
                && let Some(extra) = role.parent.as_ref().or(role.forked_in.as_ref())
            {
                return Err(place.error(
                    extra.span(),
                    format!("the first process '{}' has no parent", role.name.get_ref()),
                    "remove `parent` and `forked_in` from this role",
                ));
            }
            match &role.parent {
                Some(parent) if !names.contains(parent.get_ref()) => {
                    return Err(place.error(
                        parent.span(),
                        format!("no role is named '{}'", parent.get_ref()),
                        "name a [[role]] of this manifest",
                    ));
                }
                None if !role.first => {
                    return Err(place.error(
                        role.name.span(),
                        format!(
                            "role '{}' says neither `first` nor `parent`",
                            role.name.get_ref()
                        ),
                        "say whose child it is with `parent`",
                    ));
                }
                _ => {}
            }
            Ok(Role {
                name: role.name.into_inner(),
                first: role.first,
                parent: role.parent.map(Spanned::into_inner),
                forked_in: role.forked_in.map(Spanned::into_inner),
                threads: role.threads,
            })
        })
        .collect()
}

fn manual(point: raw::Manual, roles: &[&Role], place: &Text<'_>) -> Checked<ManualPoint> {
    if !roles.iter().any(|role| role.name == *point.role.get_ref()) {
        return Err(place.error(
            point.role.span(),
            format!("no role is named '{}'", point.role.get_ref()),
            "name a [[role]] of this manifest",
        ));
    }
    Ok(ManualPoint {
        role: point.role.into_inner(),
        looping: point.looping.into_inner(),
        entry: point.entry.into_inner(),
        why: reason(point.why, place)?,
    })
}

/// Lines that name a manual point, from its header to the end of its last key;
/// comments and blank lines are left out.
fn lines_of(point: &Spanned<raw::Manual>, place: &Text<'_>) -> u32 {
    let raw::Manual {
        role,
        looping,
        entry,
        why,
    } = point.get_ref();
    let ends = [role, looping, entry, why].map(|key| key.span().end);
    let span = point.span().start..ends.into_iter().max().unwrap_or_default();
    let text = place.text.get(span).unwrap_or_default();
    let is_content = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with('#');
    u32::try_from(text.lines().filter(is_content).count()).unwrap_or(u32::MAX)
}

/// Names of functions, each an identifier of C.
pub(crate) fn function_names(names: Vec<raw::Text>, place: &Text<'_>) -> Checked<Vec<String>> {
    let is_identifier =
        |name: &str| name.chars().all(is_word) && name.starts_with(|c: char| !c.is_ascii_digit());
    if let Some(wrong) = names.iter().find(|name| !is_identifier(name.get_ref())) {
        return Err(place.error(
            wrong.span(),
            format!("'{}' cannot name a function", wrong.get_ref()),
            "write the name alone, such as \"main\", without file, arguments or parentheses",
        ));
    }
    Ok(names.into_iter().map(Spanned::into_inner).collect())
}

fn volatile(rule: raw::Volatile, place: &Text<'_>) -> Checked<Volatile> {
    pattern_is_valid(&rule.pattern, place)?;
    Ok(Volatile {
        pattern: rule.pattern.into_inner(),
        replace: rule.replace,
        why: reason(rule.why, place)?,
        functions: function_names(rule.functions, place)?,
    })
}

fn reason(why: raw::Text, place: &Text<'_>) -> Checked<String> {
    if why.get_ref().trim().is_empty() {
        return Err(place.error(
            why.span(),
            "the reason is empty",
            "say why; a reader of the study will ask",
        ));
    }
    Ok(why.into_inner())
}

fn log_path(log: raw::Log, place: &Text<'_>) -> Checked<String> {
    inside(&log.path, place)?;
    Ok(log.path.into_inner())
}

fn state(raw: Option<raw::State>, place: &Text<'_>) -> Checked<State> {
    let files = raw.map(|state| state.files).unwrap_or_default();
    Ok(State {
        files: files
            .into_iter()
            .map(|glob| inside(&glob, place).map(|_| glob.into_inner()))
            .collect::<Checked<_>>()?,
    })
}

fn workloads(raw: raw::Workloads, folder: &Path, place: &Text<'_>) -> Checked<Workloads> {
    if raw.study.get_ref().is_empty() {
        return Err(place.error(
            raw.study.span(),
            "the subject has no workload",
            "name at least one session of its folder workloads/",
        ));
    }
    for name in raw.study.get_ref().iter().chain(&raw.probe) {
        workload_exists(name, folder, place)?;
    }
    Ok(Workloads {
        study: raw
            .study
            .into_inner()
            .into_iter()
            .map(Spanned::into_inner)
            .collect(),
        probe: raw.probe.map(Spanned::into_inner),
    })
}

/// Refuses a workload whose script is missing from the subject's folder.
pub(in crate::subject) fn workload_exists(
    name: &raw::Text,
    folder: &Path,
    place: &Text<'_>,
) -> Checked<()> {
    let script = format!("workloads/{}.session", name.get_ref());
    if folder.join(&script).is_file() {
        return Ok(());
    }
    Err(place.error(
        name.span(),
        format!("workload '{}' has no script", name.get_ref()),
        format!(
            "write {}, or correct the name",
            folder.join(script).display()
        ),
    ))
}

/// A relative path that stays inside its folder.
pub(crate) fn inside(path: &raw::Text, place: &Text<'_>) -> Checked<PathBuf> {
    let relative = Path::new(path.get_ref());
    let stays = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if stays && relative.components().next().is_some() {
        return Ok(relative.to_path_buf());
    }
    Err(place.error(
        path.span(),
        format!("'{}' does not stay inside its folder", path.get_ref()),
        "write a relative path without '..'",
    ))
}

pub(super) fn pattern_is_valid(pattern: &raw::Text, place: &Text<'_>) -> Checked<()> {
    Regex::new(pattern.get_ref()).map(|_| ()).map_err(|error| {
        let text = error.to_string();
        let reason = text
            .lines()
            .rev()
            .find_map(|line| line.trim().strip_prefix("error: "))
            .unwrap_or("not a regular expression");
        place.error(
            pattern.span(),
            format!("bad regular expression: {reason}"),
            "use the syntax of the Rust regex crate; literal text in '…' needs no doubled backslashes",
        )
    })
}
