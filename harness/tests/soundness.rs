//! Con-freeness is sound: no frame executes what it ruled out, whichever record
//! changes, and each rule that makes it so is needed.

mod patch_support;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;

use kairos::binary::Program;
use kairos::change::Changes;
use kairos::confree::{self, Finder, Rule, UseTable};
use kairos::subject::BuiltVersion;
use nix::sys::signal::{Signal, kill};
use patch_support::stepper::{Steps, Waiting, step};
use patch_support::{Version, compiler, sides};

const MAIN: &str = "void show(void); int main(void) { show(); return 0; }\n";

/// Only the syntax tree: its rules are what these tests are about, and what the
/// machine code shows is what they are judged by.
const SYNTAX_ALONE: [Rule; 2] = [
    Rule::Finder(Finder::Padding),
    Rule::Finder(Finder::References),
];

/// The frames that executed what `changes` make dangerous although the table
/// ruled it out, as function names; and how many frames were seen to execute some.
fn violations(
    program: &Program,
    built: &BuiltVersion,
    changes: &Changes,
    steps: &Steps,
    table: &UseTable,
) -> (Vec<String>, usize) {
    let dependent = confree::dependent_instructions(built, changes).expect("instructions");
    let users = steps.later_users(&dependent);
    let allowed = |waiting: &Waiting| {
        table.unknown(waiting.entry).is_none()
            && table.after(waiting.entry, waiting.site).next().is_none()
    };
    let name = |waiting: &Waiting| {
        let function = program.function_at(waiting.entry).expect("function");
        function.name.name.clone()
    };
    let mut missed: Vec<String> = users
        .keys()
        .filter(|waiting| allowed(waiting))
        .map(name)
        .collect();
    missed.dedup();
    (missed, users.values().sum())
}

fn has_syntax(table: &UseTable) -> bool {
    let found = table.finders.len() == 3;
    if !found {
        eprintln!("without libclang: the rules of syntax trees are not checked");
    }
    found
}

/// A program whose functions use `struct T` and `struct U` before and after calls,
/// directly, through kept pointers, in loops and in callbacks of the library.
const RUNS: &str = r#"
#include <stdlib.h>
#include <string.h>
struct T { long first; int a; int list[4]; };
struct U { struct T *t; int n; short s; };
struct T one = { .first = 1, .a = 2, .list = { 3, 4, 5, 6 } };
struct U two = { .t = &one, .n = 2, .s = 3 };
int sink;
int note(int x) { sink += x; return x; }
int before(struct T *p) { int a = p->a; note(a); return note(a + 1); }
int behind(struct T *p) { note(1); return p->a; }
int around(struct U *u) { int n = 0; while (n < u->n) n += note(1); return n; }
int kept(struct T *p) { int *in = &p->a; note(3); return *in; }
int array(struct T *p) { int *in = p->list; note(3); return in[2]; }
int chain(struct U *u) { int n = note(u->n); return behind(u->t) + n; }
int copied(struct T *p) { struct T mine = *p; note(4); return mine.a + note(mine.list[1]); }
int choose(struct T *p, int x) { note(x); switch (x) { case 0: return note(1); case 1: return p->a;
 case 2: return note(9); case 3: return note(p->list[1]); case 4: return note(7); default: return 3; } }
int compare(const void *a, const void *b) {
 int x = note(((const struct U *)a)->s); return x - ((const struct U *)b)->s; }
int sorted(void) { struct U all[3] = { two, two, two }; all[1].s = 1;
 qsort(all, 3, sizeof all[0], compare); return note(all[0].s); }
int recursive(struct T *p, int depth) { return depth ? recursive(p, depth - 1) + p->a : note(1); }
void show(void) { before(&one); behind(&one); around(&two); kept(&one); array(&one);
 chain(&two); copied(&one); for (int x = 0; x < 6; x++) choose(&one, x); sorted(); recursive(&one, 3); }
"#;

