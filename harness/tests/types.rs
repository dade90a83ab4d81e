//! Which types, prototypes and globals an update changes: each kind of change in
//! a tiny C pair, compiled by the real compiler.

mod patch_support;

use kairos::change::layout::{self, Fate};
use kairos::change::{Changes, HowGlobal, HowRecord};
use patch_support::{Version, compiler, sides};

const MAIN: &str = "void show(void); int main(void) { show(); return 0; }\n";

/// The changes between two sets of files, beside a `main` that calls `show`.
fn changes(old: &[(&str, &str)], new: &[(&str, &str)]) -> Changes {
    let compile = |files: &[(&str, &str)]| {
        let whole: Vec<_> = [("main.c", MAIN)].iter().chain(files).copied().collect();
        Version::compile(&whole).open()
    };
    Changes::between(compile(old).types(), compile(new).types())
}

fn marked(source: &str) -> Changes {
    let [old, new] = sides(source);
    changes(&[("work.c", &old)], &[("work.c", &new)])
}

fn how<'a>(changes: &'a Changes, name: &str) -> &'a HowRecord {
    let record = changes.records.iter().find(|record| record.name == name);
    &record
        .unwrap_or_else(|| panic!("{name} is not among {:?}", changes.type_names()))
        .how
}

fn members(changes: &Changes, name: &str) -> Vec<String> {
    let record = changes.records.iter().find(|record| record.name == name);
    record
        .expect("changed record")
        .members
        .iter()
        .cloned()
        .collect()
}

#[test]
fn equal_sources_change_nothing_however_they_move() {
    if !compiler() {
        return;
    }
    let changes = marked(
        "N:\nN:\nstruct s { int a; struct s *next; };\nenum e { A, B };\n\
         typedef struct { char c[3]; } t;\nstatic struct s one; t two;\n\
         static int f(struct s *s, enum e e) { return s->a + (int)e; }\n\
         void show(void) { static int calls; calls += f(&one, B) + two.c[0]; }\n",
    );
    assert!(changes.is_empty(), "{changes:?}");
    assert!(changes.typedefs.is_empty());
}

#[test]
fn a_member_that_moves_in_a_record_of_equal_size_is_a_change() {
    if !compiler() {
        return;
    }
    let changes = marked(
        "O:struct s { int a; int b; long c; };\nN:struct s { int b; int a; long c; };\n\
         struct s *volatile p;\nvoid show(void) { if (p) p->a = p->b; }\n",
    );
    assert_eq!(changes.type_names(), ["struct s"]);
    assert_eq!(*how(&changes, "struct s"), HowRecord::Layout);
    assert_eq!(members(&changes, "struct s"), ["a", "b"]);
    assert!(!changes.records[0].resized);
    let rows = layout::rows(&changes.records[0]);
    let fates: Vec<_> = rows
        .iter()
        .map(|row| (row.name.as_str(), row.fate))
        .collect();
    assert_eq!(
        fates,
        [("b", Fate::Moved), ("a", Fate::Moved), ("c", Fate::Same)]
    );
    let a = rows[1].old.as_ref().expect("old place");
    assert_eq!((a.offset, a.size, a.kind.as_str()), (0, 4, "int"));
}

#[test]
fn typedefs_are_seen_through_and_pointers_compare_by_name() {
    if !compiler() {
        return;
    }
    let changes = marked(
        "O:typedef struct { int a; } inner;\nN:typedef struct { int a; int b; } inner;\n\
         typedef inner alias;\nO:typedef int number;\nN:typedef long number;\n\
         struct holder { alias in; int rest; };\nstruct pointer { alias *to; };\n\
         struct counted { number n; };\nstruct holder h; struct pointer p; struct counted c;\n\
         int take(alias *x, number n) { return x->a + (int)n; }\n\
         void show(void) { take(p.to, c.n + h.rest); }\n",
    );
    assert_eq!(
        changes.type_names(),
        ["inner", "struct counted", "struct holder"]
    );
    assert_eq!(members(&changes, "struct holder"), ["in", "rest"]);
    assert_eq!(*how(&changes, "struct counted"), HowRecord::Layout);
    assert_eq!(changes.typedefs.len(), 1);
    assert_eq!(changes.typedefs[0].name, "number");
    let mut names: Vec<_> = changes.globals.iter().map(|g| g.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["c", "h"], "p holds only a pointer");
    assert_eq!(changes.prototypes.len(), 1, "a parameter's typedef changed");
}

