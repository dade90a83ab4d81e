//! `kairos __cc`: the compiler wrapper that a build's `cc` script runs.

use std::ffi::OsString;

use kairos::subject::wrapper;

use super::exit_code::ExitCode;

/// Becomes the compiler; returns only if it cannot, or if it has failed.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    match wrapper::run(arguments) {
        // The compiler has said why.
        Ok(_) => ExitCode::Fault,
        Err(error) => {
            eprintln!("kairos: compiler wrapper: {error}");
            ExitCode::Fault
        }
    }
}