#[test]
fn no_frame_executes_what_con_freeness_ruled_out() {
    if !compiler() {
        return;
    }
    let old = Version::compile(&[("main.c", MAIN), ("work.c", RUNS)]);
    let (program, built) = (old.open(), old.built());
    let steps = step(&program, &[], |_, _| {});
    assert!(steps.points() > 30, "{}", steps.points());
    // Each record is changed in turn: a member is put in front, or one is retyped.
    for (from, to) in [
        (
            "struct T { long first;",
            "struct T { long added; long first;",
        ),
        (
            "struct T { long first; int a;",
            "struct T { long first; long pad; int a;",
        ),
        (
            "struct U { struct T *t;",
            "struct U { long added; struct T *t;",
        ),
        (
            "struct U { struct T *t; int n;",
            "struct U { int n; struct T *t;",
        ),
    ] {
        let text = RUNS.replace(from, to);
        assert_ne!(text, RUNS, "{from}");
        let new = Version::compile(&[("main.c", MAIN), ("work.c", &text)]);
        let changes = Changes::between(program.types(), new.open().types());
        for off in [&[][..], &SYNTAX_ALONE] {
            let table = confree::uses_without(&built, &changes, off).expect("uses");
            if !off.is_empty() && !has_syntax(&table) {
                continue;
            }
            let (missed, users) = violations(&program, &built, &changes, &steps, &table);
            assert_eq!(missed, [""; 0], "{to} {off:?}");
            assert!(users > 3, "{to}: {users}");
        }
        // The oracle can fail: a table that knows nothing allows too much.
        let blind = UseTable::default();
        let (missed, _) = violations(&program, &built, &changes, &steps, &blind);
        assert!(!missed.is_empty(), "{to}");
    }
}

/// For each rule, functions that need it.
const RULES: &str = r#"
#include <string.h>
struct T {
N: long front;
 long first; int a; int b; int list[4]; };
struct T one = { .first = 1, .a = 2, .b = 3, .list = { 4, 5, 6, 7 } };
int sink;
int note(int x) { sink += x; return x; }
int again(int x) { sink += x; return sink < 20; }
int interior(struct T *p) {
 int n = note((int)p->first); int *in = &p->a;
 note(3);
 return *in + n;
}
void fill(void *p) { memset(p, 1, 24); }
int local_address(void) {
 struct T mine; struct T *p = &mine; fill(p);
 note(1);
 return ((int *)p)[3];
}
int unresolved(struct T *p, int x) {
 void *labels[] = { &&first, &&second, &&third };
 note(1);
 goto *labels[x];
first:
 return note(5);
second:
 return p->a;
third:
 return 4;
}
void reached_again(struct T *p) {
 while (again(p->a))
  ;
}
int called_twice(struct T *p) {
 return note(p->a) - note(p->b);
}
static inline __attribute__((always_inline)) int get(struct T *p) {
 return p->a;
}
int inlined(struct T *p) {
 note(2);
 return get(p);
}
int moved(struct T *p) {
 note(2);
 int x = p->a;
 return x;
}
#line 900 "work.c"
int included(struct T *p) {
 note(2);
#line 900 "body.h"
 return p->b;
#line 904 "work.c"
}
void show(void) {
 included(&one);
 interior(&one);
 local_address();
 unresolved(&one, 1);
 reached_again(&one);
 called_twice(&one);
 inlined(&one);
 moved(&one);
}
"#;

/// The two versions of a source with marked lines.
fn both(source: &str) -> [Version; 2] {
    sides(source).map(|text| Version::compile(&[("main.c", MAIN), ("work.c", &text)]))
}

