//! Concrete uses of what an update changes, and which of them can follow a
//! return address: tiny C functions, each with one kind of use.

mod patch_support;

use kairos::binary::{Address, Program};
use kairos::change::Changes;
use kairos::confree::{self, Finder, Use, UseKind, UseTable};
use patch_support::{Version, compiler, sides};

const MAIN: &str = "void show(void); int main(void) { show(); return 0; }\n";

/// What the old version uses of what a member that is put in front of `struct T`
/// changes, and the old program.
struct Uses {
    table: UseTable,
    program: Program,
}

fn marked(source: &str) -> Uses {
    let [old, new] = sides(source);
    let compile =
        |text: &str| Version::compile(&[("main.c", MAIN), ("t.h", HEADER), ("work.c", text)]);
    let old = compile(&old);
    let new = compile(&new);
    let (before, after) = (old.open(), new.open());
    let changes = Changes::between(before.types(), after.types());
    let table = confree::uses(&old.built(), &changes).expect("uses");
    Uses {
        table,
        program: before,
    }
}

const HEADER: &str = "#include <stddef.h>\nextern void ext(void *);\n";

impl Uses {
    /// Whether libclang was there; says so when not.
    fn has_syntax(&self) -> bool {
        let found = self.table.finders.len() == 3;
        if !found {
            eprintln!("without libclang: only what padding and references show is checked");
        }
        found
    }

    fn entry(&self, function: &str) -> Address {
        let mut named = self.program.functions_named(function);
        named.next().unwrap_or_else(|| panic!("{function}")).entry
    }

    fn of(&self, function: &str) -> Vec<&Use> {
        self.table.of_function(self.entry(function)).collect()
    }

    fn kinds(&self, function: &str) -> Vec<UseKind> {
        self.of(function).iter().map(|what| what.kind).collect()
    }

    /// Numbers of uses that can follow each of the function's calls, in order.
    fn after_calls(&self, function: &str) -> Vec<usize> {
        let entry = self.entry(function);
        let listed = &self.table.functions[&entry];
        listed
            .sites
            .keys()
            .map(|site| self.table.after(entry, *site).count())
            .collect()
    }
}

/// `struct T` gains a member in front; one function for each kind of use.
const KINDS: &str = r#"
#include "t.h"
struct T {
N: long front;
 long first; int a; char *s; struct { int in; } sub; union { int u1; float u2; } u;
 int list[4]; unsigned bits : 3; };
struct E { int k; struct T t; };
O:union either { int x; char y; };
N:union either { int x; char y; long z; };
O:enum level { LOW, HIGH };
N:enum level { NONE, LOW, HIGH };
O:static int counter;
N:static long counter;
O:int proto(int x) { return x; }
N:int proto(long x) { return (int)x; }
O:int gone(void) { return 4; }
void ext(void *p) { (void)p; }
int member(struct T *p) { return p->a; }
int nested(struct T *p) { return p->sub.in; }
int in_union(struct T *p) { return p->u.u1; }
int by_bits(struct T *p) { return p->bits; }
size_t size_of(void) { return sizeof(struct T); }
size_t offset_of(void) { return offsetof(struct T, s); }
struct T *step(struct T *p) { return p + 1; }
long difference(struct T *p, struct T *q) { return p - q; }
void copy(struct T *p, struct T *q) { *p = *q; }
int embedded(struct E *e) { return e->t.a; }
int cast(void *v) { return ((struct T *)v)->a; }
int only_pointer(struct T *p) { ext(p); return p != 0; }
int literal(struct T *p) { return *(int *)((char *)p + offsetof(struct T, a)); }
int union_member(union either *e) { return e->x; }
int named_enumerator(void) { return HIGH; }
int by_global(void) { return (int)++counter; }
int calls_changed(void) { return proto(3); }
int calls_gone(void) {
O: return gone();
N: return 4;
}
int through_pointer(int (*f)(int)) { return f(1); }
void local(void) { struct T t; ext(&t); ext(0); }
int nothing(int x) { ext(0); return x + 1; }
struct T *volatile one; union either *volatile two; struct E *volatile three;
void show(void) { if (one) { member(one); nested(one); in_union(one); by_bits(one); step(one);
 difference(one, one); copy(one, one); embedded(three); cast(one); only_pointer(one); literal(one);
 union_member(two); local(); through_pointer(0); } size_of(); offset_of(); named_enumerator();
 by_global(); calls_changed(); calls_gone(); nothing(1); }
