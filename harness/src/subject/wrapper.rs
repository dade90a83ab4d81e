//! The recording compiler wrapper: what a recipe calls as `$CC`.
//!
//! A build's `cc` is a script that runs Kairos itself with [`SUBCOMMAND`]. The
//! wrapper adds the one list of flags to each compilation and `-no-pie` to each
//! link, drops what would take symbols or addresses away, appends one line per
//! command to a log, and then becomes the real compiler. In a build that has a plan
//! for records it compiles rewritten preprocessed text instead of the source.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

use super::record::{Kind, Record};
use super::rewritten::Rewriting;

/// The hidden subcommand that the generated script runs.
pub const SUBCOMMAND: &str = "__cc";
/// Environment variable: the log to append to.
pub const LOG: &str = "KAIROS_CC_LOG";
/// Environment variable: the real compiler.
pub const REAL: &str = "KAIROS_CC_REAL";
/// Environment variable: the flags, as a JSON array.
pub const FLAGS: &str = "KAIROS_CC_FLAGS";

/// One run of the real compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its arguments.
    pub arguments: Vec<String>,
    /// What goes to the log, but for the working directory.
    pub record: Option<(Kind, String, Vec<String>)>,
}

/// Options whose value is the next argument.
const WITH_VALUE: &[&str] = &[
    "-o",
    "-x",
    "-I",
    "-D",
    "-U",
    "-L",
    "-l",
    "-include",
    "-imacros",
    "-isystem",
    "-iquote",
    "-idirafter",
    "-iprefix",
    "-iwithprefix",
    "-iwithprefixbefore",
    "-isysroot",
    "-MF",
    "-MT",
    "-MQ",
    "-Xlinker",
    "-Xpreprocessor",
    "-Xassembler",
    "-T",
    "-u",
    "-z",
    "-e",
    "-aux-info",
    "--param",
    "-B",
    "-A",
    "-specs",
    "-wrapper",
];

/// Options that only a link understands, when a command is split.
const LINK_ONLY: &[&str] = &["-L", "-l", "-Xlinker", "-T", "-u", "-z", "-e", "-o"];

/// What gcc takes for a source by its name.
const SOURCES: &[&str] = &[
    "c", "i", "s", "S", "sx", "cc", "cp", "cxx", "cpp", "c++", "C", "ii",
];

/// One argument, with its value if that is separate.
pub(crate) struct Word<'a> {
    pub(crate) option: &'a str,
    pub(crate) value: Option<&'a str>,
}

impl Word<'_> {
    pub(crate) fn is_input(&self) -> bool {
        !self.option.starts_with('-') || self.option == "-"
    }

    fn is_source(&self) -> bool {
        self.is_input()
            && (self.option == "-"
                || Path::new(self.option)
                    .extension()
                    .and_then(|extension| extension.to_str())
                    .is_some_and(|extension| SOURCES.contains(&extension)))
    }

    pub(crate) fn push_to(&self, arguments: &mut Vec<String>) {
        arguments.push(self.option.to_owned());
        arguments.extend(self.value.map(str::to_owned));
    }
}

pub(crate) fn words(arguments: &[String]) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let value = WITH_VALUE
            .contains(&option.as_str())
            .then(|| rest.next().map(String::as_str))
            .flatten();
        words.push(Word { option, value });
    }
    words
}

