//! Small samples of real servers, if their sources can be had: `KAIROS_ARCHIVES`
//! names a folder that holds them.

mod support;

use std::path::{Path, PathBuf};

use support::rows::{self, Row};

/// The folder of archives, if it holds all these; says so otherwise.
fn archives(test: &str, files: &[&str]) -> Option<PathBuf> {
    let folder = std::env::var_os("KAIROS_ARCHIVES").map(PathBuf::from);
    let found = folder.filter(|folder| {
        // A queue's archive may lie under either of two names.
        files.iter().all(|file| {
            let other = file.replacen(".tar.", ".debian.tar.", 1);
            folder.join(file).is_file() || folder.join(other).is_file()
        })
    });
    if found.is_none() {
        println!(
            "skipped: {test}: KAIROS_ARCHIVES names no folder with {}",
            files.join(", ")
        );
    }
    found
}

/// Runs a study of the project's own subjects and returns its rows.
fn study(archives: &Path, arguments: &str) -> Vec<Row> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("run");
    let output = support::kairos()
        .arg("--root")
        .arg(root)
        // Both builds of a server serve all tests of this file, run after run.
        .env(
            "KAIROS_CACHE",
            Path::new(env!("CARGO_TARGET_TMPDIR")).join("cache"),
        )
        .arg("study")
        .args(arguments.split_ascii_whitespace())
        .arg("--archives")
        .arg(archives)
        .arg("--out")
        .arg(&out)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    rows::read(&out)
}

/// Rows that neither pass nor stand apart. A point that only the traced run had (a
/// turn of the event loop more) is not found again and says nothing; few may be such.
fn failures(rows: &[Row]) -> Vec<&Row> {
    let not_reached = rows
        .iter()
        .filter(|row| row.verdict == "not-reached")
        .count();
    assert!(
        not_reached * 10 <= rows.len(),
        "{not_reached} points not found again"
    );
    let passes = ["new", "late", "inert", "not-reached"];
    rows.iter()
        .filter(|row| !passes.contains(&row.verdict.as_str()))
        .collect()
}

const NGIRCD: [&str; 3] = [
    "ngircd_27.orig.tar.xz",
    "ngircd_28.orig.tar.xz",
    "ngircd_28-1.tar.xz",
];
const VSFTPD: [&str; 2] = ["vsftpd_3.0.5.orig.tar.gz", "vsftpd_3.0.5-1.tar.xz"];

#[test]
fn ngircd_mixes_versions_unless_its_version_string_is_made_again() {
    let Some(folder) = archives("ngircd 27 to 28", &NGIRCD) else {
        return;
    };
    let rows = study(
        &folder,
        "--pair ngircd-27-28 --pair ngircd-27-28-bare --workload queries --sample 6",
    );
    let (bare, transformed): (Vec<Row>, Vec<Row>) = rows
        .into_iter()
        .partition(|row| row.pair.ends_with("-bare"));
    assert!(bare.iter().any(|row| row.verdict == "mixed"), "{bare:#?}");
    let others: Vec<_> = failures(&transformed)
        .into_iter()
        .filter(|row| row.cause != "in-flight")
        .collect();
    assert!(!transformed.is_empty() && others.is_empty(), "{others:#?}");
}

#[test]
fn vsftpd_takes_ten_patches_in_an_upload() {
    let Some(folder) = archives("vsftpd q0040 to q0050", &VSFTPD) else {
        return;
    };
    let rows = study(
        &folder,
        "--pair vsftpd-q0040-q0050 --workload upload --sample 3",
    );
    let failures = failures(&rows);
    assert!(!rows.is_empty() && failures.is_empty(), "{failures:#?}");
}

#[test]
fn profiles_of_vsftpd_isolate_children_and_know_local_users() {
    let Some(folder) = archives("profiles of vsftpd", &VSFTPD) else {
        return;
    };
    for (pair, workload) in [
        ("vsftpd-q0007-q0010", "isolated"),
        ("vsftpd-q0075-q0076", "local"),
    ] {
        let rows = study(
            &folder,
            &format!("--pair {pair} --workload {workload} --sample 1"),
        );
        let failures = failures(&rows);
        assert!(failures.is_empty(), "{failures:#?}");
        // What the patches change is entered only where children are isolated, and
        // where a local user's password is checked.
        assert!(rows.iter().any(|row| row.new_code_entries > 0), "{rows:#?}");
    }
}

#[test]
fn control_arms_of_real_servers_never_fail() {
    for (pair, files, workload) in [
        ("ngircd-27-28", &NGIRCD[..], "queries"),
        ("vsftpd-q0040-q0050", &VSFTPD[..], "upload"),
    ] {
        let Some(folder) = archives(&format!("control arm of {pair}"), files) else {
            continue;
        };
        let rows = study(
            &folder,
            &format!("--control --pair {pair} --workload {workload} --sample 3"),
        );
        let failures = failures(&rows);
        assert!(!rows.is_empty() && failures.is_empty(), "{failures:#?}");
    }
}
