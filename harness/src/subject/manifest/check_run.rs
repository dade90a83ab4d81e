//! Checks `[run]`: command, ports, files and their placeholders.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use nix::sys::signal::Signal;
use toml::Spanned;

use super::check::{Checked, inside, is_word, pattern_is_valid};
use super::{FileContent, Identity, Placeholders, Port, Ready, Run, RunFile, RunFolder, User};
use super::{placeholder, raw};
use crate::sandbox::root::USERS_OF_EVERY_SANDBOX;
use crate::subject::place::Text;

pub(super) fn ports(run: &raw::Run, place: &Text<'_>) -> Checked<Vec<Port>> {
    let mut ports: Vec<_> = run.ports.iter().collect();
    // `{port}` is the port written first, not the first in the alphabet.
    ports.sort_by_key(|(_, number)| number.span().start);
    ports
        .into_iter()
        .map(|(name, number)| {
            if *number.get_ref() == 0 {
                return Err(place.error(
                    number.span(),
                    format!("port {name} has no number"),
                    "write a fixed number; every worker has a network of its own",
                ));
            }
            Ok(Port {
                name: name.clone(),
                number: *number.get_ref(),
            })
        })
        .collect()
}

pub(super) fn run(
    raw: raw::Run,
    ports: Vec<Port>,
    folder: &Path,
    place: &Text<'_>,
) -> Checked<Run> {
    let ready = match raw.ready {
        raw::Ready::Listening(port) => {
            if !ports.iter().any(|known| known.name == *port.get_ref()) {
                return Err(place.error(
                    port.span(),
                    format!("no port is named '{}'", port.get_ref()),
                    "name one of [run] ports",
                ));
            }
            Ready::Listening(port.into_inner())
        }
        raw::Ready::Output(pattern) => {
            pattern_is_valid(&pattern, place)?;
            Ready::Output(pattern.into_inner())
        }
    };
    let stop = Signal::from_str(raw.stop.get_ref()).map_err(|_| {
        place.error(
            raw.stop.span(),
            format!("'{}' is not a signal", raw.stop.get_ref()),
            "write a name such as \"SIGTERM\" or \"SIGINT\"",
        )
    })?;
    Ok(Run {
        command: command(raw.command, &ports, place)?,
        identity: match raw.identity {
            raw::Identity::User => Identity::User,
            raw::Identity::Root => Identity::Root,
        },
        ready,
        stop,
        environment: environment(raw.environment, &ports, place)?,
        folders: folders(raw.folder, place)?,
        files: files(raw.file, &ports, folder, place)?,
        users: users(raw.user, &ports, place)?,
        ports,
    })
}

pub(super) fn command(
    raw: Spanned<Vec<raw::Text>>,
    ports: &[Port],
    place: &Text<'_>,
) -> Checked<Vec<String>> {
    if raw.get_ref().is_empty() {
        return Err(place.error(
            raw.span(),
            "the command is empty",
            "write at least \"{program}\"",
        ));
    }
    raw.into_inner()
        .into_iter()
        .map(|word| placeholders(&word, ports, place).map(|()| word.into_inner()))
        .collect()
}

pub(super) fn environment(
    raw: BTreeMap<String, raw::Text>,
    ports: &[Port],
    place: &Text<'_>,
) -> Checked<BTreeMap<String, String>> {
    raw.into_iter()
        .map(|(name, value)| {
            placeholders(&value, ports, place).map(|()| (name, value.into_inner()))
        })
        .collect()
}

pub(super) fn folders(raw: Vec<raw::Folder>, place: &Text<'_>) -> Checked<Vec<RunFolder>> {
    raw.into_iter()
        .map(|folder| {
            Ok(RunFolder {
                path: inside(&folder.path, place)?,
                mode: mode(folder.mode.as_ref(), place)?,
            })
        })
        .collect()
}

