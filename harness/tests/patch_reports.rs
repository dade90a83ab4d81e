//! What a patch says of an update beside its image: types, prototypes, deleted and
//! edited functions, warnings, and why a build is refused.

mod patch_support;

use kairos::binary::{BinaryError, Program};
use kairos::patch::DataAction;
use patch_support::{
    MAIN, Version, compiler, marked, pair, patch, patch_with, redirect, redirected, warning,
};

#[test]
fn types_prototypes_and_deleted_functions_are_reported() {
    if !compiler() {
        return;
    }
    let (old, new) = marked(
        r#"
#include <stdio.h>
O:struct inner { int a; };
N:struct inner { int a; int b; };
struct outer { int x; struct inner in; };
struct user { struct outer *where; };
struct outer object;
struct user user = { &object };
enum state { IDLE, BUSY };
N:enum more { LAST };
O:int gone(int x) { return x; }
int stays(int x) { return -x; }
O:int (*table[])(int) = { gone, stays };
N:int (*table[])(int) = { stays, stays };
O:int length(int value) { return value; }
N:int length(int value, int more) { return value + more; }
O:int renamed(int remote) { return remote + 1; }
N:int renamed(int is_control) { return is_control + 2; }
O:void show(void) { printf("%d %d %d\n", length(1), renamed(1), table[0](1)); }
N:void show(void) { printf("%d %d %d\n", length(1, 2), renamed(1), table[0](1)); }
"#,
    );
    let patch = patch(&old, &new).expect("patch").patch;
    assert_eq!(patch.changed_types, ["struct inner", "struct outer"]);
    assert_eq!(patch.changed_prototypes, ["length"]);
    assert!(redirect(&patch, "length").prototype_changed);
    assert_eq!(patch.deleted.len(), 1);
    assert_eq!(patch.deleted[0].old, old.function("gone"));
    let subjects = |kind| warning(&patch, kind).map(|w| w.subject.as_str());
    assert_eq!(subjects("deleted-in-table"), Some("gone"));
    assert_eq!(subjects("prototype-changed"), Some("length"));
    assert_eq!(subjects("parameter-renamed"), Some("renamed"));
    assert_eq!(subjects("type-changed"), Some("struct inner"));
    let carried: Vec<&str> = patch
        .data
        .iter()
        .filter_map(|action| match action {
            DataAction::Carry { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(carried, ["object"], "only what holds the record by value");
}

#[test]
fn loops_and_start_up_code_are_warned_of() {
    if !compiler() {
        return;
    }
    let (old, new) = marked(
        r#"
#include <poll.h>
#include <stdio.h>
static int limit;
O:static void prepare(void) { limit = 1; }
N:static void prepare(void) { limit = 2; }
static void handle(void) { printf("%d\n", limit); }
static void serve(void)
{
    for (int i = 0; i < 20; i++) {
        poll(0, 0, 1);
        handle();
N:        handle();
    }
}
void show(void) { prepare(); serve(); }
"#,
    );
    let patch = patch(&old, &new).expect("patch").patch;
    assert_eq!(warning(&patch, "main-loop").expect("loop").subject, "serve");
    // `main` calls `show` twice, the second time after it served.
    assert!(warning(&patch, "only-called-at-start-up").is_none());
}

#[test]
fn a_stripped_program_is_refused_with_advice() {
    if !compiler() {
        return;
    }
    let source = "void show(void) {}\n";
    let (old, _) = pair(source, source);
    let copy = old.program.with_extension("stripped");
    std::fs::copy(&old.program, &copy).expect("copy");
    for (flag, advice) in [("-g", "-g"), ("-s", "-s")] {
        let done = std::process::Command::new("strip")
            .arg(flag)
            .arg(&copy)
            .status();
        assert!(done.expect("strip").success());
        let error = Program::open(&copy).expect_err("refused");
        assert!(error.to_string().contains(advice), "{error}");
        assert!(matches!(
            error,
            BinaryError::NoDebug { .. } | BinaryError::NoSymbols { .. }
        ));
    }
}

#[test]
fn edited_functions_are_told_by_their_text() {
    if !compiler() {
        return;
    }
    let source = |limit: &str, body: &str, comment: &str, header: &str, made: &str| {
        let source = format!(
            "#include <stdio.h>\n#include \"twice.h\"\n{comment}\n#define LIMIT {limit}\n\
             #define MAKE(name, value) int name(void) {{ return value; }}\n\
             MAKE(first, 1)\nMAKE(second, {made})\n\
             int limit(void)\n{{ {comment}\n  return LIMIT; }}\n\
             int renamed(int n) {{ {body} }}\n\
             void show(void) {{ printf(\"%d\\n\", limit() + renamed(1) + first() + second() + \
             twice(2)); }}\n"
        );
        Version::compile(&[
            ("main.c", MAIN),
            ("lib/twice.h", header),
            ("lib/work.c", &source),
        ])
    };
    let header = "static int twice(int n) { return n * 2; }\n";
    let old = source("1", "return n + 1;", "", header, "2");
    let new = source(
        "2",
        "return (n + 1);",
        "/* moved } */\n// down",
        &header.replace("* 2", "* 3"),
        "3",
    );
    let built = patch_with(&old, &new, None).expect("a patch");
    let mut edited: Vec<&str> = built
        .patch
        .edited
        .iter()
        .flatten()
        .map(|edited| edited.function.name.as_str())
        .collect();
    edited.sort_unstable();
    // `limit` changed by a macro, `renamed` kept its code.
    assert_eq!(edited, ["renamed", "second", "twice"]);
    assert_eq!(redirected(&built.patch), ["limit", "second", "twice"]);
    assert!(warning(&built.patch, "source-not-found").is_none());

    std::fs::remove_file(new.tree().join("lib/twice.h")).expect("removed");
    let built = patch_with(&old, &new, None).expect("a patch");
    let missing: Vec<&str> = built
        .patch
        .warnings
        .iter()
        .filter(|warning| warning.kind == "source-not-found")
        .map(|warning| warning.subject.as_str())
        .collect();
    assert_eq!(missing, ["twice"]);
    assert!(
        built
            .patch
            .edited
            .iter()
            .flatten()
            .any(|e| e.function.name == "twice"),
        "what cannot be found counts as edited"
    );
}
