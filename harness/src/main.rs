//! The `kairos` command.
#![deny(unsafe_code)]

mod cli;

fn main() -> cli::exit_code::ExitCode {
    cli::run()
}
