//! Manifests that are refused, and how.

use std::fs;

use super::*;
use crate::subject::{ManifestError, Pair};

const GOOD: &str = r#"name = "tiny"
about = "a server"

[[version]]
label = "v1"
folder = "v1"
[[version]]
label = "q2"
archive = { file = "t_1.orig.tar.gz", sha256 = "HASH", package = "tiny" }
queue = { file = "t_1-1.tar.xz", sha256 = "HASH", package = "tiny", upto = "a.patch" }

[build]
steps = [
    "make",
    "true",
]
program = "tiny"

[run]
command = ["{program}", "{run}/tiny.conf"]
ports = { main = 7000, admin = 7001 }
identity = "user"
ready = { listening = "main" }
stop = "SIGTERM"

[[run.file]]
path = "tiny.conf"
text = """
port = {port}
admin = {port:admin}
block { x = {0,1} }
"""
mode = "0600"

[[role]]
name = "listener"
first = true
[[role]]
name = "session"
parent = "listener"
forked_in = "accept_loop"

[[manual]]
role = "session"
loop = "run"
entry = "read_line"
why = "idle"

[[volatile]]
pattern = 'started .*'
replace = "started DATE"
why = "start time"

[[log]]
path = "stdout"

[workloads]
study = ["basic"]
"#;

/// A subject's folder named `tiny` with one workload.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let workloads = folder.path().join("tiny/workloads");
    fs::create_dir_all(&workloads).unwrap();
    fs::write(workloads.join("basic.session"), "").unwrap();
    folder
}

fn parse(text: &str) -> Result<Subject, SubjectError> {
    let folder = folder();
    let path = folder.path().join("tiny").join(MANIFEST);
    Subject::parse(&text.replace("HASH", &"0a".repeat(32)), &path)
}

/// The error for [`GOOD`] with `old` replaced, without the folder's name.
fn refusal(old: &str, new: &str) -> String {
    assert!(GOOD.contains(old), "{old}");
    match parse(&GOOD.replacen(old, new, 1)) {
        Err(SubjectError::Manifest(error)) => without_folder(&error),
        other => panic!("{other:?}"),
    }
}

fn without_folder(error: &ManifestError) -> String {
    let folder = error.file.parent().unwrap().display().to_string();
    error.to_string().replace(&folder, "tiny")
}

#[test]
fn a_good_manifest_is_read() {
    let subject = parse(GOOD).unwrap();
    assert_eq!(subject.run.ports[0].name, "main");
    assert_eq!(subject.run.port("admin"), Some(7001));
    assert_eq!(subject.build.steps[1].line, 15);
    assert_eq!(subject.run.files[0].mode, Some(0o600));
    assert!(subject.roles[0].first);
    assert_eq!(subject.roles[1].forked_in.as_deref(), Some("accept_loop"));
    assert_eq!(subject.version("q2").unwrap().source.archives().count(), 2);
    assert!(subject.version("q3").is_err());
}

#[test]
fn annotations_are_counted_in_lines_without_comments() {
    assert_eq!(parse(GOOD).unwrap().manual_lines, 5);
    let commented = GOOD.replace("why = \"idle\"", "# the first call\n\nwhy = \"idle\" # so");
    assert_eq!(parse(&commented).unwrap().manual_lines, 5);
}

#[test]
fn placeholders_are_replaced_and_other_braces_stay() {
    let subject = parse(GOOD).unwrap();
    let FileContent::Text(text) = &subject.run.files[0].content else {
        panic!("not a text");
    };
    let values = Placeholders {
        run: "/run",
        program: "/p",
    };
    assert_eq!(
        subject.run.expand(text, values),
        "port = 7000\nadmin = 7001\nblock { x = {0,1} }\n"
    );
    assert_eq!(subject.run.expand("{program} {run}/x", values), "/p /run/x");
}

