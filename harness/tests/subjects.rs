//! Builds tiny subjects with the real compiler wrapper.
//!
//! What it proves: a build is made once and is the same wherever it is made, a
//! failed step is told with its line and output, and a program that an update
//! could not use is refused.

use std::fs;
use std::path::{Path, PathBuf};

use kairos::subject::cache::Cache;
use kairos::subject::compiler::Compiler;
use kairos::subject::source::Sources;
use kairos::subject::{BuildOptions, BuiltVersion, Subject, SubjectError, build};

/// A subject of two sources, one version, built by `step`.
struct Tiny {
    folder: tempfile::TempDir,
    step: &'static str,
}

impl Tiny {
    fn new(step: &'static str) -> Self {
        let tiny = Self {
            folder: tempfile::tempdir().unwrap(),
            step,
        };
        tiny.write("workloads/basic.session", "");
        tiny.write(
            "v1/main.c",
            "int help(int);\nint main(void) { return help(1); }\n",
        );
        tiny.write("v1/sub/help.c", "int help(int x) { return x - 1; }\n");
        tiny
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.folder.path().join("tiny").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn subject(&self) -> Subject {
        let manifest = format!(
            "name = \"tiny\"\nabout = \"\"\n[[version]]\nlabel = \"v1\"\nfolder = \"v1\"\n\
             [build]\ndebian_packages = [\"libtiny-dev\"]\nsteps = ['''{}''']\nprogram = \"tiny\"\n\
             [run]\ncommand = [\"{{program}}\"]\nports = {{ main = 7000 }}\nidentity = \"user\"\n\
             ready = {{ listening = \"main\" }}\nstop = \"SIGTERM\"\n\
             [[role]]\nname = \"only\"\nfirst = true\n[workloads]\nstudy = [\"basic\"]\n",
            self.step
        );
        self.write("subject.toml", &manifest);
        Subject::load(&self.folder.path().join("tiny")).unwrap()
    }

    fn build_in(&self, cache: &str) -> Result<BuiltVersion, SubjectError> {
        let cache = Cache::at(self.folder.path().join(cache));
        let options = BuildOptions {
            sources: Sources {
                folders: Vec::new(),
                cache: cache.clone(),
                network: false,
            },
            cache,
            compiler: Compiler::find()?,
            wrapper: PathBuf::from(env!("CARGO_BIN_EXE_kairos")),
            jobs: 2,
        };
        let subject = self.subject();
        build(&subject, subject.version("v1")?, &options)
    }

    fn failure(&self) -> String {
        self.build_in("cache").unwrap_err().to_string()
    }
}

const SEPARATE: &str = "mkdir o; $CC -c main.c -o o/main.o; (cd sub && $CC -O2 -c help.c); $CC -s -o tiny o/main.o sub/help.o";

fn sources(built: &BuiltVersion) -> Vec<&str> {
    built
        .units
        .iter()
        .map(|unit| unit.source.as_str())
        .collect()
}

#[test]
fn a_build_is_made_once_and_again_when_a_source_changes() {
    let tiny = Tiny::new(SEPARATE);
    let first = tiny.build_in("cache").unwrap();
    assert_eq!(sources(&first), ["main.c", "sub/help.c"]);
    assert!(first.units.iter().all(|unit| unit.object.is_file()));
    let made = modified(&first.program);
    let second = tiny.build_in("cache").unwrap();
    assert_eq!(first, second);
    assert_eq!(made, modified(&second.program));
    tiny.write("v1/sub/help.c", "int help(int x) { return x - 2; }\n");
    assert_ne!(tiny.build_in("cache").unwrap().key, first.key);
}

#[test]
fn a_build_is_the_same_wherever_it_is_made() {
    let tiny = Tiny::new(SEPARATE);
    let here = tiny.build_in("cache").unwrap();
    let there = tiny.build_in("another/cache/far/away").unwrap();
    assert_eq!(read(&here.program), read(&there.program));
    for (here, there) in here.units.iter().zip(&there.units) {
        assert_eq!(read(&here.object), read(&there.object), "{}", here.source);
    }
}

#[test]
fn a_recorded_compilation_can_be_repeated() {
    let tiny = Tiny::new(SEPARATE);
    let built = tiny.build_in("cache").unwrap();
    for unit in &built.units {
        let before = read(&unit.object);
        fs::remove_file(&unit.object).unwrap();
        let status = std::process::Command::new(&built.compiler)
            .args(&unit.arguments)
            .current_dir(&unit.directory)
            .status()
            .unwrap();
        assert!(status.success());
        assert_eq!(before, read(&unit.object));
    }
}

#[test]
fn a_recipe_may_compile_and_link_in_one_command() {
    let tiny = Tiny::new("cc -o tiny main.c sub/help.c");
    let built = tiny.build_in("cache").unwrap();
    assert_eq!(sources(&built), ["main.c", "sub/help.c"]);
}

#[test]
fn an_extra_file_is_compiled_with_the_same_flags() {
    let tiny = Tiny::new(SEPARATE);
    let built = tiny.build_in("cache").unwrap();
    tiny.write(
        "extra.c",
        "#include \"extra.h\"\nint f(void) { return VALUE; }\n",
    );
    tiny.write("include/extra.h", "#define VALUE 1\n");
    let folder = tiny.folder.path().join("tiny");
    let out = folder.join("extra.o");
    built
        .compile_extra(&folder.join("extra.c"), &[folder.join("include")], &out)
        .unwrap();
    assert!(out.is_file());
    let error = built
        .compile_extra(&folder.join("extra.c"), &[], &out)
        .unwrap_err();
    assert!(error.to_string().contains("extra.h"), "{error}");
}

#[test]
fn a_failed_step_is_told_with_line_output_and_packages() {
    let error = Tiny::new("echo before; no-such-command").failure();
    for part in [
        "building tiny v1 failed in step 1",
        "subject.toml:8)",
        "before",
        "no-such-command: not found",
        "build.log",
        "apt-get install libtiny-dev",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[test]
fn a_program_that_no_update_can_use_is_refused() {
    for (step, expected) in [
        (
            "cc -o tiny main.c sub/help.c; strip tiny",
            "has no symbol table",
        ),
        (
            "cc -o tiny main.c sub/help.c; strip -g tiny",
            "has no debug information",
        ),
        ("true", "made no program"),
        ("echo > tiny", "is no program"),
        (
            "cc -o tiny main.c sub/help.c; rm *.o",
            "no recorded object for 2 of the 2 sources",
        ),
    ] {
        let error = Tiny::new(step).failure();
        assert!(error.contains(expected), "{step}: {error}");
    }
}

fn modified(path: &Path) -> std::time::SystemTime {
    path.metadata().unwrap().modified().unwrap()
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap()
}
