//! Checks `[run]`: command, ports, files and their placeholders.

use std::path::Path;
use std::str::FromStr;

use nix::sys::signal::Signal;

use super::check::{Checked, inside, pattern_is_valid};
use super::{FileContent, Identity, Placeholders, Port, Ready, Run, RunFile, RunFolder};
use super::{placeholder, raw};
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
    if raw.command.get_ref().is_empty() {
        return Err(place.error(
            raw.command.span(),
            "the command is empty",
            "write at least \"{program}\"",
        ));
    }
    let expandable = |text: &raw::Text| placeholders(text, &ports, place);
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
    let files = raw
        .file
        .into_iter()
        .map(|file| run_file(file, &ports, folder, place))
        .collect::<Checked<_>>()?;
    Ok(Run {
        command: raw
            .command
            .into_inner()
            .into_iter()
            .map(|word| expandable(&word).map(|()| word.into_inner()))
            .collect::<Checked<_>>()?,
        identity: match raw.identity {
            raw::Identity::User => Identity::User,
            raw::Identity::Root => Identity::Root,
        },
        ready,
        stop,
        environment: raw
            .environment
            .into_iter()
            .map(|(name, value)| expandable(&value).map(|()| (name, value.into_inner())))
            .collect::<Checked<_>>()?,
        folders: raw
            .folder
            .into_iter()
            .map(|folder| {
                Ok(RunFolder {
                    path: inside(&folder.path, place)?,
                    mode: mode(folder.mode.as_ref(), place)?,
                })
            })
            .collect::<Checked<_>>()?,
        files,
        ports,
    })
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
