//! `harness/DESIGN.md` names every module, and none that does not exist.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Every Rust file below `folder`, relative to `root`.
fn modules(root: &Path, folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a readable source folder") {
        let path = entry.expect("a readable entry").path();
        if path.is_dir() {
            modules(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let relative = path.strip_prefix(root).expect("a path below the root");
            found.insert(relative.display().to_string());
        }
    }
}

/// Names in backquotes that end in `.rs`, anywhere in the page.
fn named(page: &str) -> BTreeSet<String> {
    page.split('`')
        .filter(|text| text.ends_with(".rs") && !text.contains(char::is_whitespace))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_design_page_and_the_modules_agree() {
    let harness = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = harness.join("src");
    let mut exist = BTreeSet::new();
    modules(&source, &source, &mut exist);
    let page = fs::read_to_string(harness.join("DESIGN.md")).expect("harness/DESIGN.md");

    let listed: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("- `")?.split_once("`: "))
        .filter(|(_, sentence)| !sentence.trim().is_empty())
        .map(|(module, _)| module.to_owned())
        .collect();
    let missing: Vec<_> = exist.difference(&listed).collect();
    assert!(
        missing.is_empty(),
        "harness/DESIGN.md lacks a sentence on {missing:?}"
    );

    let gone: Vec<_> = named(&page)
        .into_iter()
        .filter(|name| !exist.contains(name) && !harness.join("..").join(name).exists())
        .collect();
    assert!(
        gone.is_empty(),
        "harness/DESIGN.md names what does not exist: {gone:?}"
    );
}
