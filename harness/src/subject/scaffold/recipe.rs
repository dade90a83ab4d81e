//! Guesses how a source tree is built and what the program is called.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use regex::Regex;

/// A guessed recipe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// What it was guessed from, for people.
    pub found: &'static str,
    /// Shell lines; empty if nothing was recognised.
    pub steps: Vec<String>,
    /// Debian packages that the steps need.
    pub packages: Vec<&'static str>,
    /// Programs that the tree may make, the likeliest first.
    pub programs: Vec<String>,
}

/// Looks at the tree's build files. What a release has ready made is preferred to
/// what would have to be generated.
pub(super) fn guess(tree: &Path, name: &str) -> Recipe {
    let has = |file: &str| tree.join(file).is_file();
    let read = |file: &str| fs::read_to_string(tree.join(file)).unwrap_or_default();
    let recipe = |found, steps: &[&str], packages: &[&'static str], programs| Recipe {
        found,
        steps: steps.iter().map(|step| (*step).to_owned()).collect(),
        packages: packages.to_vec(),
        programs: likeliest_first(programs, name),
    };
    if has("configure") {
        return recipe(
            "configure",
            &["./configure CC=\"$CC\"", "make -j$JOBS"],
            &[],
            of_automake(tree).or_else_makefile(tree),
        );
    }
    if has("configure.ac") {
        return recipe(
            "configure.ac",
            &["autoreconf -fi", "./configure CC=\"$CC\"", "make -j$JOBS"],
            &["autoconf", "automake", "libtool", "pkg-config"],
            of_automake(tree).or_else_makefile(tree),
        );
    }
    if has("meson.build") {
        return recipe(
            "meson.build",
            &["meson setup build --buildtype=plain", "ninja -C build"],
            &["meson", "ninja-build"],
            everywhere(
                tree,
                "meson.build",
                r"executable\s*\(\s*'([^']+)'",
                "build/",
            ),
        );
    }
    if has("CMakeLists.txt") {
        return recipe(
            "CMakeLists.txt",
            &[
                "cmake -B build -DCMAKE_BUILD_TYPE=None -DCMAKE_C_COMPILER=\"$CC\"",
                "cmake --build build -j$JOBS",
            ],
            &["cmake"],
            everywhere(
                tree,
                "CMakeLists.txt",
                r"add_executable\s*\(\s*([A-Za-z0-9_.-]+)",
                "build/",
            ),
        );
    }
    if let Some(makefile) = MAKEFILES.into_iter().find(|file| has(file)) {
        return recipe(
            makefile,
            &["make CC=\"$CC\""],
            &[],
            of_makefile(&read(makefile)),
        );
    }
    let is_c = |path: &Path| path.extension().is_some_and(|it| it == "c");
    let sources = fs::read_dir(tree).into_iter().flatten().flatten();
    if sources.map(|entry| entry.path()).any(|path| is_c(&path)) {
        return recipe(
            "C files",
            &[&format!("$CC -o {name} *.c")],
            &[],
            vec![name.to_owned()],
        );
    }
    recipe("nothing that is known", &[], &[], Vec::new())
}

const MAKEFILES: [&str; 3] = ["GNUmakefile", "makefile", "Makefile"];

trait OrElseMakefile {
    fn or_else_makefile(self, tree: &Path) -> Self;
}

impl OrElseMakefile for Vec<String> {
    fn or_else_makefile(self, tree: &Path) -> Self {
        if !self.is_empty() {
            return self;
        }
        ["Makefile.in", "Makefile"]
            .iter()
            .filter_map(|file| fs::read_to_string(tree.join(file)).ok())
            .map(|text| of_makefile(&text))
            .find(|programs| !programs.is_empty())
            .unwrap_or_default()
    }
}

/// A program named like the subject is likelier than any other.
fn likeliest_first(mut programs: Vec<String>, name: &str) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    programs.retain(|program| seen.insert(program.clone()));
    let is_named = |program: &String| program.rsplit('/').next() == Some(name);
    programs.sort_by_key(|program| !is_named(program));
    programs
}

