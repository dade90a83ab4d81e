//! Every update whose records, prototypes or names of parameters change exists as a pair
//! by each of the two mechanisms that the study compares: what it shows could otherwise
//! not be told from what its mechanism does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kairos::binary::Program;
use kairos::change::Changes;
use kairos::mechanism::{Layout, Mechanism, Prototypes};
use kairos::subject::manifest::VersionSource;
use kairos::subject::{BuildOptions, Catalogue, Pair, Subject, build};

/// The mechanisms that the study compares.
const COMPARED: [Mechanism; 2] = [
    Mechanism {
        layout: Layout::Own,
        prototypes: Prototypes::Redirect,
    },
    Mechanism {
        layout: Layout::Common,
        prototypes: Prototypes::Keep,
    },
];

/// An update, `subject-old-new`, and the mechanisms by which it exists.
type Updates = BTreeMap<String, BTreeSet<String>>;

fn updates<'a>(pairs: impl Iterator<Item = &'a Pair>) -> Updates {
    let mut updates = Updates::new();
    for pair in pairs {
        let name = format!("{}-{}-{}", pair.subject, pair.old, pair.new);
        let mechanisms = updates.entry(name).or_default();
        mechanisms.insert(pair.mechanism.to_string());
    }
    updates
}

/// What is missing of the updates that `concerned` names, as `update by mechanism`.
fn lacking(updates: &Updates, concerned: &BTreeSet<String>) -> Vec<String> {
    let mut missing = Vec::new();
    for (update, mechanisms) in updates {
        let compared = COMPARED.map(|mechanism| mechanism.to_string());
        let absent = compared.iter().filter(|name| !mechanisms.contains(*name));
        if concerned.contains(update) {
            missing.extend(absent.map(|name| format!("{update} by {name}")));
        }
    }
    missing
}

/// The changes of every update of a subject, from the own builds of its versions.
fn changes(subject: &Subject, pairs: &[&Pair], options: &BuildOptions) -> Vec<(String, Changes)> {
    let labels: BTreeSet<&str> = pairs
        .iter()
        .flat_map(|pair| [pair.old.as_str(), pair.new.as_str()])
        .collect();
    let programs: BTreeMap<&str, Program> = labels
        .into_iter()
        .map(|label| {
            let version = subject.version(label).expect("version");
            let built = build(subject, version, options).expect("build");
            (label, Program::open(&built.program).expect("program"))
        })
        .collect();
    pairs
        .iter()
        .map(|pair| {
            let types = |label: &String| programs[label.as_str()].types();
            let name = format!("{}-{}-{}", pair.subject, pair.old, pair.new);
            (name, Changes::between(types(&pair.old), types(&pair.new)))
        })
        .collect()
}

/// Prints what changes in the updates of `subject`, and returns those that mechanisms
/// deal with in different ways, and what they lack.
fn check(
    catalogue: &Catalogue,
    subject: &Subject,
    options: &BuildOptions,
) -> (BTreeSet<String>, Vec<String>) {
    let pairs = catalogue.pairs.iter();
    let pairs: Vec<&Pair> = pairs.filter(|pair| pair.subject == subject.name).collect();
    let updates = updates(pairs.iter().copied());
    let changes: BTreeMap<_, _> = changes(subject, &pairs, options).into_iter().collect();
    for (update, changes) in &changes {
        let mechanisms: Vec<&str> = updates[update].iter().map(String::as_str).collect();
        println!(
            "{update}: {} records, {} prototypes, {} functions with renamed parameters; {}",
            changes.records.len(),
            changes.prototypes.len(),
            changes.renamed.len(),
            mechanisms.join(", ")
        );
    }
    let concerned = changes
        .iter()
        .filter(|(_, changes)| changes.concern_mechanisms());
    let concerned: BTreeSet<String> = concerned.map(|(update, _)| update.clone()).collect();
    let lacking = lacking(&updates, &concerned);
    (concerned, lacking)
}

fn catalogue() -> Catalogue {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    Catalogue::open(&root).expect("catalogue")
}

/// Whether all versions of a subject are source trees of the project.
fn is_checked_in(subject: &Subject) -> bool {
    let mut versions = subject.versions.iter();
    versions.all(|version| matches!(version.source, VersionSource::Folder(_)))
}

#[test]
fn updates_of_checked_in_servers_exist_by_both_mechanisms() {
    let catalogue = catalogue();
    let options = BuildOptions::from_environment(Vec::new()).expect("options");
    let own = catalogue.subjects.iter().filter(|of| is_checked_in(of));
    let mut all = BTreeSet::new();
    for subject in own {
        let (concerned, lacking) = check(&catalogue, subject, &options);
        assert_eq!(lacking, Vec::<String>::new());
        all.extend(concerned);
    }
    // A record that grows, one whose members change places, prototypes, and a function
    // that merely reads more into its input.
    for update in ["kvd-v8-v9", "kvd-v9-v10", "kvd-v13-v14"] {
        assert!(all.contains(update), "{update} is not among {all:?}");
    }
    assert!(!all.contains("kvd-v1-v2"));
}

#[test]
#[ignore = "builds every version of every server: minutes"]
fn updates_of_real_servers_exist_by_both_mechanisms() {
    let Some(archives) = std::env::var_os("KAIROS_ARCHIVES") else {
        println!("skipped: updates_of_real_servers_exist_by_both_mechanisms: no KAIROS_ARCHIVES");
        return;
    };
    let catalogue = catalogue();
    let options = BuildOptions::from_environment(vec![archives.into()]).expect("options");
    for subject in &catalogue.subjects {
        let studied = catalogue.pairs.iter().any(|of| of.subject == subject.name);
        if !is_checked_in(subject) && studied {
            let (_, lacking) = check(&catalogue, subject, &options);
            assert_eq!(lacking, Vec::<String>::new(), "{}", subject.name);
        }
    }
}

/// The check can fail: an update loses one of its pairs.
#[test]
fn a_missing_partner_is_named() {
    let catalogue = catalogue();
    let concerned = BTreeSet::from(["kvd-v8-v9".to_owned()]);
    let without = |id: &str| updates(catalogue.pairs.iter().filter(|pair| pair.id != id));
    assert_eq!(lacking(&without(""), &concerned), Vec::<String>::new());
    assert_eq!(
        lacking(&without("kvd-v8-v9-common"), &concerned),
        ["kvd-v8-v9 by common+keep"]
    );
    assert_eq!(
        lacking(&without("kvd-v8-v9"), &concerned),
        ["kvd-v8-v9 by own+redirect"]
    );
    let others = BTreeSet::new();
    assert_eq!(
        lacking(&without("kvd-v8-v9"), &others),
        Vec::<String>::new()
    );
}
