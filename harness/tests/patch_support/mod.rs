//! Compiles tiny C pairs with the study's flags and builds their patches.
#![allow(dead_code)] // each test file uses its own part

pub mod stepper;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use kairos::binary::{Address, Program};
use kairos::patch::{
    Build, Built, DataAction, IMAGE_BASE, ObjectUnit, Patch, PatchError, Redirect, Transformer,
    Update, Warning, build,
};
use kairos::subject::{BuiltVersion, Unit};

const FLAGS: &[&str] = &[
    "-O1",
    "-g",
    "-fno-inline",
    "-fno-optimize-sibling-calls",
    "-fno-ipa-cp",
    "-fno-ipa-sra",
    "-fno-ipa-icf",
    "-fno-partial-inlining",
    "-fno-omit-frame-pointer",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-common",
    "-fpatchable-function-entry=16,0",
    "-fcf-protection=none",
    "-mno-direct-extern-access",
    "-flive-patching=inline-clone",
];

/// Whether there is a compiler; says so when not.
pub fn compiler() -> bool {
    let found = Command::new("gcc").arg("--version").output().is_ok();
    if !found {
        eprintln!("skipped: there is no gcc");
    }
    found
}

/// One compiled version of a tiny subject.
pub struct Version {
    folder: tempfile::TempDir,
    tree: PathBuf,
    units: Vec<(String, PathBuf)>,
    pub program: PathBuf,
}

fn gcc(arguments: &[&str], files: &[&Path]) {
    let output = Command::new("gcc")
        .args(arguments)
        .args(files)
        .output()
        .expect("gcc starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

impl Version {
    /// Compiles sources, by file name, and the self-applying loader.
    pub fn compile(sources: &[(&str, &str)]) -> Self {
        Self::compile_with(sources, &[])
    }

    /// As [`Self::compile`], with more compiler flags; those that start with
    /// `-Wl,` go to the link instead.
    pub fn compile_with(sources: &[(&str, &str)], extra: &[&str]) -> Self {
        let (link, extra): (Vec<&str>, Vec<&str>) =
            extra.iter().partition(|flag| flag.starts_with("-Wl,"));
        let folder = tempfile::tempdir().expect("temporary folder");
        // A build's folder holds more than its tree.
        let tree = folder.path().join("tree");
        let map = format!("-ffile-prefix-map={}=/src", tree.display());
        let mut units = Vec::new();
        let loader = ("loader.c", include_str!("loader.c"));
        for (name, text) in sources.iter().chain([&loader]) {
            let source = tree.join(name);
            std::fs::create_dir_all(source.parent().expect("parent")).expect("folder");
            std::fs::write(&source, text).expect("write source");
        }
        for (name, _) in sources.iter().chain([&loader]) {
            if !name.ends_with(".c") {
                continue;
            }
            let object = tree.join(name.replace(".c", ".o"));
            let mut arguments = FLAGS.to_vec();
            arguments.extend([map.as_str(), "-c", "-o"]);
            arguments.push(object.to_str().expect("path"));
            arguments.extend(&extra);
            gcc(&arguments, &[&tree.join(name)]);
            units.push(((*name).to_owned(), object));
        }
        let program = tree.join("program");
        let objects: Vec<&Path> = units.iter().map(|(_, object)| object.as_path()).collect();
        let mut arguments = vec!["-no-pie", "-o", program.to_str().expect("path")];
        arguments.extend(link);
        gcc(&arguments, &objects);
        Self {
            folder,
            tree,
            units,
            program,
        }
    }

    pub fn units(&self) -> Vec<ObjectUnit<'_>> {
        self.units
            .iter()
            .map(|(source, object)| ObjectUnit { source, object })
            .collect()
    }

    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// The build as Kairos records those that it makes.
    pub fn built(&self) -> BuiltVersion {
        let tree = self.tree.clone();
        let flags: Vec<String> = FLAGS
            .iter()
            .map(ToString::to_string)
            .chain([format!("-ffile-prefix-map={}=/src", tree.display())])
            .collect();
        let units: Vec<Unit> = self
            .units
            .iter()
            .map(|(source, object)| {
                let mut arguments = flags.clone();
                arguments.extend(["-c".to_owned(), source.clone(), "-o".to_owned()]);
                arguments.push(object.display().to_string());
                Unit {
                    source: source.clone(),
                    object: object.clone(),
                    directory: tree.clone(),
                    arguments,
                }
            })
            .collect();
        BuiltVersion {
            label: "v1".to_owned(),
            program: self.program.clone(),
            key: "test".to_owned(),
            units,
            compiler: PathBuf::from("gcc"),
            flags,
            tree,
        }
    }

    pub fn open(&self) -> Program {
        Program::open(&self.program).expect("readable program")
    }

    pub fn function(&self, name: &str) -> Address {
        self.open()
            .functions_named(name)
            .next()
            .expect("function")
            .entry
    }

    pub fn object(&self, name: &str) -> Address {
        self.open()
            .objects_named(name)
            .next()
            .expect("object")
            .address
    }

    /// Runs the program, which applies `patch` to itself, and returns what it
    /// printed.
    pub fn run(&self, patch: &Patch) -> String {
        let plan = self.folder.path().join("plan");
        let image = self.folder.path().join("image");
        std::fs::write(&plan, plan_text(patch)).expect("write plan");
        std::fs::write(&image, &patch.image).expect("write image");
        let output = Command::new(&self.program)
            .args([&plan, &image])
            .output()
            .expect("program starts");
        assert!(output.status.success(), "{:?}", output.status);
        String::from_utf8(output.stdout).expect("text")
    }
}

fn plan_text(patch: &Patch) -> String {
    let mut text = String::new();
    for import in &patch.imports {
        _ = writeln!(text, "S {:x} 0 0 0 {}", import.slot.0, import.name);
    }
    for redirect in &patch.redirects {
        _ = writeln!(text, "R {:x} {:x} 0 0 -", redirect.old.0, redirect.new.0);
    }
    for action in &patch.data {
        match action {
            DataAction::Carry {
                old,
                new,
                old_size,
                new_size,
                ..
            } => {
                // The tables of the tests are never written to, so that they
                // take the new initial value; state is copied.
                if old_size == new_size {
                    _ = writeln!(text, "C {:x} {:x} {old_size:x} 0 -", old.0, new.0);
                }
            }
            DataAction::Reinitialise { old, new, size, .. } => {
                _ = writeln!(text, "I {:x} {:x} {size:x} 0 -", old.0, new.0);
            }
            DataAction::Add { .. } | DataAction::Renew { .. } => {}
        }
    }
    if let Some(transformer) = patch.transformer {
        _ = writeln!(text, "T {:x} 0 0 0 -", transformer.0);
    }
    text
}

/// Builds the patch between two versions.
pub fn patch(old: &Version, new: &Version) -> Result<Built, PatchError> {
    patch_with(old, new, None)
}

/// Builds the patch with a transformer.
pub fn patch_with(
    old: &Version,
    new: &Version,
    transformer: Option<&Path>,
) -> Result<Built, PatchError> {
    let compile = |source: &Path, include: &[PathBuf], object: &Path| {
        let mut command = Command::new("gcc");
        command.args(FLAGS).arg("-c").arg("-o").arg(object);
        for folder in include {
            command.arg("-I").arg(folder);
        }
        match command.arg(source).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    };
    build(&Update {
        own: None,
        prototypes: kairos::mechanism::Prototypes::Redirect,
        rules: None,
        common: std::collections::BTreeSet::new(),
        pair: "tiny-v1-v2",
        old: Build {
            program: &old.program,
            units: &old.units(),
            tree: old.tree(),
        },
        new: Build {
            program: &new.program,
            units: &new.units(),
            tree: new.tree(),
        },
        uses: None,
        transformer: transformer.map(|source| Transformer {
            source,
            compile: &compile,
        }),
        folder: None,
    })
}

pub fn redirect<'a>(patch: &'a Patch, name: &str) -> &'a Redirect {
    patch
        .redirects
        .iter()
        .find(|r| r.function.name == name)
        .unwrap_or_else(|| panic!("{name} is not redirected"))
}

