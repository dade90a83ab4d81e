//! Studies on a machine that refuses something: room, files, processes, namespaces,
//! or a folder that another study uses. Nothing is lost, and what is missing is told.

mod support;

use std::fs;
use std::process::{Command, Output, Stdio};

use support::Project;
use support::leftovers::Before;
use support::runs::{ARGUMENTS, recursion, succeeds, told};
use support::table::without_time;

/// Whether this machine lets a test have namespaces to change; says so if not.
fn can_unshare(test: &str) -> bool {
    let tried = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "true"])
        .output();
    let can = tried.is_ok_and(|output| output.status.success());
    if !can {
        eprintln!("{test}: skipped, this machine does not let tests make namespaces");
    }
    can
}

/// Runs shell lines as root of a user namespace of their own, with `kairos` and the
/// project's folder as `$1` and `$2`.
fn in_namespace(project: &Project, lines: &str) -> Output {
    let study = project.kairos();
    let mut command = Command::new("unshare");
    command
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-c",
            lines,
            "sh",
        ])
        .arg(study.get_program())
        .arg(project.root());
    for (name, value) in study.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.output().unwrap()
}

#[test]
fn a_full_disk_loses_nothing() {
    if !can_unshare("a_full_disk_loses_nothing") {
        return;
    }
    let project = recursion();
    let whole = project.study(ARGUMENTS);
    // Room for everything but half of the tests, in pages.
    let pages = |name: &str| {
        fs::metadata(whole.dir.join(name))
            .unwrap()
            .len()
            .div_ceil(4096)
    };
    let others: u64 = ["pairs.jsonl", "sessions.jsonl", "plan.jsonl"]
        .map(pages)
        .iter()
        .sum();
    let size = (others + 2 * pages("run.json") + pages("tests.jsonl").div_ceil(2)) * 4;
    let lines = format!(
        "mkdir -p $2/out/small && mount -t tmpfs -o size={size}k small $2/out/small || exit 99
         $1 --root $2 study --exhaustive --out $2/out/small/run --jobs 1 --repeat 2
         echo first $?
         wc -l < $2/out/small/run/tests.jsonl
         mount -o remount,size=64m $2/out/small || exit 99
         $1 --root $2 study --resume $2/out/small/run --jobs 1 > $2/out/second
         echo second $?
         cp -r $2/out/small/run $2/out/filled"
    );
    let output = in_namespace(&project, &lines);
    let (printed, told) = (String::from_utf8_lossy(&output.stdout), told(&output));
    assert!(printed.starts_with("first 1\n"), "{printed}{told}");
    assert!(printed.contains("second 0\n"), "{printed}{told}");
    assert!(
        told.contains("free some space and go on with --resume"),
        "{told}"
    );
    let kept: usize = printed.lines().nth(1).unwrap().trim().parse().unwrap();
    assert!(kept > 0, "{printed}");
    assert!(
        told.contains(&format!("{kept} are done already")),
        "{kept}: {told}"
    );
    assert_eq!(
        without_time(&whole.dir),
        without_time(&project.out("filled"))
    );
}

#[test]
fn a_limit_on_file_sizes_and_a_read_only_place_are_told() {
    let project = recursion();
    project.study("--sample 1");
    let limited = Command::new("sh")
        .args(["-c", "ulimit -f 2; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_kairos"))
        .arg("--root")
        .arg(project.root())
        .arg("study")
        .arg("--out")
        .arg(project.out("limited"))
        .env("KAIROS_CACHE", project.root().join("cache"))
        .env("TMPDIR", project.temporary())
        .env(support::TOKEN, project.root())
        .output()
        .unwrap();
    assert_eq!(limited.status.code(), Some(1), "{}", told(&limited));
    assert!(told(&limited).contains("ulimit -f"), "{}", told(&limited));
    let output = project
        .kairos()
        .args(["study", "--out", "/proc/kairos"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("cannot create `/proc/kairos`"),
        "{}",
        told(&output)
    );
}

#[test]
fn a_machine_without_user_namespaces_is_told_what_to_change() {
    if !can_unshare("a_machine_without_user_namespaces_is_told_what_to_change") {
        return;
    }
    let project = recursion();
    project.study("--sample 1");
    // The setting belongs to the namespace, and to what is made inside it.
    let lines = "echo 0 > /proc/sys/user/max_user_namespaces || exit 99
                 exec $1 --root $2 study --out $2/out/refused";
    let output = in_namespace(&project, lines);
    assert_eq!(output.status.code(), Some(4), "{}", told(&output));
    assert!(
        told(&output).contains("/proc/sys/user/max_user_namespaces is 0"),
        "{}",
        told(&output)
    );
}

/// Whether the bound on processes belongs to the sandbox (Linux 6.14 and later).
fn bounds_processes() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6_u32), Some(14))
}

#[test]
fn a_fork_storm_with_few_open_files_is_a_stall() {
    if !bounds_processes() {
        eprintln!("a_fork_storm_with_few_open_files_is_a_stall: skipped, needs Linux 6.14");
        return;
    }
    let project = Project::of("hostile")
        .step("$CC -w -DKIND=FORKS -o tiny main.c")
        .session(
            "backward-compatible",
            "open c main\nsend c A\nawait c *\n\nsend c B\nawait c *\n\nclose c",
        );
    project.write();
    let before = Before::look();
    let study = project.study_command("run", "");
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 1024; exec \"$@\"", "sh"])
        .arg(study.get_program())
        .args(study.get_args());
    for (name, value) in study.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    succeeds(&mut command);
    let rows = support::rows::read(&project.out("run"));
    assert!(!rows.is_empty());
    for row in rows {
        assert_eq!(row.verdict, "stall", "{}", row.cause);
    }
    before.compare(&project);
}

#[test]
fn two_at_once_share_cache_and_processors_but_no_folder() {
    let project = recursion();
    project.write();
    let before = Before::look();
    let start = |name: &str| {
        project
            .study_command(name, ARGUMENTS)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    // Nothing is built yet: both need the same builds at once.
    let children = ["one", "two", "one"].map(start);
    let ends = children.map(|child| child.wait_with_output().unwrap());
    let refused: Vec<_> = ends.iter().filter(|end| !end.status.success()).collect();
    assert_eq!(refused.len(), 1, "{:?}", ends.each_ref().map(told));
    let why = told(refused[0]);
    assert!(
        why.contains("another Kairos is writing") || why.contains("holds a run already"),
        "{why}"
    );
    assert_eq!(
        without_time(&project.out("one")),
        without_time(&project.out("two"))
    );
    before.compare(&project);
}
