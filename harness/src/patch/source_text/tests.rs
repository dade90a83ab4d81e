//! Tests of the scanner, one trap of C each.

use super::SourceText;

/// The text of the function whose name is the first word `name` at or after the
/// place where `marker` stands in `source`; the marker itself is part of the name.
fn text_at(source: &str, needle: &str, name: &str) -> Option<String> {
    let at = source.find(needle).expect("the needle is in the source");
    let line = source[..at].matches('\n').count() as u64 + 1;
    let column = (at - source[..at].rfind('\n').map_or(0, |end| end + 1)) as u64 + 1;
    let text = SourceText::new(source.as_bytes()).function(name, line, column)?;
    Some(String::from_utf8(text).expect("the tests' sources are text"))
}

fn text(source: &str, name: &str) -> Option<String> {
    text_at(source, &format!("{name}("), name)
}

#[test]
fn comments_and_white_space_do_not_count() {
    let tidy = "int f(int a)\n{\n  return a + 1; // one more\n}\n";
    let dense =
        "/* before */ int f( int a ) {\n\treturn  a + 1 ;/* } */}\nint g(void) { return 2; }";
    assert_eq!(text(tidy, "f"), text(dense, "f"));
    assert_eq!(
        text(tidy, "f").as_deref(),
        Some("int f(int a){return a+1;}")
    );
}

#[test]
fn a_change_of_one_token_counts() {
    let old = "int f(int a) { return a - -1; }";
    for new in [
        "int f(int a) { return a --1; }",
        "int f(int a) { return a - -2; }",
        "long f(int a) { return a - -1; }",
        "static\nint f(int a) { return a - -1; }",
    ] {
        assert_ne!(text(old, "f"), text(new, "f"), "{new}");
    }
}

#[test]
fn text_begins_behind_what_comes_before() {
    let source = "int x;\nstruct s { int a; };\n#include <b.h>\nGLOBAL void\nf(void)\n{\n}\n";
    assert_eq!(text(source, "f").as_deref(), Some("GLOBAL void f(void){}"));
}

#[test]
fn braces_in_strings_characters_and_comments_are_text() {
    let source =
        "char *f(void) { /* { */ g('{', '\\'', \"}\\\"}\"); // {\n return \"// no {\"; }\nint h;";
    assert_eq!(
        text(source, "f").as_deref(),
        Some("char*f(void){g('{','\\'',\"}\\\"}\");return\"// no {\";}")
    );
}

#[test]
fn a_continued_directive_is_one_line() {
    let source = "int f(void) {\n#define OPEN {{{ \\\n  {{ /* }\n*/ {\n  return 1;\n}\nint g;";
    assert_eq!(
        text(source, "f").as_deref(),
        Some("int f(void){\n#define OPEN {{{ {{ {\nreturn 1;}")
    );
}

#[test]
fn branches_may_each_open_a_brace() {
    let source = "int f(int a) {\n#ifdef A\n if (a) {\n#else\n if (!a) {\n#endif\n  g();\n }\n return a;\n}\nint h(void) { return 0; }\n";
    let found = text(source, "f").expect("found");
    assert!(found.ends_with("return a;}"), "{found}");
    assert!(found.contains("if(!a){"), "both branches are text: {found}");
}

#[test]
fn a_brace_may_open_and_close_in_two_conditionals() {
    let source = "int f(int a) {\n#if X\n if (a)\n {\n#endif\n  g();\n#if X\n }\n#endif\n return a;\n}\nint h(void) { return 0; }\n";
    let found = text(source, "f").expect("found");
    assert!(found.ends_with("return a;}"), "{found}");
}

#[test]
fn a_dead_branch_may_hold_anything() {
    let source = "int f(int a) {\n#if 0\n don't } } {\n#else\n a++;\n#endif\n return a;\n}\nint h;";
    let found = text(source, "f").expect("found");
    assert!(found.ends_with("return a;}"), "{found}");
}