#[test]
fn bounds_and_enumerators_that_fill_their_byte_are_not_negative() {
    if !compiler() {
        return;
    }
    let changes = marked(
        "O:enum e { A = 200, B = -3 };\nN:enum e { A = 201, B = -3 };\nenum e x;\n\
         O:char list[168], long_list[40000];\nN:char list[174], long_list[40001];\n\
         void show(void) { list[1] = long_list[2] + (char)x; }\n",
    );
    let shown: Vec<_> = changes
        .globals
        .iter()
        .map(|global| format!("{} {:?}", global.name, global.how))
        .collect();
    let shown = shown.join("\n");
    for length in ["[168]", "[174]", "[40000]", "[40001]"] {
        assert!(shown.contains(length), "{shown}");
    }
    let values = format!("{:?}", changes.enums);
    assert!(values.contains("200") && values.contains("201"), "{values}");
    assert!(!values.contains("-56"), "{values}");
}

#[test]
fn embedding_is_followed_through_arrays_and_records() {
    if !compiler() {
        return;
    }
    let changes = marked(
        "O:struct in { int a; };\nN:struct in { int a; int b; };\n\
         struct middle { char c; struct in list[2][3]; };\nstruct out { struct middle m; };\n\
         struct out all[4]; struct out *some;\nvoid show(void) { some = all + 1; }\n",
    );
    assert_eq!(
        changes.type_names(),
        ["struct in", "struct middle", "struct out"]
    );
    assert!(changes.records.iter().all(|record| record.resized));
    assert_eq!(members(&changes, "struct middle"), ["list"]);
    assert_eq!(members(&changes, "struct out"), ["m"]);
    let globals: Vec<_> = changes.globals.iter().map(|g| g.name.as_str()).collect();
    assert_eq!(globals, ["all"]);
    assert!(matches!(changes.globals[0].how, HowGlobal::Embeds(_)));
}

#[test]
fn records_of_one_name_in_two_files_are_told_apart() {
    if !compiler() {
        return;
    }
    let one = "struct s { int a; };\nstruct box_one { struct s in; };\n\
               static struct s mine; struct box_one one;\nvoid show(void) { mine.a++; }\n";
    let two = "struct s { long a; long b; };\nstruct box_two { struct s in; };\n\
               static struct s mine; struct box_two two;\nvoid more(void) { mine.b++; }\n";
    let new_two = two.replace("long b;", "long b; long c;");
    let changes = changes(
        &[("one.c", one), ("two.c", two)],
        &[("one.c", one), ("two.c", &new_two)],
    );
    assert_eq!(changes.type_names(), ["struct box_two", "struct s (two.c)"]);
    let globals: Vec<_> = changes
        .globals
        .iter()
        .map(|g| (g.name.as_str(), g.file.as_str()))
        .collect();
    assert!(globals.contains(&("mine", "two.c")) && globals.contains(&("two", "two.c")));
    assert_eq!(globals.len(), 2);
}

#[test]
fn members_of_nameless_unions_have_places_of_their_own() {
    if !compiler() {
        return;
    }
    let changes = marked(
        "struct s { int kind;\n union {\n  int number;\nO:  float real;\nN:  double real;\n };\n\
         struct { char low; char high; } pair; };\n\
         struct s *volatile p;\nvoid show(void) { if (p) p->number = p->pair.low; }\n",
    );
    assert_eq!(changes.type_names(), ["struct s"]);
    let rows = layout::rows(&changes.records[0]);
    let fate = |name: &str| rows.iter().find(|row| row.name == name).map(|row| row.fate);
    assert_eq!(fate("real"), Some(Fate::Retyped));
    assert_eq!(fate("number"), Some(Fate::Moved), "double is aligned to 8");
    assert_eq!(fate("pair.high"), Some(Fate::Moved));
    assert_eq!(fate("kind"), Some(Fate::Same));
}

#[test]
fn the_width_of_a_bit_field_is_part_of_the_layout() {
    if !compiler() {
        return;
    }
    let changes = marked(
        "O:struct s { unsigned a : 3; unsigned b : 5; };\n\
         N:struct s { unsigned a : 4; unsigned b : 4; };\n\
         struct s *volatile p;\nvoid show(void) { if (p) p->a = p->b; }\n",
    );
    assert_eq!(members(&changes, "struct s"), ["a", "b"]);
    assert!(!changes.records[0].resized);
    let rows = layout::rows(&changes.records[0]);
    assert_eq!(
        rows[0].old.as_ref().and_then(|place| place.bits),
        Some((0, 3))
    );
    assert_eq!(
        rows[1].new.as_ref().and_then(|place| place.bits),
        Some((4, 4))
    );
}