/// `bin_PROGRAMS = …` and `sbin_PROGRAMS = …` of all `Makefile.am`.
fn of_automake(tree: &Path) -> Vec<String> {
    let lists = everywhere(
        tree,
        "Makefile.am",
        r"(?m)^s?bin_PROGRAMS\s*\+?=\s*(.+)$",
        "",
    );
    lists
        .iter()
        .flat_map(|list| {
            let (folder, names) = list
                .rsplit_once('/')
                .map_or(("", list.as_str()), |(f, n)| (f, n));
            names
                .split_whitespace()
                .filter(|word| is_name(word))
                .map(|word| {
                    if folder.is_empty() {
                        word.to_owned()
                    } else {
                        format!("{folder}/{word}")
                    }
                })
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The first group of each match in all files of this name, below the folder of
/// its file.
fn everywhere(tree: &Path, file: &str, pattern: &str, prefix: &str) -> Vec<String> {
    const DEEPEST: usize = 4;
    let Ok(pattern) = Regex::new(pattern) else {
        return Vec::new();
    };
    walkdir::WalkDir::new(tree)
        .max_depth(DEEPEST)
        .sort_by_file_name()
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_name() == file)
        .flat_map(|entry| {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let folder = entry
                .path()
                .parent()
                .and_then(|folder| folder.strip_prefix(tree).ok())
                .map(|folder| folder.to_string_lossy().into_owned())
                .unwrap_or_default();
            let place = if folder.is_empty() {
                prefix.to_owned()
            } else {
                format!("{prefix}{folder}/")
            };
            pattern
                .captures_iter(&text)
                .filter_map(|found| Some(format!("{place}{}", found.get(1)?.as_str())))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// What the first goal of a makefile makes: the goal itself, or what `all` needs.
fn of_makefile(text: &str) -> Vec<String> {
    let text = text.replace("\\\n", " ").replace("$(EXEEXT)", "");
    let mut variables = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('\t')) {
        if let Some((name, value)) = line.split_once('=') {
            let name = name.trim_end_matches([':', '?', '+', ' ', '\t']).trim();
            variables
                .entry(name.to_owned())
                .or_insert_with(|| value.split('#').next().unwrap_or("").trim().to_owned());
        }
    }
    let expand = |text: &str| {
        let mut text = text.to_owned();
        for (name, value) in &variables {
            for form in [format!("$({name})"), format!("${{{name}}}")] {
                text = text.replace(&form, value);
            }
        }
        text
    };
    let rules: Vec<(String, String)> = text
        .lines()
        .filter(|line| !line.starts_with(['\t', '#', '.', '%', ' ']))
        .filter_map(|line| line.split_once(':'))
        .filter(|(goal, rest)| !rest.starts_with('=') && !goal.contains('='))
        .map(|(goal, needs)| (expand(goal), expand(needs)))
        .collect();
    let words = |text: &str| -> Vec<String> {
        text.split_whitespace()
            .filter(|word| is_name(word))
            .map(str::to_owned)
            .collect()
    };
    let Some((goal, needs)) = rules.first() else {
        return Vec::new();
    };
    if is_phony(goal.trim()) {
        words(needs)
    } else {
        words(goal)
    }
}

/// A usual goal that names no file.
fn is_phony(goal: &str) -> bool {
    matches!(goal, "all" | "default" | "build" | "help")
}

/// A plain file name that may be a program's.
fn is_name(word: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    !word.is_empty() && word.chars().all(allowed) && !is_phony(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let tree = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = tree.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        tree
    }

    fn guessed(files: &[(&str, &str)]) -> Recipe {
        guess(tree(files).path(), "served")
    }

    #[test]
    fn a_makefile_tells_its_first_goal() {
        let text = "CC = gcc\nPROG = served\n.PHONY: all\nall: $(PROG) helper\n\n%.o: %.c\n";
        let recipe = guessed(&[("Makefile", text)]);
        assert_eq!(recipe.steps, ["make CC=\"$CC\""]);
        assert_eq!(recipe.programs, ["served", "helper"]);
        let recipe = guessed(&[("makefile", "OBJECTS = a.o\nftpd: $(OBJECTS)\n\tcc\n")]);
        assert_eq!(recipe.programs, ["ftpd"]);
    }

    #[test]
    fn autotools_name_their_programs_and_a_ready_script_comes_first() {
        let files = [
            ("configure.ac", ""),
            ("Makefile.am", "SUBDIRS = src\n"),
            (
                "src/Makefile.am",
                "bin_PROGRAMS = other\nsbin_PROGRAMS = served\n",
            ),
        ];
        let recipe = guessed(&files);
        assert_eq!(recipe.steps[0], "autoreconf -fi");
        assert_eq!(recipe.programs, ["src/served", "src/other"]);
        let mut ready = files.to_vec();
        ready.push(("configure", "#!/bin/sh\n"));
        assert_eq!(guessed(&ready).found, "configure");
    }

    #[test]
    fn cmake_and_meson_build_into_a_folder() {
        let cmake = guessed(&[(
            "CMakeLists.txt",
            "project(x C)\nadd_executable(served a.c)\n",
        )]);
        assert_eq!(cmake.programs, ["build/served"]);
        assert_eq!(cmake.packages, ["cmake"]);
        let meson = guessed(&[
            ("meson.build", "subdir('src')\n"),
            ("src/meson.build", "executable('served', 'a.c')\n"),
        ]);
        assert_eq!(meson.programs, ["build/src/served"]);
    }

    #[test]
    fn plain_files_are_compiled_together_and_an_empty_tree_is_left_open() {
        let plain = guessed(&[("a.c", "")]);
        assert_eq!(plain.steps, ["$CC -o served *.c"]);
        assert_eq!(plain.programs, ["served"]);
        assert!(guessed(&[("README", "")]).steps.is_empty());
    }
}
