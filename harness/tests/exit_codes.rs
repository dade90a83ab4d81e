//! The exit codes of `kairos`, as `harness/src/cli/exit_code.rs` documents them.

use std::fs;
use std::path::Path;

use assert_cmd::Command;
use predicates::str::contains;

fn kairos(project: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kairos"));
    command
        .current_dir(project)
        .env_remove("KAIROS_ROOT")
        .env_remove("KAIROS_ARCHIVES")
        .env("KAIROS_CACHE", project.join("cache"));
    command
}

/// A project whose one subject has this recipe, in a folder below which it is found.
fn project(step: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tiny = folder.path().join("subjects/tiny");
    for name in ["workloads", "v1"] {
        fs::create_dir_all(tiny.join(name)).unwrap();
    }
    fs::create_dir_all(folder.path().join("update-pairs")).unwrap();
    fs::write(tiny.join("workloads/basic.session"), "").unwrap();
    fs::write(tiny.join("v1/main.c"), "int main(void) { return 0; }\n").unwrap();
    let manifest = format!(
        r#"
name = "tiny"
about = "returns"
[[version]]
label = "v1"
folder = "v1"
[build]
steps = ["{step}"]
program = "tiny"
[run]
command = ["{{program}}"]
ports = {{ main = 7000 }}
identity = "user"
ready = {{ listening = "main" }}
stop = "SIGTERM"
[[role]]
name = "only"
first = true
[workloads]
study = ["basic"]
"#
    );
    fs::write(tiny.join("subject.toml"), manifest).unwrap();
    folder
}

#[test]
fn success_is_0() {
    let project = project("cc -o tiny main.c");
    let below = project.path().join("subjects/tiny");
    kairos(&below)
        .args(["subjects", "list"])
        .assert()
        .code(0)
        .stdout(contains("tiny"));
    kairos(project.path())
        .args(["subjects", "build", "--subject", "tiny"])
        .assert()
        .code(0)
        .stdout(contains("tiny v1: 1 units, built in"));
    kairos(project.path())
        .args(["subjects", "build"])
        .assert()
        .code(0)
        .stdout(contains("in the cache"));
}

#[test]
fn wrong_arguments_and_manifests_are_2() {
    let nowhere = tempfile::tempdir().unwrap();
    kairos(nowhere.path()).arg("no-such").assert().code(2);
    kairos(nowhere.path())
        .args(["subjects", "list"])
        .assert()
        .code(2)
        .stderr(contains("no project here"));
    let project = project("true");
    kairos(project.path())
        .args(["subjects", "build", "--version", "v9"])
        .assert()
        .code(2)
        .stderr(contains("there are: v1"));
    let manifest = project.path().join("subjects/tiny/subject.toml");
    fs::write(&manifest, "name = 3\n").unwrap();
    kairos(project.path())
        .args(["subjects", "list"])
        .assert()
        .code(2)
        .stderr(contains("subject.toml:1:8"));
}

#[test]
fn a_failed_build_is_3() {
    let project = project("false");
    kairos(project.path())
        .args(["subjects", "build"])
        .assert()
        .code(3)
        .stderr(contains("failed in step 1"));
}

#[test]
fn doctor_is_0_or_4_and_its_json_says_which() {
    let nowhere = tempfile::tempdir().unwrap();
    let output = kairos(nowhere.path())
        .args(["doctor", "--json"])
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = if report["can_run"] == true { 0 } else { 4 };
    assert_eq!(output.status.code(), Some(expected));
    assert!(report["checks"].as_array().unwrap().len() > 10);
}
