//! The inner half of a recording: the server in its sandbox, and the proxy in
//! front of it. Sockets that clients connect to come from outside.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use super::log::{Log, Target};
use super::proxy::{Door, Note, Proxy};
use crate::engine::spec::{SessionSpec, Which};
use crate::engine::worker::enter;
use crate::sandbox::passing;
use crate::workload::Script;
use crate::world::HostError;

/// A port by its name in the subject's manifest, and its number.
pub type NamedPort = (String, u16);

/// Name of the hidden subcommand.
pub const RECORDER_COMMAND: &str = "__recorder";

/// What to record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The server; its old version is started.
    pub spec: SessionSpec,
    /// Named ports with their numbers, one for each of the first sockets that
    /// are handed over; the rest are for ports that replies name.
    pub ports: Vec<NamedPort>,
    /// Whether lines that a client sends in one burst are handed on one by one.
    pub paced: bool,
}

/// From the recorder, one JSON value a line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// The sandbox stands: hand over the sockets.
    Entered,
    /// The server is ready for clients.
    Ready,
    /// Something the user should hear of.
    Note(Note),
    /// The session is over.
    Recorded(Log),
    /// A fault of ours or of the machine, or a server that never became ready.
    Failed(String),
}

/// Serves one request that comes over `coordinator`; the same socket then brings
/// the listening sockets and, with a last byte, the end of the session.
///
/// # Errors
/// When `output` breaks; everything else is said there.
pub fn serve(coordinator: UnixStream, output: &mut dyn Write) -> std::io::Result<()> {
    let said = match record(coordinator, output) {
        Ok(log) => Said::Recorded(log),
        Err(error) => Said::Failed(error.to_string()),
    };
    say(output, &said)
}

fn say(output: &mut dyn Write, said: &Said) -> std::io::Result<()> {
    serde_json::to_writer(&mut *output, said)?;
    output.write_all(b"\n")?;
    output.flush()
}

fn record(
    mut coordinator: UnixStream,
    output: &mut dyn Write,
) -> Result<Log, Box<dyn std::error::Error>> {
    let mut line = String::new();
    // Nothing follows the line until we answer, so nothing is lost in the buffer.
    BufReader::new(&coordinator).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    let nothing = Script::parse("recording", "exchange recording\n", &request.spec.ports)
        .map_err(|(_, message)| message)?;
    let mut engine = enter(request.spec, nothing, None)?;
    say(output, &Said::Entered)?;
    let doors = doors(&coordinator, &request.ports)?;
    coordinator.set_nonblocking(true)?;

    let mut doors = Some(doors);
    let mut broken = None;
    let (events, server_ending) = engine.drive(Which::Old, &mut |server| {
        let mut tell = |said: &Said| {
            if let Err(error) = say(output, said) {
                broken = Some(error);
            }
        };
        tell(&Said::Ready);
        let mut note = |note| tell(&Said::Note(note));
        let doors = doors.take().unwrap_or_default();
        let proxy = Proxy::new(
            doors,
            request.ports.len(),
            request.paced,
            &mut coordinator,
            &mut note,
        );
        proxy.run(server)
    })?;
    match broken {
        Some(error) => Err(error.into()),
        None => Ok(Log {
            events,
            server_ending,
        }),
    }
}

fn doors(coordinator: &UnixStream, ports: &[NamedPort]) -> Result<Vec<Door>, HostError> {
    let failed = |operation| move |errno| HostError::System { operation, errno };
    let sockets = passing::receive(coordinator).map_err(failed("receiving sockets"))?;
    let mut named = ports.iter();
    sockets
        .into_iter()
        .map(|socket| {
            let leads_to = named
                .next()
                .map(|(name, number)| (Target::Port(name.clone()), *number));
            Door::new(TcpListener::from(socket), leads_to).map_err(|error| HostError::System {
                operation: "using a socket from outside",
                errno: nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)),
            })
        })
        .collect()
}
