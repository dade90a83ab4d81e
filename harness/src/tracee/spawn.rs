//! Starts the subject's first process so that it is traced, or left alone, from
//! its first instruction.

use std::ffi::CString;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::personality::{self, Persona};
use nix::sys::ptrace;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{
    ForkResult, Pid, chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fork, pipe, read, setsid,
    write,
};

use super::TraceeError;

/// What to start.
#[derive(Clone, Debug)]
pub struct Program<'a> {
    /// Arguments; the first is the executable's path inside the sandbox.
    pub arguments: &'a [String],
    /// The whole environment.
    pub environment: &'a [(String, String)],
    /// Working directory.
    pub directory: &'a Path,
}

/// Descriptors that the subject starts with.
#[derive(Debug)]
pub struct Descriptors<'a> {
    /// Standard input.
    pub input: BorrowedFd<'a>,
    /// Standard output.
    pub output: BorrowedFd<'a>,
    /// Standard error.
    pub error: BorrowedFd<'a>,
    /// Memory shared with Kairos, inherited as [`SHARED_DESCRIPTOR`] until it is mapped.
    pub shared: Option<BorrowedFd<'a>>,
    /// The simulated world that it will live in, inherited as [`WORLD_DESCRIPTOR`] until
    /// it is mapped.
    pub world: Option<BorrowedFd<'a>>,
}

/// Number under which the subject inherits the shared memory.
pub const SHARED_DESCRIPTOR: i32 = 100;

/// Number under which it inherits a simulated world.
pub const WORLD_DESCRIPTOR: i32 = 101;

/// Largest file a subject may write: output without end must not fill the memory.
const MOST_FILE_BYTES: u64 = 64 << 20;

/// Most files a subject may have open, fewer only where Kairos itself may not have as
/// many.
const MOST_FILES: u64 = 1024;

/// Whether ptrace follows the subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    /// Not at all.
    None,
    /// From its `execve` on, and every process and thread it starts.
    Seized,
}

/// Starts the subject in a session of its own. Seized, it will report a stop at
/// its `execve`; all its descendants are traced too and die with the tracer.
///
/// # Errors
/// When the process cannot be made or traced.
pub fn start(
    program: &Program<'_>,
    descriptors: &Descriptors<'_>,
    tracing: Tracing,
) -> Result<Pid, TraceeError> {
    let shown = program.arguments.first().cloned().unwrap_or_default();
    let failed = |errno: nix::errno::Errno| TraceeError::Start {
        program: shown.clone(),
        source: errno.into(),
    };
    let text = |text: &[u8]| CString::new(text).map_err(|_| failed(nix::errno::Errno::EINVAL));
    let arguments = program
        .arguments
        .iter()
        .map(|argument| text(argument.as_bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    let environment = program
        .environment
        .iter()
        .map(|(name, value)| text(format!("{name}={value}").as_bytes()))
        .collect::<Result<Vec<_>, _>>()?;
    let directory = text(program.directory.as_os_str().as_bytes())?;
    let (wait, go) = pipe().map_err(failed)?;
    // SAFETY: the worker has one thread, so the child may allocate until it execs.
    match unsafe { fork() }.map_err(failed)? {
        ForkResult::Child => {
            let _ = become_subject(
                &arguments,
                &environment,
                &directory,
                descriptors,
                &wait,
                &go,
            );
            // SAFETY: leaves without running the worker's exit handlers.
            unsafe { libc::_exit(127) }
        }
        ForkResult::Parent { child } => {
            drop(wait);
            if tracing == Tracing::Seized {
                seize(child)?;
            }
            write(&go, b"g").map_err(failed)?;
            Ok(child)
        }
    }
}

/// What is reported of a process that is followed.
pub(super) const FOLLOW: ptrace::Options = ptrace::Options::PTRACE_O_EXITKILL
    .union(ptrace::Options::PTRACE_O_TRACEFORK)
    .union(ptrace::Options::PTRACE_O_TRACEVFORK)
    .union(ptrace::Options::PTRACE_O_TRACECLONE)
    .union(ptrace::Options::PTRACE_O_TRACEEXEC)
    .union(ptrace::Options::PTRACE_O_TRACESYSGOOD);

fn seize(child: Pid) -> Result<(), TraceeError> {
    ptrace::seize(child, FOLLOW).map_err(TraceeError::from_errno("PTRACE_SEIZE", child))
}

/// Has `execve` close every descriptor but the standard ones: what Kairos inherited
/// from whoever started it is no subject's.
fn leave_others_behind() -> nix::Result<()> {
    // SAFETY: the call takes numbers and closes nothing yet.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            libc::STDERR_FILENO + 1,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    nix::errno::Errno::result(answer).map(drop)
}

/// Lets this thread, and everything it starts, go on until it waits or its share of the
/// processor is used up: no other of them that wakes meanwhile takes the processor away
/// from it. Otherwise it would depend on who has run for how long whether a server sees
/// what its child does at once, or together with what comes next. Kairos itself does:
/// a parent is told of a child's end only once its tracer has looked at it.
fn take_turns() -> nix::Result<()> {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the structure outlives the call.
    let answer = unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) };
    nix::errno::Errno::result(answer).map(drop)
}

fn become_subject(
    arguments: &[CString],
    environment: &[CString],
    directory: &CString,
    descriptors: &Descriptors<'_>,
    wait: &OwnedFd,
    go: &OwnedFd,
) -> nix::Result<()> {
    // The write end must be closed here, or the wait below could outlive the parent.
    let _ = nix::unistd::close(go.as_raw_fd());
    let mut byte = [0];
    if read(wait, &mut byte)? == 0 {
        return Err(nix::errno::Errno::EPIPE);
    }
    setsid()?;
    take_turns()?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    // Rust ignores it; an ignored signal survives exec.
    // SAFETY: restores the default disposition.
    unsafe { nix::sys::signal::signal(Signal::SIGPIPE, nix::sys::signal::SigHandler::SigDfl)? };
    personality::set(personality::get()? | Persona::ADDR_NO_RANDOMIZE)?;
    setrlimit(Resource::RLIMIT_FSIZE, MOST_FILE_BYTES, MOST_FILE_BYTES)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    // Equal for root and others, and small: servers loop over all of them.
    let files = getrlimit(Resource::RLIMIT_NOFILE).map_or(MOST_FILES, |(_, hard)| hard);
    let files = files.min(MOST_FILES);
    setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
    chdir(directory.as_c_str())?;
    dup2_stdin(descriptors.input)?;
    dup2_stdout(descriptors.output)?;
    dup2_stderr(descriptors.error)?;
    leave_others_behind()?;
    for (shared, number) in [
        (descriptors.shared, SHARED_DESCRIPTOR),
        (descriptors.world, WORLD_DESCRIPTOR),
    ] {
        if let Some(shared) = shared {
            // SAFETY: duplicates a descriptor of ours to a number nothing else uses here.
            nix::errno::Errno::result(unsafe { libc::dup2(shared.as_raw_fd(), number) })?;
        }
    }
    execve(&arguments[0], arguments, environment)?;
    Ok(())
}