#[test]
fn each_rule_is_needed() {
    if !compiler() {
        return;
    }
    let [old, new] = both(RULES);
    let (program, built) = (old.open(), old.built());
    let changes = Changes::between(program.types(), new.open().types());
    let steps = step(&program, &[], |_, _| {});
    let missed = |rule: Option<Rule>| {
        let off: Vec<Rule> = SYNTAX_ALONE.into_iter().chain(rule).collect();
        let table = confree::uses_without(&built, &changes, &off).expect("uses");
        let (missed, _) = violations(&program, &built, &changes, &steps, &table);
        has_syntax(&table).then_some(missed)
    };
    let Some(with_all) = missed(None) else {
        return;
    };
    assert_eq!(with_all, [""; 0]);
    for (rule, functions) in [
        (Rule::Interior, &["interior"][..]),
        (Rule::LocalAddress, &["local_address"]),
        (Rule::UnresolvedJump, &["unresolved"]),
        (Rule::CallReachedAgain, &["reached_again"]),
        (Rule::CalledTwice, &["called_twice"]),
        (Rule::InlinedBody, &["inlined"]),
        (Rule::LinesWithoutRow, &["inlined", "moved"]),
    ] {
        let found = missed(Some(rule)).expect("libclang");
        assert_eq!(found, functions, "{rule:?}");
    }
}

#[test]
fn each_finder_is_needed() {
    if !compiler() {
        return;
    }
    // A size that no expression names, an enumerator, and a call of a deleted
    // function: each is seen by one finder, or by none once that one is off.
    let [old, new] = both(
        "struct T {\nN: long front;\n int a; };\nO:enum level { LOW };\nN:enum level { NONE, LOW };\n\
         typedef char room[sizeof(struct T)];\n\
         struct T one; int sink;\nO:void gone(void) { sink++; }\n\
         int constant(void) { return sizeof(room); }\n\
         int enumerator(void) { return LOW; }\n\
         void show(void) { constant(); enumerator();\nO: gone();\n }\n",
    );
    let (program, built) = (old.open(), old.built());
    let changes = Changes::between(program.types(), new.open().types());
    let users = |off: &[Rule]| -> Vec<String> {
        let table = confree::uses_without(&built, &changes, off).expect("uses");
        let names = table.users().into_iter().map(|name| name.name);
        names
            .filter(|name| name != "gone" && !name.starts_with("kairos"))
            .collect()
    };
    let [syntax, padding, references] =
        [Finder::Syntax, Finder::Padding, Finder::References].map(Rule::Finder);
    if !has_syntax(&confree::uses(&built, &changes).expect("uses")) {
        return;
    }
    assert_eq!(users(&[]), ["constant", "enumerator", "show"]);
    assert_eq!(users(&[syntax]), ["constant", "show"]);
    assert_eq!(users(&[padding]), ["enumerator", "show"]);
    assert_eq!(users(&[references, syntax]), ["constant"]);
}

#[test]
fn a_unit_that_was_not_parsed_refuses() {
    if !compiler() {
        return;
    }
    // Functions within functions are gcc's alone.
    let [old, new] = both(
        "struct T {\nN: long front;\n int a; };\nstruct T one; int sink;\n\
         int note(int x) { int in(int y) { return x + y; } return sink += in(2); }\n\
         int behind(struct T *p) { note(1); return p->a; }\nvoid show(void) { behind(&one); }\n",
    );
    let (program, built) = (old.open(), old.built());
    let changes = Changes::between(program.types(), new.open().types());
    let steps = step(&program, &[], |_, _| {});
    let missed = |off: &[Rule]| {
        let table = confree::uses_without(&built, &changes, off).expect("uses");
        let (missed, _) = violations(&program, &built, &changes, &steps, &table);
        has_syntax(&table).then_some(missed)
    };
    let alone: Vec<Rule> = SYNTAX_ALONE.to_vec();
    let Some(found) = missed(&alone) else { return };
    assert_eq!(found, [""; 0]);
    let without = [alone, vec![Rule::Unknown]].concat();
    assert_eq!(missed(&without), Some(vec!["behind".to_owned()]));
}

const KVD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../subjects/kvd/v7");

