//! The coordinator's end of a worker: starts it, asks it, and makes sure that it
//! ends with us.

use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::baseline::{Baseline, Traced};
use super::burden::Burden;
use super::gdb::GdbPoint;
use super::handover::Held;
use super::kept::Kept;
use super::protocol::{Reply, Request};
use super::shortened::Last;
use super::spec::{SessionSpec, Which};
use super::stepper::{Stepped, Wanted};
use super::{Engine, EngineError, EngineKind, PointRequest, Tested};
use crate::trace::Timing;
use crate::tracee::access::Access;
use crate::verdict::Observation;
use crate::world::Limits;

/// Tests that a worker is asked for at a time. Requests are short: they fit in a pipe
/// while the worker does not read.
const AHEAD: usize = 2;

/// Name of the hidden subcommand that serves as worker.
pub const WORKER_COMMAND: &str = "__worker";

/// An engine in a worker process of its own: the restart engine, until it is told to
/// use another.
pub struct RemoteEngine {
    processor: usize,
    worker: Child,
    requests: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    /// What the last test showed.
    last: Last,
}

impl RemoteEngine {
    /// Starts a worker for a session. The calling thread must outlive it: the
    /// kernel kills the worker when that thread ends.
    ///
    /// # Errors
    /// When the worker cannot be started or cannot enter its sandbox.
    pub fn start(executable: &std::path::Path, spec: &SessionSpec) -> Result<Self, EngineError> {
        let processor = spec.processor;
        let lost = |source| EngineError::Lost { processor, source };
        let mut worker = Command::new(executable)
            .arg(WORKER_COMMAND)
            // An interrupt at the terminal is for the coordinator alone.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(lost)?;
        let (Some(requests), Some(replies)) = (worker.stdin.take(), worker.stdout.take()) else {
            return Err(lost(std::io::ErrorKind::BrokenPipe.into()));
        };
        let mut engine = Self {
            processor,
            worker,
            requests: Some(requests),
            replies: BufReader::with_capacity(1 << 16, replies),
            last: Last::default(),
        };
        engine.send(spec)?;
        match engine.receive()? {
            Reply::Ready => Ok(engine),
            other => Err(unexpected(other)),
        }
    }

    fn send(&mut self, value: &impl serde::Serialize) -> Result<(), EngineError> {
        let processor = self.processor;
        let lost = |source| EngineError::Lost { processor, source };
        let requests = self
            .requests
            .as_mut()
            .ok_or_else(|| lost(std::io::ErrorKind::BrokenPipe.into()))?;
        let mut line = serde_json::to_vec(value).map_err(|e| lost(e.into()))?;
        line.push(b'\n');
        requests.write_all(&line).map_err(lost)
    }

    fn receive(&mut self) -> Result<Reply, EngineError> {
        let processor = self.processor;
        let lost = |source| EngineError::Lost { processor, source };
        let mut line = String::new();
        if self.replies.read_line(&mut line).map_err(lost)? == 0 {
            return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
        }
        serde_json::from_str(&line).map_err(|e| lost(e.into()))
    }

    fn ask(&mut self, request: &Request) -> Result<Reply, EngineError> {
        self.send(request)?;
        self.receive()
    }

    /// Runs one version unpatched.
    ///
    /// # Errors
    /// When the worker fails or the server never becomes ready.
    pub fn baseline(&mut self, version: Which, followed: bool) -> Result<Baseline, EngineError> {
        match self.ask(&Request::Baseline { version, followed })? {
            Reply::Baseline(baseline) => Ok(*baseline),
            other => Err(unexpected(other)),
        }
    }

    /// Records a run of the old version.
    ///
    /// # Errors
    /// When the worker fails or the server never becomes ready.
    pub fn trace(&mut self) -> Result<Traced, EngineError> {
        match self.ask(&Request::Trace)? {
            Reply::Traced(traced) => Ok(*traced),
            other => Err(unexpected(other)),
        }
    }

    /// Times a run of the old version without stops.
    ///
    /// # Errors
    /// When the worker fails or the server never becomes ready.
    pub fn time(&mut self) -> Result<Timing, EngineError> {
        match self.ask(&Request::Time)? {
            Reply::Timed(timing) => Ok(*timing),
            other => Err(unexpected(other)),
        }
    }

    /// What the transformer reads and writes when the update is applied at a point; none
    /// if it could not be run there.
    ///
    /// # Errors
    /// When the worker fails.
    pub fn spy(&mut self, point: &PointRequest) -> Result<Option<Vec<Access>>, EngineError> {
        let request = Request::Spy {
            point: point.clone(),
        };
        match self.ask(&request)? {
            Reply::Spied(accesses) => Ok(accesses),
            other => Err(unexpected(other)),
        }
    }

    /// Runs the old version instruction by instruction and finds what steps touch.
    ///
    /// # Errors
    /// When the worker fails or the server never becomes ready.
    pub fn step(&mut self, wanted: Wanted) -> Result<Stepped, EngineError> {
        match self.ask(&Request::Step(wanted))? {
            Reply::Stepped(stepped) => Ok(*stepped),
            other => Err(unexpected(other)),
        }
    }

