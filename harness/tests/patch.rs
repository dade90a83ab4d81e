//! Patches of tiny C pairs: what changed, where references lead, and that the
//! old program goes on as the new one after it applied the image to itself.

mod patch_support;

use kairos::binary::Address;
use kairos::patch::{
    Build, DataAction, IMAGE_BASE, PatchError, Reason, Selection, build_broken, build_control,
};
use patch_support::{
    MAIN, Version, call_targets, compiler, image, marked, memory_targets, pair, patch, patch_with,
    redirect, redirected, warning,
};

#[test]
fn equal_versions_give_an_empty_patch() {
    if !compiler() {
        return;
    }
    // The line numbers differ, and so does the order of the strings.
    let (old, new) = marked(
        "#include <stdio.h>\nN:\nN:\n\
         static int count(void) { static int n; return ++n; }\n\
         void show(void) { printf(\"%d\\n\", count()); }\n",
    );
    let built = patch(&old, &new).expect("patch");
    assert!(redirected(&built.patch).is_empty());
    assert!(built.patch.data.is_empty() && built.patch.image.is_empty());
    assert!(built.patch.warnings.is_empty());
}

#[test]
fn every_reference_to_an_old_function_leads_to_its_old_entry() {
    if !compiler() {
        return;
    }
    let (old, new) = marked(
        r#"
#include <stdio.h>
static int same(int x) { return x + 1; }
O:static int other(int x) { return x + 2; }
N:static int other(int x) { return x + 3; }
N:static int fresh(int x) { return x * 100; }
static int (*chosen)(int) = other;
void show(void)
{
O:    printf("%d %d\n", same(1), chosen == other);
N:    printf("%d %d %d\n", same(1), fresh(other(0)), chosen == other);
}
"#,
    );
    let patch = patch(&old, &new).expect("patch").patch;
    assert_eq!(redirected(&patch), ["other", "show"]);
    assert_eq!(patch.added.len(), 1);
    assert_eq!(patch.added[0].function.file, "lib/work.c");
    let show = redirect(&patch, "show");
    let calls = call_targets(&patch, show.new, show.new_size);
    assert!(calls.contains(&old.function("same")));
    assert!(calls.contains(&old.function("other")));
    assert!(calls.contains(&patch.added[0].new));
    let taken = memory_targets(&patch, show.new, show.new_size);
    assert!(taken.contains(&old.function("other")));
    assert_eq!(image(&patch, show.new, 16), [0x90; 16]);
    assert_eq!(old.run(&patch), "2 1\n2 300 1\n");
}

#[test]
fn switch_tables_lead_into_the_image() {
    if !compiler() {
        return;
    }
    let source = r#"
#include <stdio.h>
static const char *word(int x)
{
    switch (x) {
    case 0: return putchar(48) > 0 ? "zero" : "";
    case 1: return putchar(49) > 0 ? "one" : "";
    case 2: return putchar(50) > 0 ? "two" : "";
    case 3: return putchar(51) > 0 ? "three" : "";
    case 4: return putchar(52) > 0 ? "four" : "";
O:  case 5: return putchar(53) > 0 ? "five" : "";
N:  case 5: return putchar(53) > 0 ? "FIVE" : "";
    default: return "many";
    }
}
void show(void) { for (int i = 0; i < 7; i++) printf("%s ", word(i)); puts(""); }
"#;
    let (old, new) = marked(source);
    let patch = patch(&old, &new).expect("patch").patch;
    assert_eq!(redirected(&patch), ["word"]);
    let word = redirect(&patch, "word");
    let inside = |at: u64| at > word.new.0 && at < word.new.0 + word.new_size;
    let table = (0..patch.image.len() / 4).any(|start| {
        let base = IMAGE_BASE.0 + 4 * start as u64;
        (0..6).all(|entry| {
            let at = 4 * (start + entry);
            patch.image.get(at..at + 4).is_some_and(|bytes| {
                let distance = i32::from_le_bytes(bytes.try_into().expect("four bytes"));
                inside(base.wrapping_add_signed(i64::from(distance)))
            })
        })
    });
    assert!(table, "no switch table leads into the new function");
    assert_eq!(
        old.run(&patch),
        "0zero 1one 2two 3three 4four 5five many \n0zero 1one 2two 3three 4four 5FIVE many \n"
    );
}

