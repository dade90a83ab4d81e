//! The whole state of a simulated world. It lies at [`crate::layout::WORLD`] in the
//! server's process; the harness reads and writes it there.

use crate::cache::Path;
use crate::channels::{Channel, MOST_CHANNELS};
use crate::client::Client;
use crate::descriptors::Descriptors;
use crate::files::Files;
use crate::marks::{Noted, Rests};
use crate::network::Network;
use crate::processes::{MOST_PROCESSES, Process};
use crate::script::Placed;
use crate::transcript::{MOST_LOGS, Transcript};

/// Why the simulator cannot go on with a session: it does what is not simulated.
#[derive(Clone, Copy, Debug)]
pub struct Declined(pub &'static str);

/// What a call answers: a value, or the negative of an error number.
pub type Answer = Result<i64, Declined>;

/// Every process, where one is named.
pub const EVERY_PROCESS: u32 = u32::MAX - 1;

/// Why the simulator stopped for the harness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Reason {
    /// It did not.
    None,
    /// The server stands still before it is ready; the harness says whether it is.
    Still,
    /// The server is ready and nothing of the session has begun.
    Sealed,
    /// An exchange ended.
    ExchangeEnded,
    /// The process `detail` is to run.
    HandsOver,
    /// A signal ends the process; it is in `detail`.
    Dies,
    /// Session, probe and stop are over.
    Over,
    /// The server made the call `detail`, which is not simulated; `argument` helps to
    /// name it.
    UnknownCall,
    /// The server did something else that is not simulated; `detail` and `argument` are
    /// address and length of what.
    Declined,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Phase {
    /// The server starts.
    Starting,
    /// The session is played.
    Session,
    /// The probe session is played.
    Probe,
    /// The server was asked to stop.
    Stop,
    /// It is over.
    Over,
}

/// What the client waits for, as a stall says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Awaited {
    /// Nothing: there was no stall.
    Nothing,
    /// A reply on the connection.
    Reply,
    /// The server to read from the connection.
    Reading,
    /// The server to come to rest.
    Rest,
    /// The server to stop.
    Stopping,
}

/// What harness and simulator tell each other.
#[repr(C)]
pub struct Control {
    /// Why it stopped.
    pub reason: Reason,
    /// Whether the server is ready, which the harness decides.
    pub sealed: u32,
    /// More about the reason.
    pub detail: i64,
    /// And more.
    pub argument: i64,
    /// Where the run stands.
    pub phase: Phase,
    /// The exchange under way, counted on through the probe session.
    pub exchange: u32,
    /// Exchanges of the session proper.
    pub session_exchanges: u32,
    /// Whether there is a probe session.
    pub has_probe: u32,
    /// Exchange in which an entry counter is set when it begins.
    pub arm_exchange: u32,
    /// The process whose counter that is.
    pub arm_process: u32,
    /// Seconds of the calendar when the world began.
    pub epoch: u64,
    /// Whether to stop when an exchange ends.
    pub stop_at_exchange_end: u32,
    /// What the entry counter is set to.
    pub arm_count: u64,
    /// Nanoseconds since the world began.
    pub now: u64,
    /// Nanoseconds without progress that the client could see.
    pub idle: u64,
    /// Most of these in session and probe.
    pub most_idle: u64,
    /// Most of these after the server was asked to stop.
    pub most_idle_stopping: u64,
    /// Signal that asks for the stop.
    pub stop_signal: u32,
    /// Whether the server's first process has ended.
    pub dead: u32,
    /// The stall, if there was one.
    pub stalled: Awaited,
    /// Its connection.
    pub stalled_connection: u32,
    /// State of the random generator.
    pub random: u64,
    /// Calls answered.
    pub calls: u64,
    /// The scripts of session and probe.
    pub scripts: [Placed; 2],
}

/// What harness and simulator tell each other that no later call depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    reason: Reason,
    detail: i64,
    argument: i64,
    arm_exchange: u32,
    arm_process: u32,
    arm_count: u64,
    stop_at_exchange_end: u32,
    calls: u64,
}

impl Told {
    /// Nothing of it.
    pub const NOTHING: Self = Self {
        reason: Reason::None,
        detail: 0,
        argument: 0,
        arm_exchange: 0,
        arm_process: 0,
        arm_count: 0,
        stop_at_exchange_end: 0,
        calls: 0,
    };
}

impl Control {
    /// What is told.
    #[must_use]
    pub const fn told(&self) -> Told {
        Told {
            reason: self.reason,
            detail: self.detail,
            argument: self.argument,
            arm_exchange: self.arm_exchange,
            arm_process: self.arm_process,
            arm_count: self.arm_count,
            stop_at_exchange_end: self.stop_at_exchange_end,
            calls: self.calls,
        }
    }

    /// Tells it.
    pub const fn tell(&mut self, told: Told) {
        self.reason = told.reason;
        self.detail = told.detail;
        self.argument = told.argument;
        self.arm_exchange = told.arm_exchange;
        self.arm_process = told.arm_process;
        self.arm_count = told.arm_count;
        self.stop_at_exchange_end = told.stop_at_exchange_end;
        self.calls = told.calls;
    }
}

/// Everything. What is always in use comes first, then what is in use in part; see
/// [`crate::parts`].
#[repr(C)]
pub struct World {
    /// What harness and simulator tell each other.
    pub control: Control,
    /// The client.
    pub client: Client,
    /// Bytes of the send under way that were taken.
    pub sent: u64,
    /// Moments at which a process stopped running, and births.
    pub turns: u64,
    /// Number of connections ever opened, for their ports.
    pub opened: u32,
    /// Processes that there ever were.
    pub count: u32,
    /// Exchanges in which old frames ran.
    pub noted: Noted,
    /// Paths of the logs; empty where there are fewer.
    pub logs: [Path; MOST_LOGS],
    /// Open files.
    pub descriptors: Descriptors,
    /// Files.
    pub files: Files,
    /// Sockets.
    pub network: Network,
    /// Pipes and pairs of sockets.
    pub channels: [Channel; MOST_CHANNELS],
    /// The server's processes.
    pub processes: [Process; MOST_PROCESSES],
    /// What the client received.
    pub transcript: Transcript,
    /// Stacks that are known, from test to test.
    pub rests: Rests,
}

const _: () = assert!(core::mem::size_of::<World>() as u64 <= crate::layout::WORLD_LENGTH);