/// The compiler runs that a recipe's command becomes; all but the last are
/// compilations that a command which compiles and links at once is split into.
#[must_use]
pub fn rewrite(arguments: &[String], flags: &[String]) -> Vec<Run> {
    let words = words(arguments);
    let has = |option: &str| words.iter().any(|word| word.option == option);
    let typed = has("-x");
    let sources: Vec<_> = words
        .iter()
        .filter(|word| word.is_source() || (typed && word.is_input()))
        .map(|word| word.option.to_owned())
        .collect();
    let unchanged = || {
        vec![Run {
            arguments: arguments.to_vec(),
            record: None,
        }]
    };
    let inputs = words.iter().any(Word::is_input);
    let expands = words.iter().any(|word| word.option.starts_with('@'));
    if !inputs || expands || has("-E") || has("-M") || has("-MM") || has("-###") {
        return unchanged();
    }
    let output = words
        .iter()
        .rev()
        .find(|word| word.option == "-o")
        .and_then(|word| word.value);
    // Feature tests judge by warnings and must not see ours.
    let is_feature_test = sources.iter().any(|source| stem(source) == "conftest");
    let no_flags: &[String] = &[];
    let flags = if is_feature_test { no_flags } else { flags };
    if has("-c") || has("-S") || has("-fsyntax-only") {
        let mut compiled: Vec<String> = Vec::new();
        for word in words.iter().filter(|word| keep_in_compilation(word)) {
            word.push_to(&mut compiled);
        }
        compiled.extend(flags_for(&words, flags));
        let output = output
            .map(str::to_owned)
            .or_else(|| sources.first().map(|source| format!("{}.o", stem(source))));
        let recorded = has("-c") && !is_feature_test && !sources.iter().any(|s| s == "-");
        return vec![Run {
            arguments: compiled,
            record: output
                .filter(|_| recorded && !sources.is_empty())
                .map(|output| (Kind::Compilation, output, sources)),
        }];
    }
    link(&words, output, &sources, typed, is_feature_test, flags)
}

fn link(
    words: &[Word<'_>],
    output: Option<&str>,
    sources: &[String],
    typed: bool,
    is_feature_test: bool,
    flags: &[String],
) -> Vec<Run> {
    let output = output.unwrap_or("a.out");
    let mut runs = Vec::new();
    let mut linked = Vec::new();
    // An object per source is what patches are made of; `-x` would make the
    // link read those objects as source, so such a command stays whole.
    let split = !sources.is_empty() && !typed && !is_feature_test;
    for word in words {
        if split && word.is_source() {
            let object = format!("{output}-{}.o", word.option.replace('/', "_"));
            runs.push(compilation_of(words, word.option, &object, flags));
            linked.push(object);
        } else if let Some(word) = kept_in_link(word) {
            word.push_to(&mut linked);
            if let Word {
                option,
                value: None,
            } = &word
                && option.starts_with("-Wl,")
            {
                let kept = without_strip(option);
                linked.pop();
                linked.extend(kept);
            }
        }
    }
    if !split && !sources.is_empty() {
        linked.extend(flags_for(words, flags));
    }
    let relocatable = words.iter().any(|word| {
        matches!(
            word.option,
            "-shared" | "-r" | "-Wl,-r" | "-Wl,--relocatable"
        )
    });
    if !relocatable {
        linked.push("-no-pie".to_owned());
    }
    let inputs = words_inputs(&linked);
    runs.push(Run {
        arguments: linked,
        record: (!is_feature_test).then(|| (Kind::Link, output.to_owned(), inputs)),
    });
    runs
}

fn words_inputs(arguments: &[String]) -> Vec<String> {
    words(arguments)
        .iter()
        .filter(|word| word.is_input())
        .map(|word| word.option.to_owned())
        .collect()
}

/// The compilation of one source of a command that compiles and links.
fn compilation_of(words: &[Word<'_>], source: &str, object: &str, flags: &[String]) -> Run {
    let mut arguments = Vec::new();
    for word in words {
        let belongs_to_link = word.is_input()
            || LINK_ONLY.contains(&word.option)
            || ["-l", "-L", "-Wl,"]
                .iter()
                .any(|prefix| word.option.starts_with(prefix))
            || matches!(
                word.option,
                "-static" | "-shared" | "-rdynamic" | "-pie" | "-no-pie" | "-s"
            );
        if !belongs_to_link && keep_in_compilation(word) {
            word.push_to(&mut arguments);
        }
    }
    arguments.extend(["-c", source, "-o", object].map(str::to_owned));
    arguments.extend(flags_for(words, flags));
    Run {
        arguments,
        record: Some((
            Kind::Compilation,
            object.to_owned(),
            vec![source.to_owned()],
        )),
    }
}

/// The list, but for `-fPIE` where the recipe builds for a shared library.
fn flags_for<'a>(
    words: &[Word<'_>],
    flags: &'a [String],
) -> impl Iterator<Item = String> + use<'a> {
    let shared = words
        .iter()
        .any(|word| matches!(word.option, "-fPIC" | "-fpic"));
    flags
        .iter()
        .filter(move |flag| !(shared && *flag == "-fPIE"))
        .cloned()
}

/// Whole-program modes contradict replacing single functions, and split debug
/// information is not in the program.
fn keep_in_compilation(word: &Word<'_>) -> bool {
    !(word.option == "-flto"
        || word.option.starts_with("-flto=")
        || matches!(
            word.option,
            "-fwhole-program" | "-gsplit-dwarf" | "-fuse-linker-plugin" | "-ffat-lto-objects"
        ))
}

fn kept_in_link<'a>(word: &Word<'a>) -> Option<Word<'a>> {
    let strips = |option: &str| matches!(option, "-s" | "-pie" | "-S" | "-x");
    match (word.option, word.value) {
        ("-s" | "-pie", _) => None,
        ("-static-pie", _) => Some(Word {
            option: "-static",
            value: None,
        }),
        ("-Xlinker", Some(value)) if strips(value) || is_strip(value) => None,
        _ if !keep_in_compilation(word) => None,
        (option, value) => Some(Word { option, value }),
    }
}