#[test]
fn absolute_switch_tables_work_too() {
    if !compiler() {
        return;
    }
    let source = |five: &str| {
        format!(
            "#include <stdio.h>\nint f(int x) {{ switch (x) {{ case 0: return puts(\"a\"); \
             case 1: return puts(\"bb\"); case 2: return puts(\"ccc\"); case 3: return \
             puts(\"dd\"); case 4: return puts(\"{five}\"); case 5: return puts(\"f\"); }} \
             return 0; }}\nvoid show(void) {{ for (int i = 0; i < 6; i++) f(i); }}\n"
        )
    };
    let compile = |five| {
        Version::compile_with(
            &[("main.c", MAIN), ("work.c", &source(five))],
            &["-fno-pie"],
        )
    };
    let (old, new) = (compile("e"), compile("E"));
    let patch = patch(&old, &new).expect("patch").patch;
    assert_eq!(redirected(&patch), ["f"]);
    assert_eq!(
        old.run(&patch),
        "a\nbb\nccc\ndd\ne\nf\na\nbb\nccc\ndd\nE\nf\n"
    );
}

#[test]
fn statics_keep_their_storage_whatever_their_number() {
    if !compiler() {
        return;
    }
    let (old, new) = marked(
        r#"
#include <stdio.h>
N:static int early(void) { static int counter = 7; return counter; }
static int next(void)
{
    static int counter = 40;
O:    return ++counter;
N:    return ++counter + early() * 1000;
}
void show(void) { printf("%d\n", next()); }
"#,
    );
    let patch = patch(&old, &new).expect("patch").patch;
    assert_eq!(redirected(&patch), ["next"]);
    let [DataAction::Add { name, .. }] = patch.data.as_slice() else {
        panic!("{:?}", patch.data);
    };
    assert_eq!(name, "early.counter");
    assert_eq!(old.run(&patch), "41\n7042\n");
}

#[test]
fn a_table_that_grows_takes_its_users_along() {
    if !compiler() {
        return;
    }
    let (old, new) = marked(
        r#"
#include <stdio.h>
static int add(int x) { return x + 1; }
static int sub(int x) { return x - 1; }
N:static int twice(int x) { return 2 * x; }
struct entry { const char *name; int (*run)(int); };
O:static const struct entry fixed[] = { { "add", add }, { 0, 0 } };
N:static const struct entry fixed[] = { { "add", add }, { "twice", twice }, { 0, 0 } };
O:static struct entry table[] = { { "add", add }, { "sub", sub }, { 0, 0 } };
N:static struct entry table[] = { { "add", add }, { "sub", sub }, { "twice", twice }, { 0, 0 } };
static struct entry *cursor = table;
static void use_fixed(void) { for (const struct entry *e = fixed; e->name; e++) printf("%s=%d ", e->name, e->run(5)); }
static void use_table(void) { for (struct entry *e = table; e->name; e++) printf("%s=%d ", e->name, e->run(5)); }
static void use_cursor(void) { printf("%s\n", cursor->name); }
void show(void) { use_fixed(); use_table(); use_cursor(); }
"#,
    );
    let patch = patch(&old, &new).expect("patch").patch;
    assert_eq!(redirected(&patch), ["use_fixed", "use_table"]);
    assert!(
        patch
            .redirects
            .iter()
            .all(|r| r.reason == Reason::RefersToMoved)
    );
    let mut kinds: Vec<String> = patch
        .data
        .iter()
        .map(|action| match action {
            DataAction::Renew { name, .. } => format!("renew {name}"),
            DataAction::Carry {
                name,
                old_size,
                new_size,
                ..
            } => format!("carry {name} {old_size} {new_size}"),
            DataAction::Reinitialise { name, new, .. } => {
                let word = image(&patch, *new, 8).try_into().expect("a word");
                assert!(u64::from_le_bytes(word) >= IMAGE_BASE.0);
                format!("reinitialise {name}")
            }
            DataAction::Add { name, .. } => format!("add {name}"),
        })
        .collect();
    kinds.sort();
    assert_eq!(
        kinds,
        ["carry table 48 64", "reinitialise cursor", "renew fixed"]
    );
    assert_eq!(
        warning(&patch, "pointer-to-moved")
            .expect("warning")
            .subject,
        "cursor"
    );
    assert_eq!(
        old.run(&patch),
        "add=6 add=6 sub=4 add\nadd=6 twice=10 add=6 sub=4 twice=10 add\n"
    );
}

