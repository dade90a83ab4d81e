//! The outer half of a recording: the sockets that clients connect to, the client
//! itself, and the recorder process, all of which end with us.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::RecordError;
use super::log::Log;
use super::proxy::Note;
use super::worker::{NamedPort, RECORDER_COMMAND, Request, Said};
use crate::sandbox::passing;

/// Sockets kept for ports that replies name. They are used in turn, so that a
/// client may take its time to connect.
const SPARE_DOORS: usize = 32;
/// How often an interrupt is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What to run, and how.
pub struct Options<'a> {
    /// The `kairos` program.
    pub executable: &'a Path,
    /// Ports to listen on, by the server's port name; others are chosen.
    pub listen: &'a [NamedPort],
    /// The client with its arguments; without one, any client may connect.
    pub client: &'a [String],
    /// Set when the user wants to end the session.
    pub interrupted: &'a AtomicBool,
    /// Told where clients can connect, once the server is ready.
    pub ready: &'a mut dyn FnMut(&[NamedPort]),
    /// Told what the user should hear of at once.
    pub note: &'a mut dyn FnMut(&Note),
}

/// A finished session.
pub struct Recorded {
    /// What happened.
    pub log: Log,
    /// How the client ended, if there was one.
    pub client: Option<ExitStatus>,
}

/// News that end a wait.
enum News {
    Said(Said),
    RecorderGone,
    ClientEnded,
}

/// Runs server, proxy and client until the session is over.
///
/// # Errors
/// When a socket, the client or the recorder cannot be had, or the server fails.
pub fn record(request: &Request, options: Options<'_>) -> Result<Recorded, RecordError> {
    let sockets = listen(&request.ports, options.listen)?;
    let places = sockets
        .iter()
        .zip(&request.ports)
        .map(|(socket, (name, _))| Ok((name.clone(), socket.local_addr()?.port())))
        .collect::<std::io::Result<Vec<_>>>()
        .map_err(RecordError::System)?;
    let (sender, news) = channel();
    let mut recorder = Recorder::start(options.executable, request, sender.clone())?;
    let mut session = Session {
        client: None,
        sender,
        places,
        options,
    };
    let log = session.run(&mut recorder, &sockets, &news)?;
    Ok(Recorded {
        log,
        client: session.client.as_mut().and_then(Client::end),
    })
}

struct Session<'a> {
    client: Option<Client>,
    sender: Sender<News>,
    places: Vec<NamedPort>,
    options: Options<'a>,
}

impl Session<'_> {
    fn run(
        &mut self,
        recorder: &mut Recorder,
        sockets: &[TcpListener],
        news: &Receiver<News>,
    ) -> Result<Log, RecordError> {
        let (mut ready, mut stopped) = (false, false);
        loop {
            let told = match news.recv_timeout(LOOK_EVERY) {
                Ok(told) => Some(told),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(News::RecorderGone),
            };
            match told {
                Some(News::Said(Said::Entered)) => recorder.hand_over(sockets)?,
                Some(News::Said(Said::Ready)) => {
                    ready = true;
                    (self.options.ready)(&self.places);
                    if !self.options.client.is_empty() {
                        let client =
                            Client::start(self.options.client, &self.places, &self.sender)?;
                        self.client = Some(client);
                    }
                }
                Some(News::Said(Said::Note(note))) => (self.options.note)(&note),
                Some(News::Said(Said::Recorded(log))) => return Ok(log),
                Some(News::Said(Said::Failed(message))) => {
                    return Err(RecordError::Recorder(message));
                }
                Some(News::RecorderGone) => {
                    return Err(RecordError::Recorder("the recorder died".to_owned()));
                }
                Some(News::ClientEnded) if !stopped => {
                    stopped = true;
                    recorder.stop()?;
                }
                Some(News::ClientEnded) | None => {}
            }
            if !stopped && self.options.interrupted.load(Ordering::SeqCst) {
                if !ready {
                    return Err(RecordError::Interrupted);
                }
                stopped = true;
                if let Some(client) = &self.client {
                    client.ask_to_end();
                }
                recorder.stop()?;
            }
        }
    }
}

/// The sockets of the named ports, then the spare ones.
fn listen(ports: &[NamedPort], chosen: &[NamedPort]) -> Result<Vec<TcpListener>, RecordError> {
    let named = ports.iter().map(|(name, _)| {
        chosen
            .iter()
            .find(|(chosen, _)| chosen == name)
            .map_or(0, |(_, port)| *port)
    });
    named
        .chain(std::iter::repeat_n(0, SPARE_DOORS))
        .map(|port| {
            TcpListener::bind((Ipv4Addr::LOCALHOST, port))
                .map_err(|source| RecordError::Listen { port, source })
        })
        .collect()
}