pub(super) fn files(
    raw: Vec<raw::File>,
    ports: &[Port],
    folder: &Path,
    place: &Text<'_>,
) -> Checked<Vec<RunFile>> {
    raw.into_iter()
        .map(|file| run_file(file, ports, folder, place))
        .collect()
}

/// Refuses what would break the line of a user in `/etc/passwd`.
pub(super) fn users(raw: Vec<raw::User>, ports: &[Port], place: &Text<'_>) -> Checked<Vec<User>> {
    raw.into_iter()
        .map(|user| {
            let name = user.name.get_ref();
            if name.is_empty() || !name.chars().all(is_word) {
                return Err(place.error(
                    user.name.span(),
                    format!("'{name}' cannot name a user"),
                    "use letters, digits and underscores",
                ));
            }
            if USERS_OF_EVERY_SANDBOX.contains(&name.as_str()) {
                return Err(place.error(
                    user.name.span(),
                    format!("every sandbox has a user '{name}'"),
                    "choose another name",
                ));
            }
            for text in [Some(&user.password), user.home.as_ref()].into_iter().flatten() {
                if text.get_ref().is_empty() || text.get_ref().contains([':', '\n']) {
                    return Err(place.error(
                        text.span(),
                        "this cannot stand in a line of /etc/passwd",
                        "write text without colons and line ends; a password as `openssl passwd -6` prints it",
                    ));
                }
            }
            let home = match user.home {
                Some(home) => {
                    placeholders(&home, ports, place)?;
                    home.into_inner()
                }
                None => "{run}".to_owned(),
            };
            Ok(User {
                name: user.name.into_inner(),
                password: user.password.into_inner(),
                home,
            })
        })
        .collect()
}

fn run_file(file: raw::File, ports: &[Port], folder: &Path, place: &Text<'_>) -> Checked<RunFile> {
    let content = match (file.text, file.source) {
        (Some(text), None) => {
            placeholders(&text, ports, place)?;
            FileContent::Text(text.into_inner())
        }
        (None, Some(source)) => {
            let path = folder.join(inside(&source, place)?);
            if !path.is_file() {
                return Err(place.error(
                    source.span(),
                    format!("{} does not exist", path.display()),
                    "name a file relative to the subject's folder",
                ));
            }
            FileContent::Source(path)
        }
        _ => {
            return Err(place.error(
                file.path.span(),
                "a file needs either `text` or `source`",
                "write its contents as `text`, or name a file beside the manifest as `source`",
            ));
        }
    };
    Ok(RunFile {
        path: inside(&file.path, place)?,
        content,
        mode: mode(file.mode.as_ref(), place)?,
    })
}

fn mode(mode: Option<&raw::Text>, place: &Text<'_>) -> Checked<Option<u32>> {
    mode.map(|mode| {
        u32::from_str_radix(mode.get_ref(), 8)
            .ok()
            .filter(|bits| *bits <= 0o7777)
            .ok_or_else(|| {
                place.error(
                    mode.span(),
                    format!("'{}' is not a file mode", mode.get_ref()),
                    "write octal permission bits as text, such as \"0644\"",
                )
            })
    })
    .transpose()
}

fn placeholders(text: &raw::Text, ports: &[Port], place: &Text<'_>) -> Checked<()> {
    let values = Placeholders {
        run: "",
        program: "",
    };
    for found in placeholder::find(text.get_ref()) {
        if placeholder::value(&found, ports, values).is_none() {
            let written = &text.get_ref()[found.range];
            // Escapes in a TOML string shift offsets; look the text up instead.
            let span = text.span();
            let source = place.text.get(span.clone()).unwrap_or_default();
            let at = span.start + source.find(written).unwrap_or(0);
            return Err(place.error(
                at..at + written.len(),
                format!("unknown placeholder {written}"),
                "there are {run}, {program}, {port} (the first port) and {port:NAME}",
            ));
        }
    }
    Ok(())
}
