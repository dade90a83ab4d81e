//! The beginning and the end of a server's life: when it is ready for clients, and
//! how it is asked to stop.

use nix::sys::signal::{Signal, kill};

use super::server::Server;
use super::spec::{Ready, SessionSpec};
use crate::tracee::activity::Activity;
use crate::verdict::observation::Stall;
use crate::world::host::{stands_still, wait};
use crate::world::listening::listens_on;
use crate::world::session::settle;
use crate::world::{Host, HostError, Limits, StallClock};

/// How a start went.
pub enum Started {
    /// The server is ready; its longest pause on the way.
    Ready(Limits),
    /// It is not and will not be: what it did instead, for a person, and the stall if
    /// it is still there.
    Failed(String, Option<Stall>),
}

/// Waits until the server stands still and shows that it is ready, or until it ends
/// or, once updated, a pause exceeds `limits`.
///
/// # Errors
/// When tracing fails.
pub fn wait_until_ready(
    server: &mut Server<'_>,
    ready: &Ready,
    limits: &Limits,
) -> Result<Started, HostError> {
    let pattern = match ready {
        Ready::Output(pattern) => Some(
            regex::Regex::new(&format!("(?m){pattern}"))
                .map_err(|e| HostError::NotReady(e.to_string()))?,
        ),
        Ready::Listening(_) => None,
    };
    let mut clock = StallClock::start();
    loop {
        let (still, reading) = stands_still(server)?;
        if let Some(ending) = server.root_ending() {
            let what = format!(
                "the server ended before it was ready ({ending:?}){}",
                last_output()
            );
            return Ok(Started::Failed(what, None));
        }
        if still {
            let shown = match ready {
                Ready::Listening(port) => listens_on(*port).map_err(|errno| HostError::System {
                    operation: "asking for listening sockets",
                    errno,
                })?,
                Ready::Output(_) => pattern.as_ref().is_some_and(|p| p.is_match(&output())),
            };
            if shown {
                return Ok(Started::Ready(clock.pause()));
            }
        }
        clock.look(&reading);
        // Only what an update does to a start is judged by the baselines' pauses.
        let limits = if server.watcher.has_updated() {
            limits
        } else {
            &Limits::BASELINE
        };
        if let Some(stalled) = clock.exceeds(limits) {
            let what = format!(
                "the server did not become ready ({ready:?}) within {:?}{}",
                limits.waiting,
                last_output()
            );
            let stall = Stall {
                exchange: 0,
                waiting_for: "the server to become ready".to_owned(),
                busy: stalled.busy,
            };
            return Ok(Started::Failed(what, Some(stall)));
        }
        if reading.activity == Activity::Running {
            std::thread::yield_now();
        } else {
            wait(server, &[], 1)?;
        }
    }
}

fn output() -> String {
    ["/kairos/stdout", "/kairos/stderr"]
        .iter()
        .map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned())
        .collect()
}

fn last_output() -> String {
    let output = output();
    let lines: Vec<&str> = output.lines().rev().take(10).collect();
    if lines.is_empty() {
        return "; it printed nothing".to_owned();
    }
    let lines: Vec<&str> = lines.into_iter().rev().collect();
    format!("; it printed:\n{}", lines.join("\n"))
}

/// Asks the first process to stop, and waits until it has and the rest is at rest;
/// tells the longest pause on the way. A server that does not stop is a stall.
///
/// # Errors
/// When tracing fails.
pub fn stop(
    server: &mut Server<'_>,
    spec: &SessionSpec,
    limits: &Limits,
) -> Result<(Option<Stall>, Limits), HostError> {
    let limits = limits.of_stop();
    if let Ok(signal) = spec.stop.parse::<Signal>()
        && server.root_ending().is_none()
    {
        let _ = kill(server.root(), signal);
    }
    let mut clock = StallClock::start();
    while server.root_ending().is_none() {
        server.pump()?;
        if server.root_ending().is_some() {
            break;
        }
        let reading = server.reading();
        clock.look(&reading);
        if let Some(stalled) = clock.exceeds(&limits) {
            let stall = Stall {
                exchange: server.parts.exchange,
                waiting_for: format!("the server to stop after {}", spec.stop),
                busy: stalled.busy,
            };
            return Ok((Some(stall), Limits::from_stop(clock.pause())));
        }
        if reading.activity == Activity::Running {
            std::thread::yield_now();
        } else {
            wait(server, &[], 1)?;
        }
    }
    // Children that end because the first process did belong to the stop.
    let (_, rest) = settle(server, &limits)?;
    Ok((None, Limits::from_stop(clock.pause().longest(rest))))
}
