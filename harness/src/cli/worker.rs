//! The hidden worker subcommand: runs tests for a study, inside its sandbox.

use std::io::{BufReader, stdin, stdout};

use kairos::engine::worker::serve;

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