"#;

#[test]
fn each_kind_of_use_is_found_and_passing_a_pointer_on_is_none() {
    if !compiler() {
        return;
    }
    let uses = marked(KINDS);
    // What the machine code shows needs no syntax tree.
    for function in [
        "member",
        "nested",
        "in_union",
        "by_bits",
        "size_of",
        "offset_of",
        "step",
        "difference",
        "copy",
        "embedded",
        "cast",
        "literal",
        "local",
        "by_global",
        "calls_changed",
        "calls_gone",
    ] {
        assert!(!uses.of(function).is_empty(), "{function}");
    }
    for function in ["only_pointer", "nothing"] {
        assert!(uses.of(function).is_empty(), "{:?}", uses.of(function));
        assert!(uses.table.unknown(uses.entry(function)).is_none());
    }
    let named = uses.of("member");
    assert!(
        named
            .iter()
            .all(|what| what.name == "struct T" && what.line > 0)
    );
    if !uses.has_syntax() {
        return;
    }
    for (function, kind) in [
        ("member", UseKind::Member),
        ("nested", UseKind::Member),
        ("in_union", UseKind::Member),
        ("union_member", UseKind::Member),
        ("size_of", UseKind::Size),
        ("offset_of", UseKind::Size),
        ("step", UseKind::Arithmetic),
        ("difference", UseKind::Arithmetic),
        ("copy", UseKind::Value),
        ("local", UseKind::Declaration),
        ("named_enumerator", UseKind::Enumerator),
        ("by_global", UseKind::Global),
        ("calls_changed", UseKind::Function),
        ("calls_gone", UseKind::Function),
        ("through_pointer", UseKind::IndirectCall),
    ] {
        let kinds = uses.kinds(function);
        assert!(kinds.contains(&kind), "{function}: {kinds:?}");
    }
    let member = uses.of("member");
    assert!(
        member
            .iter()
            .any(|what| what.member.as_deref() == Some("a") && what.by_member)
    );
}

/// Which uses can follow a call.
const FLOW: &str = r#"
#include "t.h"
struct T {
N: long front;
 long first; int a; int b; };
void ext(void *p) { (void)p; }
int before(struct T *p) {
 int a = p->a;
 ext(0);
 return a;
}
int behind(struct T *p) {
 ext(0);
 return p->a;
}
int around(struct T *p) {
 while (p->a) {
  ext(0);
 }
 return 0;
}
void argument(struct T *p) {
 ext((void *)(long)p->a);
}
void twice(struct T *p, struct T *q) {
 ext((void *)(long)p->a); ext((void *)(long)q->b);
}
int choose(struct T *p, int x) {
 ext(0);
 switch (x) {
 case 0: ext(p); return 1;
 case 1: ext(0); return 2;
 case 2: ext(p); return 4;
 case 3: ext(0); return 5;
 case 4: ext(0); return p->a;
 case 5: ext(p); return 7;
 default: return 9;
 }
}
int inner(struct T *p) {
 int *kept = &p->a;
 ext(0);
 return *kept;
}
struct T *volatile one;
void show(void) { if (one) { before(one); behind(one); around(one); argument(one); twice(one, one);
 choose(one, 3); inner(one); } }
"#;

