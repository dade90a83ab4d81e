//! Rewriting of nasty C. What comes out is compiled, with assertions about places.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::{Item, Plan, RecordPlan, RewriteError, rewrite};
use crate::binary::dwarf::TypeKey;

const GAP: fn(u64, u64) -> Item = |at, bits| Item::Gap { at, bits };

fn planned(tag: &str, name: &str, items: &[Item]) -> RecordPlan {
    RecordPlan {
        key: TypeKey {
            tag: tag.to_owned(),
            name: name.to_owned(),
            file: "a.h".to_owned(),
        },
        items: items.to_vec(),
        aligned: None,
    }
}

fn members(order: &[usize]) -> Vec<Item> {
    order.iter().map(|number| Item::Member(*number)).collect()
}

/// The text, which lies in `a.h`, with these records rewritten.
fn rewritten(text: &str, records: &[RecordPlan]) -> Result<Option<String>, RewriteError> {
    let plan = Plan {
        records: records.to_vec(),
    };
    rewrite(&format!("# 1 \"a.h\" 1\n{text}"), &plan, &str::to_owned)
}

/// Rewrites, and has the compiler judge the assertions in the text.
fn holds(text: &str, records: &[RecordPlan]) -> String {
    let text = rewritten(text, records).unwrap().unwrap();
    let mut compiler = Command::new("gcc")
        .args(["-fpreprocessed", "-x", "cpp-output", "-Werror", "-Wall"])
        .args(["-Wno-unused", "-S", "-o", "/dev/null", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = compiler.stdin.take().unwrap();
    input.write_all(text.as_bytes()).unwrap();
    drop(input);
    let output = compiler.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}\n{text}");
    text
}

fn at(record: &str, member: &str, offset: u64) -> String {
    format!("_Static_assert(__builtin_offsetof({record}, {member}) == {offset}, \"{member}\");\n")
}

fn size(record: &str, bytes: u64) -> String {
    format!("_Static_assert(sizeof({record}) == {bytes}, \"size of {record}\");\n")
}

#[test]
fn a_unit_without_planned_records_stays_as_it_is() {
    let text = "struct other { int x; }; struct x; struct x *p; const char *s = \"struct x {\";\n";
    let plan = [planned("struct", "x", &members(&[1, 0]))];
    assert_eq!(rewritten(text, &plan), Ok(None));
    // The same name in another file is another record.
    let text = "# 3 \"b.h\"\nstruct x { int a, b; };\n";
    assert_eq!(rewritten(text, &plan), Ok(None));
}

#[test]
fn padding_at_the_end_moves_nothing_and_no_line() {
    let text = "struct x {\n  int a;\n  char b;\n};\nint after;\n".to_owned()
        + &at("struct x", "b", 4)
        + &size("struct x", 24);
    let mut items = members(&[0, 1]);
    items.push(GAP(40, 152));
    let text = holds(&text, &[planned("struct", "x", &items)]);
    assert_eq!(text.lines().nth(5), Some("int after;"));
}

#[test]
fn members_of_every_form_are_taken_apart_and_reordered() {
    let text = "\
typedef unsigned int word;
enum color { RED };
struct x {
    unsigned first : 3, : 2, second : 4;
    word : 7;
    word plain, *pointer, array[3][2];
    int (*call)(int, char *(*)(void)), (*table[4])(void);
    struct { int in, other; } nested;
    union { long wide; char bytes[8]; };
    enum color { } __attribute__((unused));
    const struct x *const next __attribute__((aligned(8)));
    enum color shade; _Static_assert(sizeof(int) == 4, \"a;b}\");
    __typeof__(1 + 2) made;
    long long unsigned int big;
};
"
    .replace("    enum color { } __attribute__((unused));\n", "");
    let text = text
        + &at("struct x", "big", 0)
        + &at("struct x", "made", 8)
        + &at("struct x", "shade", 12)
        + &at("struct x", "next", 16)
        + &at("struct x", "wide", 24)
        + &at("struct x", "nested.other", 36)
        + &at("struct x", "table", 40)
        + &at("struct x", "call", 72)
        + &at("struct x", "array[2][1]", 100)
        + &at("struct x", "pointer", 104)
        + &at("struct x", "plain", 112);
    let order: Vec<usize> = (0..13).rev().collect();
    holds(&text, &[planned("struct", "x", &members(&order))]);
}

#[test]
fn bit_fields_keep_their_bits_around_a_gap() {
    let text = "\
struct x { unsigned a : 3, c : 5; char d; };
int probe(void) { struct x v = { 0 }; v.c = 31; return ((unsigned char *)&v)[1]; }
_Static_assert(sizeof(struct x) == 12, \"size\");
";
    // `a`, five bits that went, `c` in the second byte, `d` in the eighth.
    let mut items = vec![Item::Member(0), GAP(3, 7), Item::Member(1), GAP(15, 49)];
    items.extend([Item::Member(2), GAP(72, 24)]);
    holds(text, &[planned("struct", "x", &items)]);
}

#[test]
fn gaps_take_no_alignment_and_what_is_asked_for_is_given() {
    let text = "struct x { char c; short s; };\n".to_owned()
        + &at("struct x", "s", 16)
        + &size("struct x", 24)
        + "_Static_assert(_Alignof(struct x) == 8, \"alignment\");\n";
    let mut plan = planned(
        "struct",
        "x",
        &[Item::Member(0), GAP(8, 120), Item::Member(1)],
    );
    plan.aligned = Some(8);
    holds(&text, &[plan]);
}

#[test]
fn unions_grow_by_a_member_that_no_initialiser_sees() {
    let text =
        "union u { char *s; int i; };\nunion u v = { \"a\" };\n".to_owned() + &size("union u", 24);
    let mut items = members(&[0, 1]);
    items.push(Item::Bytes(24));
    holds(&text, &[planned("union", "u", &items)]);
}

#[test]
fn a_planned_record_in_another_is_rewritten_too() {
    let text =
        "struct outer { struct inner { int a; char b; } in; struct inner more[2]; int c; };\n"
            .to_owned()
            + &at("struct inner", "a", 4)
            + &at("struct outer", "in.b", 4)
            + &at("struct outer", "more[1].a", 24)
            + &size("struct outer", 28);
    let outer = planned("struct", "outer", &members(&[2, 0, 1]));
    let inner = planned("struct", "inner", &members(&[1, 0]));
    holds(&text, &[outer, inner]);
}

#[test]
fn lines_behind_a_reordered_record_keep_their_numbers_and_files() {
    let text = "struct x {\n  int a;\n# 7 \"a.h\"\n  char b;\n} one;\nint two;\n";
    let plan = [planned("struct", "x", &members(&[1, 0]))];
    let text = rewritten(text, &plan).unwrap().unwrap();
    let tokens = super::tokens::Tokens::of(&text);
    let line = |name: &str| {
        let token = tokens.list.iter().find(|token| token.text == name);
        tokens.line(token.unwrap().start)
    };
    assert_eq!((line("one"), line("two")), (8, 9));
}

#[test]
fn positional_initialisers_become_designated() {
    let text = "\
typedef struct x { int a; char name[4]; struct in { int p, q; } in[2]; void (*f)(void); } x_t;
struct outer { int before; x_t x; x_t *pointer; };
void go(void);
static const struct x one = { 1, \"abc\", { { 2, 3 }, { 4, 5 } }, go }, *p = &one;
x_t many[] = { { 1, \"b\" }, [3] = { .in = { { 6 } }, go }, { 0 }, { f : go } }, *q = many;
struct outer outer = { 7, { 8, \"c\" }, many };
struct outer deep[2] = { [1].x = { 9 }, [0] = { .x.in = { { 1, 2 } }, 0 } };
int use(x_t x) { return x.a; }
int call(int n) {
    if (n) { struct x local = { n, { 'x' } }; return use(local); }
    for (struct x i = { 0, \"z\" }; i.a < 3; i.a++) n++;
    return use((x_t){ n, \"lit\" }) + ((struct x[]){ { 4 } })[0].a;
}
";
    let plan = [planned("struct", "x", &members(&[3, 1, 2, 0]))];
    let text = holds(text, &plan);
    for expected in [
        "one = { .a = 1, .name = \"abc\", .in = { { 2, 3 }, { 4, 5 } }, .f = go }, *p",
        "{ { .a = 1, .name = \"b\" }, [3] = { .in = { { 6 } }, .f = go }, { 0 }, { f : go } }",
        "outer = { 7, { .a = 8, .name = \"c\" }, many };",
        "{ [1].x = { .a = 9 }, [0] = { .x.in = { { 1, 2 } }, 0 } };",
        "local = { .a = n, .name = { 'x' } };",
        "i = { .a = 0, .name = \"z\" };",
        "use((x_t){ .a = n, .name = \"lit\" }) + ((struct x[]){ { .a = 4 } })[0].a;",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn what_cannot_be_told_is_refused_with_its_place() {
    let plan = [planned("struct", "x", &members(&[1, 0]))];
    let refused = |text: &str| rewritten(text, &plan).unwrap_err().to_string();
    let record = "struct x { int a; struct { int p, q; } in; };\n";
    assert_eq!(
        refused(&format!("{record}struct x v = {{ 1, 2, 3 }};\n")),
        "a.h:2: struct x: an initialiser leaves out braces"
    );
    assert_eq!(
        refused(&format!("{record}\nstruct x v[] = {{ 1, {{ 2 }}, 3 }};\n")),
        "a.h:3: struct x: an initialiser leaves out braces"
    );
    assert_eq!(
        refused("struct x { int a; union { int b; }; };\nstruct x v = { 1, { 2 } };\n"),
        "a.h:2: struct x: a nameless member is initialised by position"
    );
    assert_eq!(
        refused("struct x { struct { int i; } a, b; };\n"),
        "a.h:1: struct x: `b` is declared together with others after a definition"
    );
    assert_eq!(
        refused("struct x { int a; };\n"),
        "a.h:1: struct x: the text has 1 members, the debug information 2"
    );
}
