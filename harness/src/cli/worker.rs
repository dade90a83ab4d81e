//! The hidden worker subcommands, inside their sandboxes: one runs tests for a
//! study, the other records a session.

use std::io::{BufReader, stdin, stdout};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;

use kairos::engine::worker::serve;
use kairos::recording;

use super::exit_code::ExitCode;

/// Serves requests on standard input until it ends.
pub fn run() -> ExitCode {
    match serve(&mut BufReader::new(stdin().lock()), &mut stdout().lock()) {
        Ok(()) => ExitCode::Success,
        Err(error) => {
            eprintln!("kairos worker: {error}");
            ExitCode::Fault
        }
    }
}

/// Records one session for the coordinator at standard input, which is a socket.
pub fn record() -> ExitCode {
    let recorded = stdin()
        .as_fd()
        .try_clone_to_owned()
        .map(UnixStream::from)
        .and_then(|coordinator| recording::worker::serve(coordinator, &mut stdout().lock()));
    match recorded {
        Ok(()) => ExitCode::Success,
        Err(error) => {
            eprintln!("kairos recorder: {error}");
            ExitCode::Fault
        }
    }
}