#[test]
fn only_uses_that_can_follow_count() {
    if !compiler() {
        return;
    }
    let uses = marked(FLOW);
    assert_eq!(uses.after_calls("before"), [0]);
    assert!(uses.after_calls("behind")[0] > 0);
    assert!(uses.after_calls("around")[0] > 0);
    assert_eq!(uses.after_calls("argument"), [0], "the argument is passed");
    // The first `ext` leads to the switch, the last `return p->a` to no call.
    let choose = uses.after_calls("choose");
    assert!(choose[0] > 0, "{choose:?}");
    assert_eq!(
        choose.iter().filter(|count| **count > 0).count(),
        2,
        "{choose:?}"
    );
    let twice = uses.after_calls("twice");
    assert!(twice[0] > 0, "{twice:?}");
    if uses.has_syntax() {
        assert!(
            uses.after_calls("inner")[0] > 0,
            "a pointer into the record is kept"
        );
    }
}

#[test]
fn a_kept_pointer_to_a_member_that_did_not_change_matters_to_types_alone() {
    if !compiler() {
        return;
    }
    let uses = marked(
        "#include \"t.h\"\nstruct T { long first; int list[2];\nN: long added;\n int a; };\n\
         void ext(void *p) { (void)p; }\n\
         long stays(struct T *p) { long *kept = &p->first; ext(0); return *kept; }\n\
         int stays_too(struct T *p) { int *kept = p->list; ext(0); return kept[1]; }\n\
         int moves(struct T *p) { int *kept = &p->a; ext(0); return *kept; }\n\
         int element(struct T *p) { struct T *kept = &p[2]; ext(0); return kept != 0; }\n\
         struct T *volatile one;\n\
         void show(void) { if (one) { stays(one); stays_too(one); moves(one); element(one); } }\n",
    );
    if !uses.has_syntax() {
        return;
    }
    for (function, by_member) in [
        ("stays", false),
        ("stays_too", false),
        ("moves", true),
        ("element", true),
    ] {
        let entry = uses.entry(function);
        let sites: Vec<Address> = uses.table.functions[&entry].sites.keys().copied().collect();
        let [site] = sites[..] else {
            panic!("{function}: {sites:?}")
        };
        let mut after = uses.table.after(entry, site).peekable();
        assert!(after.peek().is_some(), "{function}");
        assert_eq!(after.any(|what| what.by_member), by_member, "{function}");
    }
}

#[test]
fn the_syntax_tree_covers_what_padding_shows() {
    if !compiler() {
        return;
    }
    for source in [KINDS, FLOW] {
        let mut uses = marked(source);
        if !uses.has_syntax() {
            return;
        }
        // `literal` has the offset as a constant of its own making.
        assert_eq!(uses.table.uncovered(), []);
        // The check can fail: blind the syntax tree.
        for what in &mut uses.table.uses {
            if what.finder == Finder::Syntax && what.kind != UseKind::Interior {
                what.finder = Finder::Padding;
            }
        }
        assert!(!uses.table.uncovered().is_empty());
    }
}

#[test]
fn a_unit_that_cannot_be_parsed_refuses_all_its_functions() {
    if !compiler() {
        return;
    }
    // Functions within functions are gcc's alone.
    let uses = marked(
        "#include \"t.h\"\nstruct T {\nN: long front;\n int a; };\nvoid ext(void *p) { (void)p; }\n\
         struct T *volatile one;\nint other(int x) { int in(int y) { return x + y; } return in(2); }\n\
         void show(void) { if (one) one->a = other(1); }\n",
    );
    if !uses.has_syntax() {
        return;
    }
    for function in ["other", "show", "ext"] {
        let why = uses.table.unknown(uses.entry(function));
        assert!(
            why.is_some_and(|why| why.contains("work.c")),
            "{function}: {why:?}"
        );
    }
    assert!(uses.table.unknown(uses.entry("main")).is_none());
    assert!(uses.table.gaps.iter().any(|gap| gap.contains("work.c")));
}