#[test]
fn an_enumerator_may_be_added_but_not_renumbered_or_taken_away() {
    if !compiler() {
        return;
    }
    let added = marked(
        "O:enum e { A, B };\nN:enum e { A, B, C };\nO:enum { X = 1 };\nN:enum { X = 1, Y };\n\
         struct s { enum e e; } one;\nvoid show(void) { one.e = B + X - 1; }\n",
    );
    assert!(added.is_empty(), "{added:?}");
    let renumbered = marked(
        "O:enum e { A, B, C };\nN:enum e { N, A, B };\nenum e one;\n\
         void show(void) { one = B; }\n",
    );
    assert_eq!(renumbered.type_names(), ["enum e"]);
    let names: Vec<_> = renumbered.enums[0]
        .enumerators
        .iter()
        .map(|e| (e.name.as_str(), e.old, e.new))
        .collect();
    assert_eq!(
        names,
        [("A", 0, Some(1)), ("B", 1, Some(2)), ("C", 2, None)]
    );
}

#[test]
fn a_function_pointer_member_has_the_prototype_in_its_type() {
    if !compiler() {
        return;
    }
    let changes = marked(
        "O:struct ops { int (*go)(int); };\nN:struct ops { int (*go)(int, long); };\n\
         struct ops *volatile p;\nvoid show(void) { if (p) p->go = 0; }\n",
    );
    assert_eq!(members(&changes, "struct ops"), ["go"]);
    assert!(!changes.records[0].resized);
}

#[test]
fn a_prototype_changes_with_its_types_or_with_a_record_by_value() {
    if !compiler() {
        return;
    }
    let changes = marked(
        "O:struct s { int a; };\nN:struct s { int a; int b; };\n\
         int by_value(struct s s) { return s.a; }\nint by_pointer(struct s *s) { return s->a; }\n\
         O:int typed(int x) { return x; }\nN:int typed(long x) { return (int)x; }\n\
         O:int named(int x) { return x; }\nN:int named(int y) { return y; }\n\
         O:static int gone(void) { return 3; }\n\
         void show(void) { struct s s = { 1 }; by_value(s); by_pointer(&s); typed(1); named(2);\n\
         O:gone();\n}\n",
    );
    let mut names: Vec<_> = changes
        .prototypes
        .iter()
        .map(|changed| changed.function.name.as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["by_value", "typed"]);
    let deleted: Vec<_> = changes
        .deleted
        .iter()
        .map(|deleted| deleted.function.name.as_str())
        .collect();
    assert_eq!(deleted, ["gone"]);
}

#[test]
fn statics_of_functions_are_globals_and_a_new_initialiser_is_no_change() {
    if !compiler() {
        return;
    }
    let changes = marked(
        "O:static int level = 1;\nN:static int level = 2;\n\
         static int f(void) {\nO: static int count; return ++count;\n\
         N: static long count; return (int)++count;\n}\n\
         static int g(void) { static int count; return ++count; }\n\
         O:int dropped = 4;\n\
         void show(void) { level += f() + g();\nO: dropped++;\n}\n",
    );
    let globals: Vec<_> = changes
        .globals
        .iter()
        .map(|g| (g.name.as_str(), &g.how))
        .collect();
    assert_eq!(globals.len(), 2, "{globals:?}");
    assert!(globals.iter().any(|(name, how)| *name == "f.count"
        && matches!(how, HowGlobal::Type { old, new } if old == "int" && new == "long int")));
    assert!(globals.contains(&("dropped", &HowGlobal::Deleted)));
}

/// Two parameters of one type change places: nothing but their names says so.
#[test]
fn parameters_with_other_names_are_told_apart_from_other_types() {
    if !compiler() {
        return;
    }
    let changes = marked(
        "O:int f(int width, int height) { return width - height; }\n\
         N:int f(int height, int width) { return width - height; }\n\
         O:int g(int count) { return count; }\nN:int g(long total) { return (int)total; }\n\
         int h(int same) { return same; }\n\
         void show(void) { h(f(1, 2) + g(3)); }\n",
    );
    let named = |name: &str| name.to_owned();
    let renamed = changes.renamed.iter().map(|of| named(&of.function.name));
    let others = changes.prototypes.iter().map(|of| named(&of.function.name));
    assert_eq!(renamed.collect::<Vec<_>>(), ["f"]);
    assert_eq!(others.collect::<Vec<_>>(), ["g"]);
    let spelled = &changes.renamed[0];
    assert_eq!(spelled.old, "int (int width, int height)");
    assert_eq!(spelled.new, "int (int height, int width)");
    assert!(changes.concern_mechanisms());
    assert!(!changes.is_empty(), "g's prototype is a change");
}