#[test]
fn an_unknown_key_is_refused_with_its_place() {
    insta::assert_snapshot!(refusal("label = \"v1\"", "label = \"v1\"\nlable = \"v1\""), @r#"
    tiny/subject.toml:6:1: unknown field `lable`, expected one of `label`, `about`, `archive`, `queue`, `folder`
      |
    6 | lable = "v1"
      | ^
      = correct or remove this key; docs/manifests.md lists all keys
    "#);
}

#[test]
fn a_missing_key_is_refused() {
    insta::assert_snapshot!(refusal("program = \"tiny\"\n", ""), @r"
    tiny/subject.toml:12:1: missing field `program`
       |
    12 | [build]
       | ^
       = add the key; docs/manifests.md shows each with an example
    ");
}

#[test]
fn a_wrong_type_is_refused() {
    insta::assert_snapshot!(refusal("main = 7000", "main = \"http\""), @r#"
    tiny/subject.toml:21:18: invalid type: string "http", expected u16
       |
    21 | ports = { main = "http", admin = 7001 }
       |                  ^
       = see docs/manifests.md for the format
    "#);
}

#[test]
fn a_label_with_a_hyphen_is_refused() {
    insta::assert_snapshot!(refusal("label = \"q2\"", "label = \"q-2\""), @r#"
    tiny/subject.toml:8:9: 'q-2' cannot label a version
      |
    8 | label = "q-2"
      |         ^
      = use letters, digits, '.', '_', '+' and '~'; hyphens separate the parts of a pair's name
    "#);
}

#[test]
fn a_label_used_twice_is_refused() {
    insta::assert_snapshot!(refusal("label = \"q2\"", "label = \"v1\""), @r#"
    tiny/subject.toml:8:9: two versions are labelled 'v1'
      |
    8 | label = "v1"
      |         ^
      = give each version its own label
    "#);
}

#[test]
fn a_folder_of_another_name_is_refused() {
    insta::assert_snapshot!(refusal("name = \"tiny\"", "name = \"huge\""), @r#"
    tiny/subject.toml:1:8: the subject is named 'huge' but lies in the folder 'tiny'
      |
    1 | name = "huge"
      |        ^
      = write name = "tiny", or rename the folder
    "#);
}

#[test]
fn a_version_without_sources_is_refused() {
    insta::assert_snapshot!(refusal("folder = \"v1\"\n", ""), @r"
    tiny/subject.toml:4:1: version 'v1' needs either `archive` or `folder`
      |
    4 | [[version]]
      | ^
      = name the upstream archive, or a source tree beside the manifest
    ");
}

#[test]
fn a_hash_that_is_none_is_refused() {
    insta::assert_snapshot!(refusal("sha256 = \"HASH\"", "sha256 = \"26b6\""), @r#"
    tiny/subject.toml:9:48: this is not a SHA-256
      |
    9 | archive = { file = "t_1.orig.tar.gz", sha256 = "26b6", package = "tiny" }
      |                                                ^
      = write the 64 hexadecimal digits that `sha256sum` prints for the archive
    "#);
}

#[test]
fn an_unknown_placeholder_is_refused_inside_a_text() {
    insta::assert_snapshot!(refusal("{port:admin}", "{port:web}"), @r"
    tiny/subject.toml:30:9: unknown placeholder {port:web}
       |
    30 | admin = {port:web}
       |         ^
       = there are {run}, {program}, {port} (the first port) and {port:NAME}
    ");
    insta::assert_snapshot!(refusal("{run}/tiny.conf", "{folder}/tiny.conf"), @r#"
    tiny/subject.toml:20:26: unknown placeholder {folder}
       |
    20 | command = ["{program}", "{folder}/tiny.conf"]
       |                          ^
       = there are {run}, {program}, {port} (the first port) and {port:NAME}
    "#);
}

#[test]
fn a_missing_workload_is_refused() {
    insta::assert_snapshot!(refusal("[\"basic\"]", "[\"basic\", \"other\"]"), @r#"
    tiny/subject.toml:58:19: workload 'other' has no script
       |
    58 | study = ["basic", "other"]
       |                   ^
       = write tiny/workloads/other.session, or correct the name
    "#);
}

#[test]
fn a_bad_pattern_is_refused() {
    insta::assert_snapshot!(refusal("'started .*'", "'started (.*'"), @r"
    tiny/subject.toml:50:11: bad regular expression: unclosed group
       |
    50 | pattern = 'started (.*'
       |           ^
       = use the syntax of the Rust regex crate; literal text in '…' needs no doubled backslashes
    ");
}

#[test]
fn a_bad_signal_is_refused() {
    insta::assert_snapshot!(refusal("SIGTERM", "TERM"), @r#"
    tiny/subject.toml:24:8: 'TERM' is not a signal
       |
    24 | stop = "TERM"
       |        ^
       = write a name such as "SIGTERM" or "SIGINT"
    "#);
}

#[test]
fn an_unknown_role_is_refused_as_parent_and_at_a_point() {
    insta::assert_snapshot!(refusal("parent = \"listener\"", "parent = \"listner\""), @r#"
    tiny/subject.toml:40:10: no role is named 'listner'
       |
    40 | parent = "listner"
       |          ^
       = name a [[role]] of this manifest
    "#);
    insta::assert_snapshot!(refusal("role = \"session\"", "role = \"login\""), @r#"
    tiny/subject.toml:44:8: no role is named 'login'
       |
    44 | role = "login"
       |        ^
       = name a [[role]] of this manifest
    "#);
}

#[test]
fn a_path_that_leaves_its_folder_is_refused() {
    insta::assert_snapshot!(refusal("path = \"tiny.conf\"", "path = \"../tiny.conf\""), @r#"
    tiny/subject.toml:27:8: '../tiny.conf' does not stay inside its folder
       |
    27 | path = "../tiny.conf"
       |        ^
       = write a relative path without '..'
    "#);
}

#[test]
fn a_readiness_port_that_is_none_is_refused() {
    insta::assert_snapshot!(refusal("listening = \"main\"", "listening = \"web\""), @r#"
    tiny/subject.toml:23:23: no port is named 'web'
       |
    23 | ready = { listening = "web" }
       |                       ^
       = name one of [run] ports
    "#);
}

#[test]
fn a_bad_mode_is_refused() {
    insta::assert_snapshot!(refusal("mode = \"0600\"", "mode = \"0680\""), @r#"
    tiny/subject.toml:33:8: '0680' is not a file mode
       |
    33 | mode = "0680"
       |        ^
       = write octal permission bits as text, such as "0644"
    "#);
}

/// A pair's manifest, read in a folder of this name.
const PROFILES: &str = r#"
[[run.user]]
name = "alice"
password = "$6$salt$hash"

[[profile]]
name = "alone"
about = "without its listener"
command = ["{program}", "-1"]
environment = { MORE = "{run}" }
probe = "basic"
[[profile.file]]
path = "tiny.conf"
text = "port = 1\n"
[[profile.user]]
name = "bob"
password = "*"
home = "{run}/bob"
[[profile.role]]
name = "only"
first = true

[[profile]]
name = "as_usual"
about = "nothing else"
"#;

fn with_profiles(old: &str, new: &str) -> String {
    let profiles = PROFILES.replacen(old, new, 1);
    assert!(old.is_empty() || profiles != PROFILES, "{old}");
    GOOD.replacen("[workloads]", &format!("{profiles}\n[workloads]"), 1)
}

#[test]
fn a_profile_says_only_what_is_different() {
    let subject = parse(&with_profiles("", "")).unwrap();
    let Setting { run, roles, probe } = subject.setting(Some("alone")).unwrap();
    assert_eq!(probe, Some("basic"));
    assert_eq!(run.command, ["{program}", "-1"]);
    assert_eq!(run.ports, subject.run.ports);
    assert_eq!(run.environment["MORE"], "{run}");
    let conf: Vec<_> = run
        .files
        .iter()
        .filter(|f| f.path.ends_with("tiny.conf"))
        .collect();
    assert_eq!(conf.len(), 1);
    let names: Vec<_> = run.users.iter().map(|user| user.name.as_str()).collect();
    assert_eq!(names, ["alice", "bob"]);
    assert_eq!(run.users[0].home, "{run}");
    assert_eq!(roles.len(), 1);
    assert_eq!(subject.setting(Some("as_usual")), subject.setting(None));
    assert!(subject.setting(Some("no_such")).is_none());
}

#[test]
fn wrong_profiles_and_users_are_refused() {
    for (old, new, expected) in [
        (
            "\"as_usual\"",
            "\"alone\"",
            "two profiles are named 'alone'",
        ),
        ("\"as_usual\"", "\"as usual\"", "cannot name a profile"),
        ("\"-1\"", "\"{nothing}\"", "unknown placeholder {nothing}"),
        ("[\"{program}\", \"-1\"]", "[]", "the command is empty"),
        ("first = true", "parent = \"nobody\"", "0 roles are marked"),
        ("\"basic\"", "\"none\"", "workload 'none' has no script"),
        ("\"bob\"", "\"root\"", "every sandbox has a user 'root'"),
        ("\"bob\"", "\"b:b\"", "cannot name a user"),
        ("\"*\"", "\"a:b\"", "/etc/passwd"),
        ("about = \"nothing else\"", "", "missing field `about`"),
    ] {
        let error = parse(&with_profiles(old, new)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(error.contains("subject.toml:"), "{error}");
    }
}

fn pair(folder_name: &str, text: &str) -> Result<Pair, String> {
    let folder = folder();
    let tiny = folder.path().join("tiny");
    let manifest = GOOD.replace("HASH", &"0a".repeat(32));
    let subject = Subject::parse(&manifest, &tiny.join(MANIFEST)).unwrap();
    let path = folder
        .path()
        .join(folder_name)
        .join(crate::subject::pair::MANIFEST);
    Pair::parse(text, &path, &[subject]).map_err(|error| {
        error
            .to_string()
            .replace(&folder.path().display().to_string(), "DIR")
    })
}

#[test]
fn a_pair_takes_the_study_workloads_unless_it_names_its_own() {
    let text = "subject = \"tiny\"\nold = \"v1\"\nnew = \"q2\"\nvariant = \"bare\"\n";
    let read = pair("tiny-v1-q2-bare", text).unwrap();
    assert_eq!(read.id, "tiny-v1-q2-bare");
    assert_eq!(read.workloads, ["basic"]);
    assert_eq!(read.transformer, None);
}

#[test]
fn a_pair_in_a_folder_of_another_name_is_refused() {
    let text = "subject = \"tiny\"\nold = \"v1\"\nnew = \"q2\"\n";
    insta::assert_snapshot!(pair("tiny-v1-v2", text).unwrap_err(), @r#"
    DIR/tiny-v1-v2/pair.toml:1:11: this pair is tiny-v1-q2, but lies in the folder 'tiny-v1-v2'
      |
    1 | subject = "tiny"
      |           ^
      = rename the folder to tiny-v1-q2, or correct the names
    "#);
}

#[test]
fn a_pair_of_unknown_versions_or_with_missing_files_is_refused() {
    let with = |more: &str| {
        let text = format!("subject = \"tiny\"\nold = \"v1\"\nnew = {more}\n");
        pair("tiny-v1-q2", &text).unwrap_err()
    };
    insta::assert_snapshot!(with("\"v9\""), @r#"
    DIR/tiny-v1-q2/pair.toml:3:7: tiny has no version 'v9'
      |
    3 | new = "v9"
      |       ^
      = it has: v1, q2
    "#);
    insta::assert_snapshot!(with("\"q2\"\ntransformer = \"transform.c\""), @r#"
    DIR/tiny-v1-q2/pair.toml:4:15: DIR/tiny-v1-q2/transform.c does not exist
      |
    4 | transformer = "transform.c"
      |               ^
      = write the transformer, or remove this line
    "#);
    let shared = with("\"q2\"\ntransformer = \"../tiny-v1-v2/transform.c\"");
    assert!(
        shared.contains("tiny-v1-v2/transform.c does not exist"),
        "{shared}"
    );
    let outside = with("\"q2\"\ntransformer = \"../../transform.c\"");
    assert!(outside.contains("does not stay inside"), "{outside}");
    insta::assert_snapshot!(with("\"q2\"\nworkloads = [\"other\"]"), @r#"
    DIR/tiny-v1-q2/pair.toml:4:14: workload 'other' has no script
      |
    4 | workloads = ["other"]
      |              ^
      = write DIR/tiny/workloads/other.session, or correct the name
    "#);
}

#[test]
fn exceptions_are_names_of_functions() {
    insta::assert_snapshot!(
        refusal("about = \"a server\"", "about = \"a server\"\nexcept_named = [\"main\", \"run()\"]"),
        @r#"
    tiny/subject.toml:3:25: 'run()' cannot name a function
      |
    3 | except_named = ["main", "run()"]
      |                         ^
      = write the name alone, such as "main", without file, arguments or parentheses
    "#
    );
    assert_eq!(parse(GOOD).unwrap().except_named, [""; 0]);
}

#[test]
fn a_pair_takes_the_subjects_exceptions_unless_it_names_its_own() {
    let named = |line: &str| {
        pair(
            "tiny-v1-q2",
            &format!("subject = \"tiny\"\nold = \"v1\"\nnew = \"q2\"\n{line}"),
        )
        .map(|pair| pair.except_named)
    };
    assert_eq!(named("").unwrap(), [""; 0]);
    assert_eq!(named("except_named = [\"main\"]").unwrap(), ["main"]);
    assert!(
        named("except_named = [\"2nd\"]")
            .unwrap_err()
            .contains("pair.toml:4:17")
    );
}