    /// Sets when tests count as stalled.
    ///
    /// # Errors
    /// When the worker is lost.
    pub fn set_limits(&mut self, limits: Limits) -> Result<(), EngineError> {
        match self.ask(&Request::Limits(limits))? {
            Reply::Ready => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Has tests run by another engine from now on; tells why the session does not
    /// allow it, if so.
    ///
    /// # Errors
    /// When the worker fails.
    pub fn use_engine(&mut self, kind: EngineKind) -> Result<Option<String>, EngineError> {
        match self.ask(&Request::Use(kind))? {
            Reply::Ready => Ok(None),
            Reply::Unfit(why) => Ok(Some(why)),
            other => Err(unexpected(other)),
        }
    }

    /// Places of points in the order in which the engine in use goes from one to the
    /// next; none for those that it does not meet.
    ///
    /// # Errors
    /// When the worker is lost.
    pub fn order(&mut self, points: Vec<PointRequest>) -> Result<Vec<Option<u32>>, EngineError> {
        match self.ask(&Request::Order(points))? {
            Reply::Ordered(places) => Ok(places),
            other => Err(unexpected(other)),
        }
    }

    /// What the worker takes of the machine.
    ///
    /// # Errors
    /// When the worker is lost.
    pub fn burden(&mut self) -> Result<Burden, EngineError> {
        match self.ask(&Request::Burden)? {
            Reply::Burden(burden) => Ok(burden),
            other => Err(unexpected(other)),
        }
    }

    /// Runs one test; with `apply` off it stops at the point and goes on.
    ///
    /// # Errors
    /// When the worker fails.
    pub fn test(&mut self, point: &PointRequest, apply: bool) -> Result<Tested, EngineError> {
        let request = Request::Test {
            point: point.clone(),
            apply,
        };
        match self.ask(&request)? {
            Reply::Tested(tested) => Ok(self.last.complete(*tested)),
            other => Err(unexpected(other)),
        }
    }

    /// Runs one test by gdb.
    ///
    /// # Errors
    /// When the worker or gdb fails.
    pub fn gdb(&mut self, point: &GdbPoint) -> Result<Observation, EngineError> {
        match self.ask(&Request::Gdb(point.clone()))? {
            Reply::Observed(observation) => Ok(*observation),
            other => Err(unexpected(other)),
        }
    }
}

impl RemoteEngine {
    /// Runs one test and brings out the files that it leaves.
    ///
    /// # Errors
    /// When the worker fails.
    pub fn keep(&mut self, point: &PointRequest, apply: bool) -> Result<Kept, EngineError> {
        let request = Request::Keep {
            point: point.clone(),
            apply,
        };
        match self.ask(&request)? {
            Reply::Kept(kept) => Ok(*kept),
            other => Err(unexpected(other)),
        }
    }

    /// Runs one test up to the update and leaves the server to a debugger. The
    /// session goes on meanwhile; once a process is held the engine serves for
    /// nothing else and is to be [abandoned](Self::abandon).
    ///
    /// # Errors
    /// When the worker fails.
    pub fn hold(&mut self, point: &PointRequest, apply: bool) -> Result<Holding, EngineError> {
        let request = Request::Hold {
            point: point.clone(),
            apply,
        };
        match self.ask(&request)? {
            Reply::Held(held) => Ok(Holding::Held(held)),
            Reply::Observed(observation) => Ok(Holding::Missed(observation)),
            other => Err(unexpected(other)),
        }
    }

    /// The worker's number.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.worker.id()
    }

    /// Ends the worker at once, with everything in its sandbox.
    pub fn abandon(mut self) {
        // Gone already is as good; dropping it waits for its end.
        let _ = self.worker.kill();
    }
}

/// How a test went that was to be left to a debugger.
#[derive(Debug)]
pub enum Holding {
    /// A process is stopped right after the update.
    Held(Held),
    /// The update was not applied, as the observation says.
    Missed(Box<Observation>),
}

fn unexpected(reply: Reply) -> EngineError {
    EngineError::Worker(match reply {
        Reply::Failed(message) => message,
        other => format!("unexpected reply {other:?}"),
    })
}

impl Engine for RemoteEngine {
    fn run(
        &mut self,
        points: &[PointRequest],
        sink: &mut dyn FnMut(usize, Tested) -> ControlFlow<()>,
    ) -> Result<(), EngineError> {
        // The worker has its next request when it is done with one: it need not wait until
        // what that one showed has been judged and stored.
        let mut asked = 0;
        let mut goes_on = true;
        for position in 0..points.len() {
            while goes_on && asked < points.len() && asked - position < AHEAD {
                self.send(&Request::Test {
                    point: points[asked].clone(),
                    apply: true,
                })?;
                asked += 1;
            }
            if position == asked {
                break;
            }
            match self.receive()? {
                Reply::Tested(tested) => {
                    let tested = self.last.complete(*tested);
                    // What was asked for before the end is of no use any more.
                    goes_on = goes_on && sink(position, tested).is_continue();
                }
                other => return Err(unexpected(other)),
            }
        }
        Ok(())
    }
}

impl Drop for RemoteEngine {
    fn drop(&mut self) {
        // End of input ends the worker, and with it everything in its namespaces.
        self.requests = None;
        let _ = self.worker.wait();
    }
}
