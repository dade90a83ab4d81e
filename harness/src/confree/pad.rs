//! Puts unnamed bit-fields at the front of chosen structs in preprocessed C, so
//! that all their members move. Unnamed bit-fields are no members: positional
//! initialisers keep their meaning.

use crate::rewrite::definition::{Definition, definitions};
use crate::rewrite::tokens::Tokens;

/// The text with a pad of `words(definition)` eight-byte units in each struct
/// definition that has one, and how many have.
pub(super) fn insert(
    text: &str,
    mut words: impl FnMut(&Definition) -> Option<usize>,
) -> (String, usize) {
    let tokens = Tokens::of(text);
    let mut padded = String::with_capacity(text.len() + 4096);
    let (mut done, mut count) = (0, 0);
    for definition in definitions(&tokens) {
        let Some(words) = words(&definition).filter(|_| !definition.is_union) else {
            continue;
        };
        let at = tokens.list[definition.open].end();
        padded.push_str(&text[done..at]);
        padded.push_str(&"unsigned long :64;".repeat(words));
        done = at;
        count += 1;
    }
    padded.push_str(&text[done..]);
    (padded, count)
}

#[cfg(test)]
mod tests {
    use super::insert;

    #[test]
    fn a_pad_goes_to_the_front_of_the_struct_that_is_meant() {
        let text =
            "typedef struct {\n struct { int x; } in; } two, *twos;\nunion two { int a; };\n";
        let (padded, count) = insert(text, |d| (d.name == "two").then_some(2));
        assert_eq!(count, 1);
        assert!(padded.contains("typedef struct {unsigned long :64;unsigned long :64;\n struct {"));
    }
}
