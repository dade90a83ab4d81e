//! What the kernel permits, and which setting forbids it.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::probe::{Probe, SUBCOMMAND};
use super::{Check, Refusal};

const YAMA: &str = "/proc/sys/kernel/yama/ptrace_scope";
const MAX_USER: &str = "/proc/sys/user/max_user_namespaces";
const CLONE: &str = "/proc/sys/kernel/unprivileged_userns_clone";
const APPARMOR: &str = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns";

/// Tries every [`Probe`].
pub(super) fn checks(kairos: &Path) -> Vec<Check> {
    let attempt = |probe: Probe, mend: &dyn Fn() -> String| {
        attempt(kairos, probe).map_err(|found| Refusal::new(found, mend()))
    };
    vec![
        Check::required(
            "ptrace",
            "tracing one's own children",
            attempt(Probe::Ptrace, &ptrace),
        ),
        Check::required(
            "user namespaces",
            "a user namespace for an ordinary user",
            attempt(Probe::UserNamespace, &user_namespaces),
        ),
        Check::required(
            "sandbox namespaces",
            "network, pid, mount and IPC namespaces inside it",
            attempt(Probe::Namespaces, &user_namespaces),
        ),
        Check::required(
            "run folder",
            "a tmpfs mounted inside those",
            attempt(Probe::Tmpfs, &user_namespaces),
        ),
        Check::required(
            "address randomisation",
            "can be switched off for children",
            attempt(Probe::FixedAddresses, &|| {
                "a security module or container forbids personality(ADDR_NO_RANDOMIZE): \
                 in a container run with `--security-opt seccomp=unconfined`; \
                 on a machine of your own `sudo sysctl kernel.randomize_va_space=0` replaces it"
                    .to_owned()
            }),
        ),
        Check::recommended(
            "written pages",
            "userfaultfd in asynchronous write-protecting mode, and PAGEMAP_SCAN (Linux 6.7)",
            attempt(Probe::WrittenPages, &|| {
                "without it there is no rollback; fork snapshot needs none of it and takes \
                 longer: use Linux 6.7 or later; in a container run with \
                 `--security-opt seccomp=unconfined`"
                    .to_owned()
            }),
        ),
    ]
}

fn attempt(kairos: &Path, probe: Probe) -> Result<String, String> {
    let output = Command::new(kairos)
        .args([SUBCOMMAND, probe.name()])
        .output()
        .map_err(|error| format!("cannot run {}: {error}", kairos.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        Ok(text)
    } else if text.is_empty() {
        Err(format!("the trial ended with {}", output.status))
    } else {
        Err(text)
    }
}

fn setting(path: &str) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn ptrace() -> String {
    match setting(YAMA) {
        Some(scope) if scope >= 2 => format!(
            "{YAMA} is {scope}, and Kairos needs 1 or 0: \
             `sudo sysctl kernel.yama.ptrace_scope=1`{}",
            if scope == 3 {
                "; from 3 only a restart of the machine leads back"
            } else {
                ""
            }
        ),
        _ => "a container or security module forbids ptrace: \
              run the container with `--cap-add=SYS_PTRACE --security-opt seccomp=unconfined`"
            .to_owned(),
    }
}

fn user_namespaces() -> String {
    if setting(MAX_USER) == Some(0) {
        return format!(
            "{MAX_USER} is 0, and Kairos needs one for each worker: \
             `sudo sysctl user.max_user_namespaces=10000`"
        );
    }
    if setting(CLONE) == Some(0) {
        return format!(
            "{CLONE} is 0, and Kairos needs 1: `sudo sysctl kernel.unprivileged_userns_clone=1`"
        );
    }
    if setting(APPARMOR).is_some_and(|value| value != 0) {
        return format!(
            "{APPARMOR} is 1, and Kairos needs 0: \
             `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
        );
    }
    "a container or security module forbids it: \
     run the container with `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`, \
     or with `--privileged`"
        .to_owned()
}
