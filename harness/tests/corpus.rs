//! The known-answer corpus: the project's own shows what it predicts, and what is
//! wrong with a case is told once and plainly.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use support::kairos;

/// The project that this crate belongs to.
fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_corpus_of_the_project_shows_what_it_predicts() {
    let output = kairos()
        .arg("--root")
        .arg(project())
        .arg("corpus")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
}

/// A project with one case: a duty moves to the callee.
struct Corpus {
    folder: tempfile::TempDir,
    /// `case.toml`.
    manifest: String,
}

const MANIFEST: &str = r#"about = "A duty moves to the callee."
cause = "version-inconsistent sequence"

[[predict]]
function = "store"
verdict = "wrong"
cause = ""
diverges = "TELL"
allowed = ["activeness_rest", "con_free", "con_free_field"]
why = "the new store counts again"

[[predict]]
verdict = "new"
allowed = ["activeness", "activeness_edited", "activeness_conservative", "activeness_except_named", "activeness_rest", "con_free", "con_free_field"]
why = "only main is active"
"#;

const SESSION: &str = "about one\nspecification backward-compatible\n\n\
    exchange ADD\nopen c main\nsend c ADD\nawait c *\n\n\
    exchange TELL\nsend c TELL\nawait c *\n\n\
    exchange close\nclose c\n";

/// `add` counts before it calls `store`, or `store` does.
fn source(add: &str, store: &str) -> String {
    format!(
        r#"#include "line_server.h"
static int total;
static void store(void) {{ {store} do_nothing(); }}
static void add(void) {{ {add} store(); }}
static void done(int fd) {{ say(fd, "added"); }}
static void tell(int fd) {{ say_number(fd, "total", total); }}
int main(int count, char **arguments)
{{
    int listener = listen_on(atoi(arguments[count - 1]));
    char line[LONGEST_LINE];
    for (;;) {{
        int fd = next_client(listener);
        while (next_line(fd, line, sizeof line)) {{
            if (is(line, "ADD")) {{
                add();
                done(fd);
            }} else
                tell(fd);
        }}
        close(fd);
    }}
}}
"#
    )
}

impl Corpus {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let header = project().join("subjects/corpus/common/line_server.h");
        write(
            "subjects/corpus/common/line_server.h",
            &fs::read_to_string(header).unwrap(),
        );
        write("subjects/corpus/tiny/old/main.c", &source("total++;", ""));
        write("subjects/corpus/tiny/new/main.c", &source("", "total++;"));
        write("subjects/corpus/tiny/session.session", SESSION);
        for empty in ["update-pairs", "tmp"] {
            fs::create_dir_all(folder.path().join(empty)).unwrap();
        }
        Self {
            folder,
            manifest: MANIFEST.to_owned(),
        }
    }

    /// With `from` replaced in the manifest.
    fn with(mut self, from: &str, to: &str) -> Self {
        assert!(self.manifest.contains(from), "{from}");
        self.manifest = self.manifest.replacen(from, to, 1);
        self
    }

    fn command(&self) -> Command {
        let root = self.folder.path();
        let case = root.join("subjects/corpus/tiny/case.toml");
        fs::write(case, &self.manifest).unwrap();
        let mut command = kairos();
        command
            .arg("--root")
            .arg(root)
            .args(["corpus", "tiny", "--jobs", "1"])
            .env("KAIROS_CACHE", root.join("cache"))
            .env("TMPDIR", root.join("tmp"));
        command
    }

    fn run(&self) -> Output {
        self.command().output().unwrap()
    }

    /// The one error, with paths of the project shortened.
    fn error(&self, status: i32) -> String {
        let output = self.run();
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let error = text(&output.stderr).replace(&self.folder.path().display().to_string(), "DIR");
        let errors = error.matches("kairos: ").count();
        assert_eq!(errors, 1, "one clear error:\n{error}");
        let start = error.find("kairos: ").unwrap();
        error[start..].to_owned()
    }
}

