//! What Kairos says that a person must write, and what it declares for the
//! transformer: on tiny C pairs, without running a server.

mod patch_support;

use kairos::state::Gap;
use patch_support::{Version, compiler, patch, patch_with};

/// The source with marked lines: `O:` only in the old version, `N:` only in the
/// new one.
fn marked(source: &str) -> (Version, Version) {
    let side = |other: &str, mine: &str| {
        let lines = source.lines().filter(|line| !line.starts_with(other));
        let lines: Vec<_> = lines
            .map(|line| line.strip_prefix(mine).unwrap_or(line))
            .collect();
        let text = lines.join("\n");
        Version::compile(&[("main.c", text.as_str())])
    };
    (side("N:", "O:"), side("O:", "N:"))
}

const SOURCE: &str = r"
#include <stdlib.h>
O:enum mode { IDLE = 1, BUSY = 2 };
N:enum mode { IDLE = 2, BUSY = 1 };
struct inner {
N:  short first;
    int a : 3;
    unsigned b : 7;
    char name[5];
};
union number { long whole; double real; void *any; };
struct item {
O:  int count;
N:  long count;
    union number number;
    struct { int x; struct inner in[2]; };
    struct item *next;
    void *data;
O:  float weight;
N:  double weight;
    int (*call)(struct item *);
    enum mode mode;
O:  int hits;
N:  int visits;
    struct inner inner;
    char tail[];
};
struct holder { union { struct item *item; long number; } is; struct item **all; };
struct gone { int a; };
static struct item *items;
static struct holder holder;
O:static struct gone gone;
static int turn = 0;
int start(void) { turn = 3; return turn; }
int main(void)
{
O:  gone.a = 1;
    items = calloc(1, sizeof *items);
    items->count = turn; items->weight = 2; items->mode = BUSY;
    items->inner.b = 3; items->x = 1; items->tail[0] = 0;
    holder.all = &items;
    return items->count + start();
}
";

fn gap<'a>(gaps: &'a [Gap], kind: &str, subject: &str) -> &'a Gap {
    gaps.iter()
        .find(|gap| gap.kind == kind && gap.subject == subject)
        .unwrap_or_else(|| panic!("no gap {kind} of {subject} among {gaps:#?}"))
}

#[test]
fn what_cannot_be_generated_is_listed_with_the_line_to_write() {
    if !compiler() {
        return;
    }
    let (old, new) = marked(SOURCE);
    let patch = patch(&old, &new).expect("patch").patch;
    let gaps = patch.gaps.expect("gaps");
    let visits = gap(&gaps, "added-member", "struct item.visits");
    assert!(visits.message.contains("it may be `hits`"), "{visits:?}");
    assert!(
        visits.line.ends_with("new->visits = old->hits;"),
        "{visits:?}"
    );
    gap(&gaps, "added-member", "struct inner.first");
    gap(&gaps, "retyped-member", "struct item.weight");
    let data = gap(&gaps, "void-pointer", "struct item.data");
    assert_eq!(
        data.line,
        "[[cast]] of = \"struct item.data\", to = \"struct …\""
    );
    let all = gap(&gaps, "unknown-length", "struct holder.all");
    assert_eq!(
        all.line,
        "[[array]] of = \"struct holder.all\", length = \"…\""
    );
    gap(&gaps, "union", "struct holder.is");
    gap(&gaps, "deleted-type", "struct gone");
    gap(&gaps, "renumbered-constant", "enum mode");
    // A number that only grows needs nobody.
    assert!(
        !gaps.iter().any(|gap| gap.subject == "struct item.count"),
        "{gaps:#?}"
    );
}

#[test]
fn transformers_see_both_versions_of_every_record() {
    if !compiler() {
        return;
    }
    let (old, new) = marked(SOURCE);
    let folder = tempfile::tempdir().expect("folder");
    let source = folder.path().join("transform.c");
    // The header asserts sizes and offsets itself.
    let text = r#"
#include "kairos_transform.h"
static void one(struct kairos_old_item *old, struct kairos_new_item *new)
{
    new->visits = old->hits + (int)old->inner.b + old->in[1].a + old->next->mode;
    new->number.whole = old->number.whole;
    new->inner.first = 1;
    new->next->tail[0] = old->tail[0];
}
void kairos_transform(void) { kairos_each_item(one); }
"#;
    std::fs::write(&source, text).expect("write");
    let patch = patch_with(&old, &new, Some(&source)).expect("patch").patch;
    let plan = patch.state.as_ref().expect("a plan");
    let table = |name: &str| {
        let record = plan.records.iter().find(|record| record.name == name);
        record.expect("record").table
    };
    assert!(table("struct item").is_some());
    // A transformer is told only of what it asks for.
    assert_eq!(table("struct inner"), None);
}

#[test]
fn a_pair_without_changed_records_has_no_plan() {
    if !compiler() {
        return;
    }
    let (old, new) = marked(
        "O:static int limit = 3;\nN:static long limit = 3;\n\
         int main(void) { limit++; return (int)limit; }\n",
    );
    let patch = patch(&old, &new).expect("patch").patch;
    assert!(patch.state.is_none());
    assert_eq!(patch.scratch().1, 0);
}