#[test]
fn a_new_initial_value_alone_keeps_the_storage() {
    if !compiler() {
        return;
    }
    let (old, new) = marked(
        r#"
#include <stdio.h>
static int add(int x) { return x + 1; }
static int sub(int x) { return x - 1; }
O:static int (*handler)(int) = add;
N:static int (*handler)(int) = sub;
O:static const char *greeting = "hello";
N:static const char *greeting = "welcome";
O:static int limit;
N:static int limit = 9;
int unused(void) { return sub(add(0)); }
void show(void) { printf("%d %s %d\n", handler(5), greeting, limit); }
"#,
    );
    let patch = patch(&old, &new).expect("patch").patch;
    assert!(redirected(&patch).is_empty());
    assert_eq!(patch.data.len(), 3);
    for action in &patch.data {
        let DataAction::Reinitialise {
            name,
            old: place,
            old_initial,
            new: at,
            size,
            members: None,
        } = action
        else {
            panic!("{action:?}");
        };
        assert_eq!(*place, old.object(name));
        assert_eq!(old_initial.len() as u64, *size);
        let value = image(&patch, *at, usize::try_from(*size).expect("size"));
        match name.as_str() {
            "handler" => assert_eq!(value, old.function("sub").0.to_le_bytes()),
            "limit" => assert_eq!(
                (value, old_initial.as_slice()),
                (&[9, 0, 0, 0][..], &[0; 4][..])
            ),
            _ => {
                let at = Address(u64::from_le_bytes(value.try_into().expect("a word")));
                assert_eq!(image(&patch, at, 8), b"welcome\0");
            }
        }
    }
    assert_eq!(old.run(&patch), "6 hello 0\n4 welcome 9\n");
}

#[test]
fn library_functions_are_reached_through_the_old_links_or_new_slots() {
    if !compiler() {
        return;
    }
    let (old, new) = marked(
        r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static const char *volatile text = "aab";
O:void show(void) { puts("old"); }
N:int (*const reader)(const char *) = atoi;
N:void show(void) { int (*f)(const char *) = abs(-1) ? atoi : 0; puts("new"); fprintf(stderr, "%d", abs(-3)); printf("%d %d %d\n", f("12"), reader("13"), (int)strspn(text, "a")); fflush(stdout); }
"#,
    );
    let patch = patch(&old, &new).expect("patch").patch;
    let names: Vec<&str> = patch.imports.iter().map(|i| i.name.as_str()).collect();
    assert!(
        names.contains(&"strspn") && names.contains(&"stderr"),
        "{names:?}"
    );
    // One slot for code, and the word of `reader` itself.
    assert_eq!(names.iter().filter(|name| **name == "atoi").count(), 2);
    let show = redirect(&patch, "show");
    let puts = old.open().plt("puts").expect("old program calls puts");
    assert!(call_targets(&patch, show.new, show.new_size).contains(&puts));
    assert_eq!(old.run(&patch), "old\nnew\n12 13 2\n");
}

#[test]
fn every_form_of_library_link_is_understood() {
    if !compiler() {
        return;
    }
    let source = |text: &str| {
        format!(
            "#include <stdio.h>\n#include <stdlib.h>\nstatic int (*taken)(const char *) = atoi;\n\
             void show(void) {{ int (*same)(const char *) = atoi; \
             fprintf(stdout, \"{text} %d %d\\n\", atoi(\"5\"), taken == same); }}\n"
        )
    };
    for flags in [
        &["-Wl,-z,lazy"][..],
        &["-Wl,-z,now"],
        &["-Wl,-z,ibtplt"],
        &["-Wl,-z,now", "-Wl,-z,ibtplt"],
        &["-mdirect-extern-access"],
        &["-mdirect-extern-access", "-fno-pie"],
    ] {
        let version = |text| {
            let work = source(text);
            Version::compile_with(&[("main.c", MAIN), ("work.c", &work)], flags)
        };
        let (old, new) = (version("old"), version("new"));
        let patch = patch(&old, &new).expect("patch").patch;
        assert_eq!(redirected(&patch), ["show"]);
        assert!(patch.imports.is_empty(), "{flags:?}: {:?}", patch.imports);
        let show = redirect(&patch, "show");
        let atoi = old.open().plt("atoi").expect("called by the old program");
        assert!(call_targets(&patch, show.new, show.new_size).contains(&atoi));
        assert_eq!(old.run(&patch), "old 5 1\nnew 5 1\n", "{flags:?}");
    }
}

#[test]
fn thread_local_storage_is_shared_but_must_not_change() {
    if !compiler() {
        return;
    }
    let source = r#"
#include <stdio.h>
static __thread int mine = 5;
__thread int ours;
N:EXTRA
O:void show(void) { printf("%d %d\n", ++mine, ours += 2); }
N:void show(void) { printf("%d %d new\n", ++mine, ours += 2); }
"#;
    let (old, new) = marked(&source.replace("N:EXTRA\n", ""));
    let built = patch(&old, &new).expect("patch");
    assert_eq!(old.run(&built.patch), "6 2\n7 4 new\n");
    let (old, new) = marked(&source.replace(
        "N:EXTRA",
        "N:__thread int fresh = 1; int *where(void) { return &fresh; }",
    ));
    let error = patch(&old, &new).expect_err("refused");
    assert!(
        matches!(&error, PatchError::ThreadLocal { name, .. } if name == "fresh"),
        "{error}"
    );
}

