//! `kairos doctor`: can this machine run studies, and if not, what to change.

use std::ffi::OsStr;

use clap::Args;
use kairos::subject::doctor::{self, Check, Severity, probe::Probe};

use super::exit_code::ExitCode;

/// Arguments of `kairos doctor`.
#[derive(Args)]
pub struct Arguments {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Runs `kairos doctor`.
pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let checks = doctor::checks(&std::env::current_exe()?);
    let can_run = doctor::can_run(&checks);
    if arguments.json {
        let report = serde_json::json!({ "can_run": can_run, "checks": checks });
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        for check in &checks {
            print(check);
        }
        println!("{}", verdict(&checks));
    }
    Ok(if can_run {
        ExitCode::Success
    } else {
        ExitCode::Machine
    })
}

fn print(check: &Check) {
    let mark = match (check.ok, check.severity) {
        (true, _) => "ok     ",
        (false, Severity::Required) => "FAILED ",
        (false, Severity::Recommended) => "lacking",
    };
    println!("{mark}  {}: {}", check.name, check.found);
    if !check.ok {
        println!("         needed: {}", check.needed);
        println!("         {}", check.mend);
    }
}

fn verdict(checks: &[Check]) -> String {
    let failed = |severity| {
        checks
            .iter()
            .filter(|check| !check.ok && check.severity == severity)
            .count()
    };
    match (failed(Severity::Required), failed(Severity::Recommended)) {
        (0, 0) => "This machine can run studies.".to_owned(),
        (0, lacking) => {
            format!("This machine can run studies; {lacking} optional things are lacking.")
        }
        (failed, _) => {
            format!("This machine cannot run studies: {failed} required things are refused.")
        }
    }
}

/// Runs `kairos __probe NAME`, one trial of what the kernel permits.
pub fn probe(name: Option<&OsStr>) -> ExitCode {
    let probe = name.and_then(|name| name.to_str()).and_then(Probe::named);
    let Some(probe) = probe else {
        eprintln!("kairos: no such probe; `kairos doctor` runs them all");
        return ExitCode::Usage;
    };
    match probe.run() {
        Ok(found) => {
            println!("{found}");
            ExitCode::Success
        }
        Err(refused) => {
            println!("{refused}");
            ExitCode::Machine
        }
    }
}
