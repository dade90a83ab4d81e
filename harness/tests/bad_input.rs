//! Wrong manifests, sources, programs, workloads and folders: each is told with its
//! place and what to do, and with the documented exit code.

mod support;

use std::fs;
use std::process::{Command, Output};

use sha2::{Digest as _, Sha256};
use support::Project;

const SESSION: &str = "open c main\nsend c A\nawait c *\n\nclose c";

fn project() -> Project {
    let project = Project::of("stall").session("backward-compatible", SESSION);
    project.write();
    project
}

/// Checks how a command ended and that its message has these parts.
fn expect(output: &Output, code: i32, parts: &[&str]) {
    let message = String::from_utf8_lossy(&output.stderr);
    for part in parts {
        assert!(message.contains(part), "'{part}' is not in: {message}");
    }
    assert_eq!(output.status.code(), Some(code), "{message}");
}

fn study(project: &Project, arguments: &str) -> Output {
    project.study_command("run", arguments).output().unwrap()
}

/// Replaces text in the subject's manifest.
fn edit(project: &Project, from: &str, to: &str) {
    let path = project.root().join("subjects/tiny/subject.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
fn a_manifest_that_is_missing_malformed_or_has_an_unknown_key() {
    let project = project();
    edit(&project, "about = ", "abuot = ");
    expect(&study(&project, ""), 2, &["subject.toml:2:1", "abuot"]);
    edit(&project, "abuot = ", "about ");
    expect(&study(&project, ""), 2, &["subject.toml:2:7"]);
    let manifest = project.root().join("subjects/tiny/subject.toml");
    fs::remove_file(&manifest).unwrap();
    expect(
        &study(&project, ""),
        2,
        &["pair.toml:1:11", "subjects/tiny/subject.toml is missing"],
    );
}

#[test]
fn a_pair_of_a_version_that_does_not_exist() {
    let project = project();
    let path = project.root().join("update-pairs/tiny-v1-v2/pair.toml");
    fs::write(&path, "subject = \"tiny\"\nold = \"v1\"\nnew = \"v3\"\n").unwrap();
    expect(
        &study(&project, ""),
        2,
        &[
            "pair.toml:3:7",
            "tiny has no version 'v3'",
            "it has: v1, v2",
        ],
    );
}

#[test]
fn a_mechanism_that_makes_no_sense_is_told_with_its_place() {
    let project = project();
    let path = project.root().join("update-pairs/tiny-v1-v2/pair.toml");
    let pair = fs::read_to_string(&path).unwrap();
    for (line, parts) in [
        ("layout = \"commune\"", ["pair.toml:4:10", "commune"]),
        ("prototypes = \"kept\"", ["pair.toml:4:14", "kept"]),
        (
            "room = { \"struct x\" = \"a file\" }",
            ["pair.toml:4:8", "write layout = \"common\""],
        ),
        (
            "room = { \"struct x\" = \"\" }\nlayout = \"common\"",
            ["pair.toml:4:8", "`struct x` has no reason"],
        ),
    ] {
        fs::write(&path, format!("{pair}{line}\n")).unwrap();
        expect(&study(&project, ""), 2, &parts);
    }
}

#[test]
fn an_unknown_pair() {
    let known = "there are: tiny-v1-v2";
    expect(
        &study(&project(), "--pair tiny-v1-v9"),
        2,
        &["no update pair is named 'tiny-v1-v9'", known],
    );
}

/// A folder of archives: a source tree, and a queue with one patch.
fn archives(project: &Project, patch: &str) -> [String; 2] {
    let folder = project.root().join("archives");
    let tree = project.root().join("made/tiny-1");
    fs::create_dir_all(tree.parent().unwrap()).unwrap();
    fs::create_dir_all(&folder).unwrap();
    fs::rename(project.root().join("subjects/tiny/v1"), &tree).unwrap();
    let debian = project.root().join("made/debian/patches");
    fs::create_dir_all(&debian).unwrap();
    fs::write(debian.join("series"), "fix.patch\n").unwrap();
    fs::write(debian.join("fix.patch"), patch).unwrap();
    [
        ("tiny_1.orig.tar.gz", "tiny-1"),
        ("tiny_1-1.debian.tar.gz", "debian"),
    ]
    .map(|(name, content)| {
        let file = folder.join(name);
        let status = Command::new("tar")
            .arg("-czf")
            .arg(&file)
            .arg("-C")
            .arg(project.root().join("made"))
            .arg(content)
            .status()
            .unwrap();
        assert!(status.success());
        Sha256::digest(fs::read(file).unwrap())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    })
}

fn use_archives(project: &Project, hashes: &[String; 2]) {
    let [archive, queue] = hashes;
    edit(
        project,
        "folder = \"v1\"",
        &format!(
            "archive = {{ file = \"tiny_1.orig.tar.gz\", sha256 = \"{archive}\", package = \"tiny\" }}\n\
             queue = {{ file = \"tiny_1-1.debian.tar.gz\", sha256 = \"{queue}\", package = \"tiny\" }}"
        ),
    );
}

fn study_of_archives(project: &Project) -> Output {
    let mut command = project.study_command("run", "");
    command
        .arg("--archives")
        .arg(project.root().join("archives"));
    command.output().unwrap()
}

#[test]
fn an_archive_with_other_contents() {
    let project = project();
    let hashes = archives(&project, "");
    use_archives(&project, &["0".repeat(64), hashes[1].clone()]);
    expect(
        &study_of_archives(&project),
        3,
        &[
            "tiny_1.orig.tar.gz: wrong contents",
            &"0".repeat(64),
            &hashes[0],
            "subject.toml",
        ],
    );
}

#[test]
fn a_patch_that_does_not_apply() {
    let project = project();
    let patch = "--- a/main.c\n+++ b/main.c\n@@ -1,3 +1,3 @@\n nothing\n-like\n+unlike\n this\n";
    let hashes = archives(&project, patch);
    use_archives(&project, &hashes);
    expect(
        &study_of_archives(&project),
        3,
        &[
            "patch fix.patch of tiny_1-1.debian.tar.gz does not apply",
            "main.c",
            "without",
        ],
    );
}

/// A study whose versions are built by this step.
fn built_by(step: &str) -> Output {
    let project = Project::of("stall")
        .step(step)
        .session("backward-compatible", SESSION);
    project.write();
    study(&project, "")
}

#[test]
fn a_compile_error() {
    expect(
        &built_by("$CC -DNEW=( -o tiny main.c"),
        3,
        &[
            "building tiny v1 failed in step 1",
            "subject.toml:10",
            "full log",
        ],
    );
}

#[test]
fn a_program_without_symbols() {
    expect(
        &built_by("$CC -o tiny main.c; strip tiny"),
        3,
        &["tiny v1: ", "no symbol table", "full log"],
    );
}

#[test]
fn a_program_without_debug_information() {
    expect(
        &built_by("$CC -o tiny main.c; strip -g tiny"),
        3,
        &["tiny v1: ", "no debug information", "full log"],
    );
}

#[test]
fn a_session_script_that_cannot_be_read() {
    let project = project();
    let script = project
        .root()
        .join("subjects/tiny/workloads/session.session");
    fs::write(
        &script,
        "about x\nspecification conformable\nexchange a\nopne c main\n",
    )
    .unwrap();
    expect(
        &study(&project, ""),
        2,
        &["session.session:4", "opne", "docs/sessions.md"],
    );
}

#[test]
fn a_session_that_names_a_profile_that_does_not_exist() {
    let project = Project::of("list").session("conformable\nprofile other", SESSION);
    project.write();
    expect(
        &study(&project, ""),
        2,
        &[
            "workloads/session.session:3",
            "tiny has no profile `other`",
            "its manifest has no [[profile]]",
        ],
    );
}

/// A study of the server of lists, whose session does not fit one version.
fn workload_fails(session: &str, exchange: &str, version: &str) {
    let project = Project::of("list").session("conformable", session);
    project.write();
    let output = study(&project, "");
    expect(
        &output,
        2,
        &[
            "pair tiny-v1-v2, workload session",
            &format!("on unpatched {version}"),
            &format!("exchange {exchange} did not finish"),
            "waited for a reply on c",
        ],
    );
}

#[test]
fn a_workload_that_awaits_too_much_of_the_old_server() {
    let session = "open c main\nsend c A\nawait c lines 3\n\nsend c B\nawait c lines 4\n\nclose c";
    workload_fails(session, "1", "v1");
}

#[test]
fn a_workload_that_fails_on_the_new_server() {
    workload_fails(
        "open c main\nsend c A\nawait c list*\nawait c lines 2\n\nclose c",
        "0",
        "v2",
    );
}

#[test]
fn an_out_folder_that_is_foreign_taken_or_cannot_be_made() {
    let project = project();
    let out = project.out("run");
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("thesis.txt"), "years of work").unwrap();
    expect(
        &study(&project, ""),
        2,
        &["is not empty and holds no Kairos run", "--out"],
    );
    assert_eq!(
        fs::read_to_string(out.join("thesis.txt")).unwrap(),
        "years of work"
    );
    assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
    fs::remove_file(out.join("thesis.txt")).unwrap();
    assert!(study(&project, "--sample 1").status.success());
    expect(
        &study(&project, ""),
        2,
        &["holds a run already", "--resume"],
    );
    fs::remove_dir_all(&out).unwrap();
    fs::write(&out, "a file").unwrap();
    expect(&study(&project, ""), 1, &["cannot create", "out/run"]);
}

#[test]
fn a_report_on_what_is_no_run() {
    let project = project();
    let output = project
        .kairos()
        .arg("report")
        .arg(project.out("none"))
        .output()
        .unwrap();
    expect(&output, 2, &["holds no Kairos run"]);
}

#[test]
fn a_machine_without_namespaces() {
    let project = project();
    // The limit is a setting of each user namespace: one inside which no other can be.
    let inside = |line: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c"]);
        command.arg(format!(
            "echo 0 > /proc/sys/user/max_user_namespaces && {line}"
        ));
        command
    };
    if !inside("true")
        .output()
        .is_ok_and(|output| output.status.success())
    {
        println!("skipped: this machine cannot make a user namespace without namespaces");
        return;
    }
    let study = project.study_command("run", "");
    let mut command = inside("exec \"$@\"");
    command
        .arg("sh")
        .arg(study.get_program())
        .args(study.get_args());
    for (name, value) in study.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    expect(
        &command.output().unwrap(),
        4,
        &["unshare of namespaces", "kairos doctor"],
    );
}