#[test]
fn a_right_prediction_matches_and_leaves_nothing_behind() {
    let corpus = Corpus::new();
    let output = corpus.run();
    assert!(output.status.success(), "{output:?}");
    let table = text(&output.stdout);
    assert!(table.contains("1 of 1 cases match"), "{table}");
    let left: Vec<_> = fs::read_dir(corpus.folder.path().join("tmp"))
        .unwrap()
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn json_holds_the_rows_and_a_difference_is_a_finding() {
    let corpus = Corpus::new()
        .with("verdict = \"wrong\"", "verdict = \"new\"")
        .with("\"activeness_rest\", \"con_free\",", "\"con_free\",");
    let output = corpus.command().arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let rules = &report["cases"][0]["rules"];
    assert_eq!(rules[0]["points"], 1);
    assert_eq!(rules[0]["verdicts"]["wrong"], 1);
    let what = rules[0]["differences"][0]["what"].as_array().unwrap();
    let differing: Vec<&str> = what.iter().map(|one| one["of"].as_str().unwrap()).collect();
    assert_eq!(differing, ["verdict", "activeness_rest"]);
    assert!(rules[1]["differences"].as_array().unwrap().is_empty());
    let reached = report["reached"].as_array().unwrap();
    assert!(
        reached
            .iter()
            .any(|kind| kind["kind"] == "allowed by con_free and failing" && kind["points"] == 1)
    );
}

#[test]
fn unknown_keys_and_names_are_refused_where_they_stand() {
    let error = |from: &str, to: &str| Corpus::new().with(from, to).error(2);
    insta::assert_snapshot!(error("why = \"only", "because = \"only"), @r#"
    kairos: DIR/subjects/corpus/tiny/case.toml:15:1: unknown field `because`, expected one of `variant`, `role`, `thread`, `function`, `caller`, `exchange`, `index`, `verdict`, `cause`, `diverges`, `allowed`, `why`
       |
    15 | because = "only main is active"
       | ^
       = correct or remove this key; docs/corpus.md lists all keys
    "#);
    insta::assert_snapshot!(error("function = \"store\"", "function = \"stroe\""), @r#"
    kairos: DIR/subjects/corpus/tiny/case.toml:5:12: the old version has no function 'stroe'
      |
    5 | function = "stroe"
      |            ^
      = name a function of old/ that is compiled as one: helpers that are inlined are none
    "#);
    insta::assert_snapshot!(error("\"activeness_rest\", \"con_free\",", "\"confree\","), @r#"
    kairos: DIR/subjects/corpus/tiny/case.toml:9:12: there is no policy 'confree'
      |
    9 | allowed = ["confree", "con_free_field"]
      |            ^
      = write one of: activeness, activeness_edited, activeness_conservative, activeness_except_named, activeness_rest, con_free, con_free_field, manual, all
    "#);
    insta::assert_snapshot!(error("verdict = \"new\"", "verdict = \"fine\""), @r#"
    kairos: DIR/subjects/corpus/tiny/case.toml:13:11: there is no verdict 'fine'
       |
    13 | verdict = "fine"
       |           ^
       = write one of: crash, exit, stall, wrong, mixed, state, inert, late, new, flaky, not-applied, not-reached
    "#);
    insta::assert_snapshot!(error("diverges = \"TELL\"", "diverges = \"LIST\""), @r#"
    kairos: DIR/subjects/corpus/tiny/case.toml:8:12: the session has no exchange LIST
      |
    8 | diverges = "LIST"
      |            ^
      = write label or number of one of: 0 ADD, 1 TELL, 2 close
    "#);
    insta::assert_snapshot!(error("\"version-inconsistent sequence\"", "\"bad luck\""), @r#"
    kairos: DIR/subjects/corpus/tiny/case.toml:2:9: 'bad luck' is not a cause
      |
    2 | cause = "bad luck"
      |         ^
      = write one of: version-inconsistent sequence, missed initialisation, stale derived state, stale representation, changed meaning of a stored value, changed prototype through an active frame, deleted function still referenced, changed protocol between processes, lost update to moved storage, transformer fault, none
    "#);
    insta::assert_snapshot!(error("verdict = \"new\"", "variant = \"bare\"\nverdict = \"new\""), @r#"
    kairos: DIR/subjects/corpus/tiny/case.toml:13:11: there is no variant 'bare'
       |
    13 | variant = "bare"
       |           ^
       = write one of: plain
    "#);
    insta::assert_snapshot!(error("verdict = \"new\"", "role = \"child#2\"\nverdict = \"new\""), @r#"
    kairos: DIR/subjects/corpus/tiny/case.toml:13:8: there is no role 'child'
       |
    13 | role = "child#2"
       |        ^
       = write one of: server
    "#);
    insta::assert_snapshot!(error("\"con_free_field\"]\nwhy = \"only", "\"manual\"]\nwhy = \"only"), @r#"
    kairos: DIR/subjects/corpus/tiny/case.toml:14:132: the case names no manual point
       |
    14 | allowed = ["activeness", "activeness_edited", "activeness_conservative", "activeness_except_named", "activeness_rest", "con_free", "manual"]
       |                                                                                                                                    ^
       = add a [[subject.manual]], or leave this policy out
    "#);
}

#[test]
fn an_unknown_case_is_told_with_those_that_exist() {
    let corpus = Corpus::new();
    let output = corpus.command().arg("other").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = text(&output.stderr);
    assert!(error.contains("no case is named 'other'"), "{error}");
    assert!(error.contains("there are: tiny"), "{error}");
}

#[test]
fn no_c_compiler_is_one_clear_error() {
    let corpus = Corpus::new();
    let output = corpus
        .command()
        .env("PATH", corpus.folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let error = text(&output.stderr);
    assert_eq!(error.matches("kairos: ").count(), 1, "{error}");
    assert!(error.contains("compiler"), "{error}");
}

#[test]
fn the_corpus_is_no_subject() {
    let output = kairos()
        .arg("--root")
        .arg(project())
        .args(["subjects", "list"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!text(&output.stdout).contains("corpus"), "{output:?}");
}