#[test]
fn each_branch_may_end_the_function() {
    let source = "int f(int a) {\n#ifdef A\n return 1;\n}\n#else\n return 2;\n}\n#endif\nint h;";
    let found = text(source, "f").expect("found");
    assert!(found.contains("return 2;"), "{found}");
    assert!(!found.contains("int h"), "{found}");
}

#[test]
fn a_function_may_have_two_heads() {
    let source =
        "#ifdef A\nint f(int a)\n#else\nint f(int a, int b)\n#endif\n{\n return a;\n}\nint h;";
    for head in ["f(int a)", "f(int a, int b)"] {
        let found = text_at(source, head, "f").expect("found");
        assert!(found.ends_with("return a;}"), "{found}");
    }
}

#[test]
fn only_the_last_branch_may_balance() {
    // Followed by its first branches, the brace never closes.
    let source = "int f(int a) {\n#ifdef A\n if (a) {\n#endif\n g();\n}\n";
    let found = text(source, "f").expect("found");
    assert!(found.ends_with("g();}"), "{found}");
}

#[test]
fn old_style_parameters_belong_to_the_function() {
    let source = "int f(a, b)\n int a;\n char *b;\n{ return a; }\nint h;";
    assert_eq!(
        text(source, "f").as_deref(),
        Some("int f(a,b)int a;char*b;{return a;}")
    );
}

#[test]
fn macros_that_make_functions_are_compared_by_their_invocation() {
    let source = "GETTER(one, 1)\nGETTER(two, 2);\nHANDLER(three) { return 3; }\nint PREFIX(four)(int a)\n{ return a; }\nLAST(five)";
    let invocation = |needle, name| text_at(source, needle, name);
    assert_eq!(
        invocation("GETTER(one", "one").as_deref(),
        Some("GETTER(one,1)")
    );
    assert_eq!(
        invocation("GETTER(two", "two").as_deref(),
        Some("GETTER(two,2);")
    );
    assert_eq!(
        invocation("HANDLER", "three").as_deref(),
        Some("HANDLER(three){return 3;}")
    );
    assert_eq!(
        invocation("PREFIX", "four").as_deref(),
        Some("int PREFIX(four)(int a){return a;}")
    );
    assert_eq!(invocation("LAST", "five").as_deref(), Some("LAST(five)"));
}

#[test]
fn what_a_macro_makes_before_a_function_is_not_its_text() {
    let source = "MAKE(one)\nMAKE(two, (2))\nstatic int ATTRIBUTE(1)\nf(void) { }\n__attribute__((cold))\nint g(void) { }";
    assert_eq!(
        text(source, "f").as_deref(),
        Some("static int ATTRIBUTE(1)f(void){}")
    );
    assert_eq!(
        text(source, "g").as_deref(),
        Some("__attribute__((cold))int g(void){}")
    );
}

#[test]
fn two_functions_on_one_line_are_told_apart_by_column() {
    let source = "int f(void) { return g(); } int g(void) { return 2; }";
    assert_eq!(
        text_at(source, "g(void)", "g").as_deref(),
        Some("int g(void){return 2;}")
    );
}

#[test]
fn what_is_not_there_is_not_found() {
    assert_eq!(text("int f(void) {", "f"), None, "never closed");
    assert_eq!(
        text("int f(void) BEGIN return 1; }", "f"),
        None,
        "opened by a macro"
    );
    assert_eq!(SourceText::new(b"int f(void) {}").function("f", 7, 1), None);
    assert_eq!(SourceText::new(b"").function("f", 1, 0), None);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_cut_without_panic(bytes: Vec<u8>, line in 1_u64..6, column in 0_u64..9) {
        let _ = SourceText::new(&bytes).function("f", line, column);
    }

    #[test]
    fn any_c_like_text_is_cut_without_panic(
        text in r##"([#{}()'"\\;/*f]|#if 0|#if|#else|#endif|\n){0,60}"##,
        line in 1_u64..6,
    ) {
        let _ = SourceText::new(text.as_bytes()).function("f", line, 0);
    }
}