pub fn redirected(patch: &Patch) -> Vec<&str> {
    let mut names: Vec<&str> = patch
        .redirects
        .iter()
        .map(|r| r.function.name.as_str())
        .collect();
    names.sort_unstable();
    names
}

pub fn warning<'a>(patch: &'a Patch, kind: &str) -> Option<&'a Warning> {
    patch.warnings.iter().find(|w| w.kind == kind)
}

/// Bytes of the image.
pub fn image(patch: &Patch, at: Address, size: usize) -> &[u8] {
    let from = usize::try_from(at.since(IMAGE_BASE)).expect("offset");
    &patch.image[from..from + size]
}

/// Targets of the direct calls of a function in the image.
pub fn call_targets(patch: &Patch, at: Address, size: u64) -> Vec<Address> {
    let code = image(patch, at, usize::try_from(size).expect("size"));
    let mut decoder = iced_x86::Decoder::with_ip(64, code, at.0, iced_x86::DecoderOptions::NONE);
    decoder
        .iter()
        .filter(iced_x86::Instruction::is_call_near)
        .map(|i| Address(i.near_branch_target()))
        .collect()
}

/// Addresses that instructions of a function in the image refer to.
pub fn memory_targets(patch: &Patch, at: Address, size: u64) -> Vec<Address> {
    let code = image(patch, at, usize::try_from(size).expect("size"));
    let mut decoder = iced_x86::Decoder::with_ip(64, code, at.0, iced_x86::DecoderOptions::NONE);
    decoder
        .iter()
        .filter(iced_x86::Instruction::is_ip_rel_memory_operand)
        .map(|i| Address(i.ip_rel_memory_address()))
        .collect()
}

/// Applies between two rounds of `show()`.
pub const MAIN: &str = r#"
#include <stdio.h>
int kairos_test_apply(const char *, const char *);
void show(void);
int main(int argc, char **argv)
{
    show();
    if (argc > 2) {
        int failed = kairos_test_apply(argv[1], argv[2]);
        if (failed)
            return 1;
    }
    show();
    return 0;
}
"#;

/// Two versions of a program around `show()`, which applies the patch to itself.
pub fn pair(old: &str, new: &str) -> (Version, Version) {
    (
        Version::compile(&[("main.c", MAIN), ("lib/work.c", old)]),
        Version::compile(&[("main.c", MAIN), ("lib/work.c", new)]),
    )
}

/// The same of one source with marked lines: see [`sides`].
pub fn marked(source: &str) -> (Version, Version) {
    let [old, new] = sides(source);
    pair(&old, &new)
}

/// Both versions of a source with marked lines: `O:` only in the old version, `N:`
/// only in the new one.
pub fn sides(source: &str) -> [String; 2] {
    [("N:", "O:"), ("O:", "N:")].map(|(other, mine)| {
        source
            .lines()
            .filter(|line| !line.starts_with(other))
            .map(|line| line.strip_prefix(mine).unwrap_or(line))
            .collect::<Vec<_>>()
            .join("\n")
    })
}