/// The recorder process; dropping it ends it and everything in its sandbox.
struct Recorder {
    process: Child,
    socket: UnixStream,
}

impl Recorder {
    fn start(
        executable: &Path,
        request: &Request,
        sender: Sender<News>,
    ) -> Result<Self, RecordError> {
        let system = RecordError::System;
        let (ours, theirs) = UnixStream::pair().map_err(system)?;
        let mut process = Command::new(executable)
            .arg(RECORDER_COMMAND)
            // An interrupt at the terminal is for us alone.
            .process_group(0)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .spawn()
            .map_err(system)?;
        let said = process.stdout.take();
        let mut recorder = Self {
            process,
            socket: ours,
        };
        let mut line = serde_json::to_vec(request).map_err(|e| system(e.into()))?;
        line.push(b'\n');
        recorder.socket.write_all(&line).map_err(system)?;
        std::thread::spawn(move || {
            for line in said
                .into_iter()
                .flat_map(|said| BufReader::new(said).lines())
            {
                let told = line
                    .and_then(|line| serde_json::from_str(&line).map_err(Into::into))
                    .map_or(News::RecorderGone, News::Said);
                if sender.send(told).is_err() {
                    return;
                }
            }
            let _ = sender.send(News::RecorderGone);
        });
        Ok(recorder)
    }

    fn hand_over(&self, sockets: &[TcpListener]) -> Result<(), RecordError> {
        let descriptors: Vec<_> = sockets.iter().map(AsFd::as_fd).collect();
        passing::send(&self.socket, &descriptors).map_err(|errno| RecordError::System(errno.into()))
    }

    fn stop(&mut self) -> Result<(), RecordError> {
        self.socket.write_all(b"s").map_err(RecordError::System)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // Its inner half, and with it the sandbox, dies with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The user's client; dropping it ends it.
struct Client {
    process: Child,
    /// Whether it leads a process group of its own.
    leads: bool,
    ended: bool,
}

impl Client {
    fn start(
        command: &[String],
        places: &[NamedPort],
        sender: &Sender<News>,
    ) -> Result<Self, RecordError> {
        let port = |name: &str| places.iter().find(|(place, _)| place == name);
        let mut arguments = command
            .iter()
            .map(|argument| with_ports(argument, places))
            .collect::<Vec<_>>()
            .into_iter();
        let program = arguments.next().unwrap_or_default();
        let mut client = Command::new(&program);
        client.args(arguments);
        for (name, _) in places {
            if let Some((_, number)) = port(name) {
                let variable = format!(
                    "KAIROS_PORT_{}",
                    name.to_ascii_uppercase().replace(['-', '.'], "_")
                );
                client.env(variable, number.to_string());
            }
        }
        if let Some((_, first)) = places.first() {
            client.env("KAIROS_PORT", first.to_string());
        }
        // At a terminal it must stay in the foreground, to read from it.
        let leads = !std::io::stdin().is_terminal();
        if leads {
            client.process_group(0);
        }
        let process = client
            .spawn()
            .map_err(|source| RecordError::Client { program, source })?;
        let pid = Pid::from_raw(process.id().cast_signed());
        let sender = sender.clone();
        std::thread::spawn(move || {
            // Only looks: its number stays its own until we have reaped it.
            let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            while waitid(Id::Pid(pid), flags) == Err(nix::errno::Errno::EINTR) {}
            let _ = sender.send(News::ClientEnded);
        });
        Ok(Self {
            process,
            leads,
            ended: false,
        })
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().cast_signed());
        if self.leads {
            let _ = killpg(pid, signal);
        } else {
            let _ = kill(pid, signal);
        }
    }

    fn ask_to_end(&self) {
        self.signal(Signal::SIGTERM);
    }

    fn end(&mut self) -> Option<ExitStatus> {
        if self.ended {
            return None;
        }
        self.ended = true;
        // Not yet reaped, so the number is its own, and its group's.
        self.signal(Signal::SIGKILL);
        self.process.wait().ok()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.end();
    }
}

/// Replaces `{port}` and `{port:NAME}`.
fn with_ports(argument: &str, places: &[NamedPort]) -> String {
    let mut text = argument.to_owned();
    if let Some((_, first)) = places.first() {
        text = text.replace("{port}", &first.to_string());
    }
    for (name, number) in places {
        text = text.replace(&format!("{{port:{name}}}"), &number.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_name_ports() {
        let places = [("control".to_owned(), 4001), ("other".to_owned(), 4002)];
        assert_eq!(
            with_ports("ftp://h:{port}/{port:other}/{other}", &places),
            "ftp://h:4001/4002/{other}"
        );
    }
}
