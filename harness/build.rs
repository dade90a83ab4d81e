//! Builds the simulator for a server's process: code without a library, linked at the
//! fixed address where it will lie. It takes what an ordinary build has: this
//! compiler, and the system's linker.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the code lies; `layout::CODE` of the simulator.
const CODE: &str = "0x7fffe0000000";

fn main() {
    println!("cargo::rerun-if-changed=simulator/src");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let archive = out.join("libsimulator.a");
    let code = out.join("simulator.elf");
    compile(&archive);
    link(&archive, &code);
}

fn compile(archive: &Path) {
    let compiler = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(compiler);
    command
        .args(["--edition=2024", "--crate-type=staticlib"])
        .args(["--crate-name=kairos_simulator", "--cfg=kairos_blob"])
        .args(["-Copt-level=2", "-Cpanic=abort", "-Crelocation-model=pic"])
        .args(["-Cdebug-assertions=off", "-Coverflow-checks=off"])
        .arg("-o")
        .arg(archive)
        .arg("simulator/src/lib.rs");
    run(&mut command);
}

fn link(archive: &Path, code: &Path) {
    let mut command = Command::new("ld");
    command
        .args(["-static", "-nostdlib", "--gc-sections", "--build-id=none"])
        .args(["-z", "noexecstack", "-e", "kairos_gate"])
        .args([
            "-u",
            "kairos_leave",
            "-u",
            "kairos_died",
            "-u",
            "kairos_noting",
        ])
        .arg(format!("-Ttext-segment={CODE}"))
        .arg("-o")
        .arg(code)
        .arg(archive);
    run(&mut command);
}

fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}