#[test]
fn constructors_are_refused() {
    if !compiler() {
        return;
    }
    let (old, new) = marked(
        "#include <stdio.h>\nint ready;\n\
         N:__attribute__((constructor)) static void prepare(void) { ready = 1; }\n\
         void show(void) { printf(\"%d\\n\", ready); }\n",
    );
    let error = patch(&old, &new).expect_err("refused");
    assert!(
        matches!(&error, PatchError::Constructor { what, .. } if what == "prepare"),
        "{error}"
    );
}

#[test]
fn equal_base_names_are_told_apart() {
    if !compiler() {
        return;
    }
    let file = |value: &str, name: &str| {
        format!(
            "static int state = 1; static int get(void) {{ return state++ + {value}; }} \
             int {name}(void) {{ return get(); }}"
        )
    };
    let work = "#include <stdio.h>\nint a(void), b(void);\n\
                void show(void) { printf(\"%d %d\\n\", a(), b()); }\n";
    let version = |value| {
        Version::compile(&[
            ("main.c", MAIN),
            ("work.c", work),
            ("one/same.c", &file("10", "a")),
            ("two/same.c", &file(value, "b")),
        ])
    };
    let (old, new) = (version("20"), version("70"));
    let patch = patch(&old, &new).expect("patch").patch;
    assert_eq!(redirected(&patch), ["get"]);
    assert_eq!(patch.redirects[0].function.file, "two/same.c");
    assert_eq!(old.run(&patch), "11 21\n12 72\n");
}

#[test]
fn a_transformer_reaches_both_versions() {
    if !compiler() {
        return;
    }
    let (old, new) = marked(
        r#"
#include <stdio.h>
O:static int sizes[2] = { 1, 2 };
N:static int sizes[3] = { 1, 2, 3 };
N:static int total;
static int hidden = 4;
static int set(void) { static int calls; return ++calls; }
O:void show(void) { sizes[0] = 50; printf("%d %d\n", sizes[0] + sizes[1], set() + hidden); }
N:void show(void) { printf("%d %d %d\n", total, sizes[2], set() + hidden); }
"#,
    );
    let folder = tempfile::tempdir().expect("folder");
    let source = folder.path().join("transform.c");
    std::fs::write(
        &source,
        r#"
#include <string.h>
#include "kairos_transform.h"
extern int hidden, set_calls;
int set(void);
void kairos_transform(void)
{
    int copy[2];
    memcpy(copy, kairos_old_sizes, sizeof copy);
    kairos_new_sizes[0] = copy[0];
    kairos_new_sizes[2] = (int)strlen("seven--");
    kairos_new_total = copy[0] + copy[1] + set() * 1000;
    hidden += 10;
    set_calls = 30;
}
"#,
    )
    .expect("write");
    let patch = patch_with(&old, &new, Some(&source)).expect("patch").patch;
    assert!(patch.transformer.is_some());
    assert_eq!(old.run(&patch), "52 5\n2052 7 45\n");
    std::fs::write(&source, "int nothing;\n").expect("write");
    let error = patch_with(&old, &new, Some(&source)).expect_err("refused");
    assert!(matches!(error, PatchError::NoTransform { .. }));
}

#[test]
fn the_controls_copy_or_break_functions() {
    if !compiler() {
        return;
    }
    let source = "#include <stdio.h>\nstatic int n;\nint value(void) { return ++n; }\n\
                  void show(void) { printf(\"%d\\n\", value()); }\n";
    let (old, _) = pair(source, source);
    let units = old.units();
    let build = Build {
        program: &old.program,
        units: &units,
        tree: old.tree(),
    };
    let control = build_control("control", &build, Selection::All, None).expect("control");
    assert!(
        control
            .patch
            .redirects
            .iter()
            .all(|r| r.reason == Reason::Control)
    );
    assert!(control.patch.redirects.len() >= 4 && control.patch.data.is_empty());
    assert_eq!(old.run(&control.patch), "1\n2\n");
    let broken = build_broken("broken", &build, "value", None).expect("broken");
    assert_eq!(redirected(&broken.patch), ["value"]);
    assert_eq!(old.run(&broken.patch), "1\n-1\n");
    let missing = build_broken("broken", &build, "absent", None).expect_err("refused");
    assert!(matches!(missing, PatchError::NoSuchFunction(_)));
}
