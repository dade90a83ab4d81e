//! The tutorial, docs/tutorial.md, run as its reader would: each file block is
//! written, each command is run, and what it prints must be what the page shows.
//! `KAIROS_TUTORIAL=write` writes what is printed into the page instead.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use regex::Regex;

/// A fenced block: its info string and its lines.
struct Block<'a> {
    info: &'a str,
    lines: Vec<&'a str>,
}

/// What a page is made of.
enum Part<'a> {
    Text(&'a str),
    Block(Block<'a>),
}

fn parts(page: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        match line.strip_prefix("```") {
            None => parts.push(Part::Text(line)),
            Some(info) => parts.push(Part::Block(Block {
                info,
                lines: lines.by_ref().take_while(|line| *line != "```").collect(),
            })),
        }
    }
    parts
}

/// A reader's folder, with the page's `kairos` on the search path.
struct Reader {
    folder: tempfile::TempDir,
    path: OsString,
    volatile: Vec<(Regex, &'static str)>,
}

impl Reader {
    fn new() -> Self {
        let binary = Path::new(env!("CARGO_BIN_EXE_kairos"));
        let mut path = OsString::from(binary.parent().unwrap());
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap());
        let rule = |pattern, shown| (Regex::new(pattern).unwrap(), shown);
        Self {
            folder: tempfile::tempdir().unwrap(),
            path,
            volatile: vec![
                rule(r"\b[0-9]+(\.[0-9]+)? (ms|s)\b", "… $2"),
                rule(r"image [0-9]+ bytes", "image … bytes"),
                rule(r"/\S*/(subjects/\S+\.toml)", "…/$1"),
                rule(r"without libclang \([^)]*\)", "without libclang"),
            ],
        }
    }

    fn write(&self, name: &str, lines: &[&str]) {
        let path = self.folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, lines.join("\n") + "\n").unwrap();
    }

    /// Runs a shell line; returns what it printed, without what differs between
    /// machines.
    fn run(&self, line: &str) -> String {
        let output = Command::new("sh")
            .args(["-ec", line])
            .current_dir(self.folder.path())
            .env("PATH", &self.path)
            .env("KAIROS_CACHE", self.folder.path().join("cache"))
            // What libclang adds depends on the machine.
            .env("KAIROS_NO_LIBCLANG", "1")
            .env_remove("KAIROS_ROOT")
            .env_remove("KAIROS_ARCHIVES")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        // A manifest that is refused is shown on purpose: by `2>&1`.
        assert!(
            output.status.success() || line.contains("2>&1"),
            "{line}: {}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        let mut text = String::from_utf8(output.stdout).unwrap();
        for (pattern, shown) in &self.volatile {
            text = pattern.replace_all(&text, *shown).into_owned();
        }
        text.lines()
            .map(|line| line.trim_end().to_owned() + "\n")
            .collect()
    }

    /// Runs the commands of a console block; returns the block as it should be.
    fn console(&self, block: &Block<'_>) -> String {
        block
            .lines
            .iter()
            .filter_map(|line| line.strip_prefix("$ "))
            .map(|line| format!("$ {line}\n{}", self.run(line)))
            .collect()
    }
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/tutorial.md")
}

#[test]
fn the_tutorial_does_what_it_says() {
    let text = fs::read_to_string(page()).unwrap();
    let reader = Reader::new();
    let mut commands = 0;
    let mut real = String::new();
    for part in parts(&text) {
        match part {
            Part::Text(line) => {
                real.push_str(line);
                real.push('\n');
            }
            Part::Block(block) => {
                let content = if block.info == "console" {
                    commands += 1;
                    reader.console(&block)
                } else {
                    let (_, name) = block.info.split_once(' ').unwrap();
                    reader.write(name, &block.lines);
                    block.lines.iter().map(|line| format!("{line}\n")).collect()
                };
                let _ = write!(real, "```{}\n{content}```\n", block.info);
            }
        }
    }
    assert!(commands > 5, "the page has lost its commands");
    if std::env::var_os("KAIROS_TUTORIAL").is_some_and(|value| value == "write") {
        fs::write(page(), real).unwrap();
        return;
    }
    for (number, (shown, real)) in text.lines().zip(real.lines()).enumerate() {
        assert_eq!(
            shown,
            real,
            "docs/tutorial.md:{}: look what changed; KAIROS_TUTORIAL=write takes it over",
            number + 1
        );
    }
    assert_eq!(text, real);
}