fn is_strip(option: &str) -> bool {
    matches!(
        option,
        "-s" | "-S"
            | "-x"
            | "-X"
            | "-pie"
            | "--pie"
            | "--strip-all"
            | "--strip-debug"
            | "--discard-all"
            | "--discard-locals"
    )
}

/// `-Wl,…` without the parts that strip symbols or ask for PIE.
fn without_strip(option: &str) -> Option<String> {
    let mut kept = Vec::new();
    let mut is_value = false;
    for part in option.split(',').skip(1) {
        if is_value || !is_strip(part) {
            kept.push(part);
        }
        is_value = matches!(
            part,
            "-z" | "-o" | "-T" | "-u" | "-e" | "-h" | "-soname" | "-rpath"
        );
    }
    (!kept.is_empty()).then(|| format!("-Wl,{}", kept.join(",")))
}

fn stem(source: &str) -> String {
    Path::new(source)
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The wrapper's whole life: rewrite, record, become the compiler.
///
/// Returns only if a compilation split off a link failed.
///
/// # Errors
/// If it was not started by a build, or the log or the compiler cannot be used.
pub fn run(arguments: Vec<OsString>) -> io::Result<ExitStatus> {
    let missing = |name: &str| {
        io::Error::other(format!(
            "{name} is not set: this is the compiler wrapper that `kairos subjects build` uses"
        ))
    };
    let real = std::env::var_os(REAL).ok_or_else(|| missing(REAL))?;
    let flags = std::env::var(FLAGS).map_err(|_| missing(FLAGS))?;
    let flags: Vec<String> = serde_json::from_str(&flags)?;
    let log = std::env::var_os(LOG).ok_or_else(|| missing(LOG))?;
    let arguments: Result<Vec<String>, OsString> =
        arguments.into_iter().map(OsString::into_string).collect();
    let arguments = arguments.map_err(|argument| {
        io::Error::other(format!("argument {} is not UTF-8", argument.display()))
    })?;
    let mut runs = rewrite(&arguments, &flags);
    if let Some(rewriting) = Rewriting::from_environment()? {
        for run in &mut runs {
            if let Some(rewritten) = rewriting.apply(&real, run)? {
                *run = rewritten;
            }
        }
    }
    let Some(last) = runs.pop() else {
        return Err(io::Error::other("nothing to run"));
    };
    for run in runs {
        append(Path::new(&log), &run)?;
        let status = Command::new(&real).args(&run.arguments).status()?;
        if !status.success() {
            return Ok(status);
        }
    }
    append(Path::new(&log), &last)?;
    Err(Command::new(&real).args(&last.arguments).exec())
}

fn append(log: &Path, run: &Run) -> io::Result<()> {
    let Some((kind, output, inputs)) = &run.record else {
        return Ok(());
    };
    let record = Record {
        kind: *kind,
        directory: std::env::current_dir()?,
        arguments: run.arguments.clone(),
        output: output.into(),
        inputs: inputs.iter().map(Into::into).collect(),
    };
    let mut line = serde_json::to_vec(&record)?;
    line.push(b'\n');
    // One write of one line: parallel jobs append to the same file.
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)?
        .write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    /// The runs that a command becomes under the flags `-O1 -fPIE`, one a line.
    fn rewritten(command: &str) -> String {
        rewrite(&strings(command), &strings("-O1 -fPIE"))
            .iter()
            .map(|run| run.arguments.join(" "))
            .collect::<Vec<_>>()
            .join("\n")
    }

    #[test]
    fn flags_follow_the_recipes_own_in_a_compilation() {
        assert_eq!(
            rewritten("-O2 -c -o a.o a.c"),
            "-O2 -c -o a.o a.c -O1 -fPIE"
        );
        assert_eq!(rewritten("-S a.c"), "-S a.c -O1 -fPIE");
    }

    #[test]
    fn whole_program_modes_are_dropped() {
        assert_eq!(
            rewritten("-flto=auto -gsplit-dwarf -c a.c -fwhole-program"),
            "-c a.c -O1 -fPIE"
        );
    }

    #[test]
    fn code_for_shared_libraries_keeps_its_model() {
        assert_eq!(rewritten("-fPIC -c a.c"), "-fPIC -c a.c -O1");
    }

    #[test]
    fn links_lose_pie_and_stripping() {
        assert_eq!(
            rewritten("-pie -s -o p a.o -Wl,-z,now,-s -Wl,-s -Wl,-z,-s -lm"),
            "-o p a.o -Wl,-z,now -Wl,-z,-s -lm -no-pie"
        );
        assert_eq!(rewritten("-static-pie a.o"), "-static a.o -no-pie");
        assert_eq!(rewritten("-shared -o l.so a.o"), "-shared -o l.so a.o");
        assert_eq!(rewritten("-Xlinker -s a.o"), "a.o -no-pie");
    }

    #[test]
    fn a_command_that_compiles_and_links_is_split() {
        assert_eq!(
            rewritten("-DX -Iinc -o p a.c sub/b.c c.o -L. -lm"),
            "-DX -Iinc -c a.c -o p-a.c.o -O1 -fPIE\n\
             -DX -Iinc -c sub/b.c -o p-sub_b.c.o -O1 -fPIE\n\
             -DX -Iinc -o p p-a.c.o p-sub_b.c.o c.o -L. -lm -no-pie"
        );
        assert_eq!(
            rewritten("-o p -x c source"),
            "-o p -x c source -O1 -fPIE -no-pie"
        );
    }

    #[test]
    fn questions_and_preprocessing_pass_unchanged() {
        for command in [
            "--version",
            "-print-prog-name=ld",
            "-E a.c",
            "-M a.c",
            "@file",
            "-v",
        ] {
            assert_eq!(rewritten(command), command);
        }
    }

    #[test]
    fn feature_tests_see_no_flags_and_leave_no_record() {
        assert_eq!(rewritten("-c conftest.c"), "-c conftest.c");
        assert_eq!(
            rewritten("-o conftest conftest.c"),
            "-o conftest conftest.c -no-pie"
        );
        let runs = rewrite(&strings("-o conftest conftest.c"), &[]);
        assert!(runs.iter().all(|run| run.record.is_none()));
    }

    #[test]
    fn records_name_output_and_sources() {
        let record = |command: &str| rewrite(&strings(command), &[]).pop()?.record;
        assert_eq!(
            record("-c -o x/a.o a.c"),
            Some((Kind::Compilation, "x/a.o".to_owned(), strings("a.c")))
        );
        assert_eq!(
            record("-c sub/a.c"),
            Some((Kind::Compilation, "a.o".to_owned(), strings("sub/a.c")))
        );
        assert_eq!(
            record("-o p a.o lib.a -lm"),
            Some((Kind::Link, "p".to_owned(), strings("a.o lib.a")))
        );
    }
}