/// Sources and headers of a version of kvd.
fn kvd_files() -> Vec<(String, String)> {
    let entries = std::fs::read_dir(KVD).expect("kvd");
    let mut files: Vec<(String, String)> = entries
        .map(|entry| entry.expect("entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "c" || e == "h"))
        .map(|path| {
            let name = path
                .file_name()
                .expect("name")
                .to_string_lossy()
                .into_owned();
            (name, std::fs::read_to_string(&path).expect("source"))
        })
        .collect();
    files.sort();
    files
}

fn compile(files: &[(String, String)]) -> Version {
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    Version::compile(&files)
}

/// Places where a member can be put into a struct: file, byte offset, what for.
fn member_places(files: &[(String, String)]) -> Vec<(usize, usize, String)> {
    let mut places = Vec::new();
    for (file, (name, text)) in files.iter().enumerate() {
        let mut inside: Option<&str> = None;
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            at += line.len();
            if let Some(rest) = line.strip_prefix("struct ")
                && let Some(tag) = rest.trim_end().strip_suffix(" {")
            {
                inside = Some(tag);
            }
            if line.starts_with('}') {
                inside = None;
            }
            if let Some(tag) = inside
                && (line.ends_with("{\n") || line.trim_end().ends_with(';'))
            {
                places.push((file, at, format!("struct {tag}, {name} byte {at}")));
            }
        }
    }
    places
}

/// Plays a session with kvd from a thread of its own; ends it with SIGTERM.
fn play(port: u16, pid: nix::unistd::Pid) {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
    let mut replies = BufReader::new(stream.try_clone().expect("clone"));
    let mut line = String::new();
    replies.read_line(&mut line).expect("greeting");
    for command in [
        "SET a one",
        "GET a",
        "APPEND a two",
        "INCR n",
        "DEL a",
        "NOPE",
        "PING",
    ] {
        (&stream)
            .write_all(format!("{command}\n").as_bytes())
            .expect("send");
        replies.read_line(&mut line).expect("reply");
    }
    (&stream).write_all(b"KEYS\nSTATS\nQUIT\n").expect("send");
    while replies.read_line(&mut line).expect("reply") > 0 {}
    kill(pid, Signal::SIGTERM).expect("SIGTERM");
}

#[test]
fn whichever_record_of_kvd_changes_con_freeness_refuses_where_it_is_used_later() {
    if !compiler() {
        return;
    }
    let files = kvd_files();
    let old = compile(&files);
    let (program, built) = (old.open(), old.built());
    let port = TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let folder = tempfile::tempdir().expect("folder");
    let arguments = [
        "-p".to_owned(),
        port.to_string(),
        "-l".to_owned(),
        folder.path().join("log").display().to_string(),
        "-d".to_owned(),
        folder.path().join("dump").display().to_string(),
    ];
    let (ready, client) = mpsc::channel();
    let player = std::thread::spawn(move || {
        let pid = client.recv().expect("kvd reaches its loop");
        play(port, pid);
    });
    let steps = step(&program, &arguments, |function, pid| {
        if function == "server_run" {
            ready.send(pid).expect("client");
        }
    });
    player.join().expect("session");
    assert!(steps.points() > 100, "{}", steps.points());
    let places = member_places(&files);
    assert!(places.len() > 10, "{places:?}");
    // A sample that moves on from run to run would not be reproducible: every
    // third place, so that each record is hit.
    let mut used = 0;
    for (file, at, what) in places.iter().step_by(3) {
        let mut mutated = files.clone();
        mutated[*file].1.insert_str(*at, "long kairos_added;\n");
        let new = compile(&mutated);
        let changes = Changes::between(program.types(), new.open().types());
        assert!(!changes.is_empty(), "{what}");
        for off in [&[][..], &SYNTAX_ALONE] {
            let table = confree::uses_without(&built, &changes, off).expect("uses");
            if !off.is_empty() && !has_syntax(&table) {
                continue;
            }
            let (missed, users) = violations(&program, &built, &changes, &steps, &table);
            assert_eq!(missed, [""; 0], "{what} {off:?}");
            used += users;
        }
    }
    assert!(used > 100, "{used}");
}
