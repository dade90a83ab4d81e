//! The real compiler behind the wrapper: which one, and which flags it knows.

use std::path::{Path, PathBuf};

use super::error::BuildError;
use super::{flags, tool};

/// A gcc, with the flags that it is used with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiler {
    /// The program.
    pub path: PathBuf,
    /// First lines of its and its linker's `--version`, and its target.
    pub version: String,
    /// The one list of flags, without the optional ones that it lacks.
    pub flags: Vec<String>,
}

impl Compiler {
    /// The compiler named by `KAIROS_REAL_CC`, else `gcc`, else `cc`.
    ///
    /// # Errors
    /// [`BuildError::Compiler`] if there is none, or it is not gcc.
    pub fn find() -> Result<Self, BuildError> {
        let named = std::env::var("KAIROS_REAL_CC").ok();
        let path = match &named {
            Some(program) => tool::find(program).ok_or_else(|| {
                BuildError::Compiler(format!(
                    "KAIROS_REAL_CC names '{program}', which is no program\n  name a gcc, or unset it"
                ))
            })?,
            None => ["gcc", "cc"]
                .into_iter()
                .find_map(tool::find)
                .ok_or_else(|| {
                    BuildError::Compiler(
                        "no C compiler found\n  install the Debian package gcc, or name one with KAIROS_REAL_CC"
                            .to_owned(),
                    )
                })?,
        };
        Self::at(path)
    }

    /// This compiler, probed.
    ///
    /// # Errors
    /// [`BuildError::Compiler`] if it does not run or is not gcc.
    pub fn at(path: PathBuf) -> Result<Self, BuildError> {
        let macros = ask(&path, &["-dM", "-E", "-x", "c", "/dev/null"]).unwrap_or_default();
        let defines = |name: &str| macros.lines().any(|line| line.contains(name));
        if !defines(" __GNUC__ ") || defines(" __clang__ ") {
            return Err(BuildError::Compiler(format!(
                "{} is not gcc\n  Kairos needs gcc (its flags keep functions apart); install the Debian package gcc, or name one with KAIROS_REAL_CC",
                path.display()
            )));
        }
        if let Some(missing) = flags::REQUIRED.iter().find(|flag| !knows(&path, flag)) {
            return Err(BuildError::Compiler(format!(
                "{} does not know {missing}\n  install a newer gcc (8 or later), or name one with KAIROS_REAL_CC",
                path.display()
            )));
        }
        let linker = ask(&path, &["-print-prog-name=ld"]).unwrap_or_default();
        let version = [
            first_line(ask(&path, &["--version"])),
            first_line(ask(&path, &["-dumpmachine"])),
            first_line(ask(Path::new(linker.trim()), &["--version"])),
        ]
        .join("; ");
        let optional = flags::OPTIONAL
            .iter()
            .map(|(flag, _)| flag)
            .filter(|flag| knows(&path, flag));
        let flags = flags::REQUIRED
            .iter()
            .chain(optional)
            .map(ToString::to_string)
            .collect();
        Ok(Self {
            path,
            version,
            flags,
        })
    }

    /// Whether the compiler accepts `flag`.
    #[must_use]
    pub fn knows(&self, flag: &str) -> bool {
        knows(&self.path, flag)
    }
}

fn knows(compiler: &Path, flag: &str) -> bool {
    // `-Wno-error` is last in the list for a reason; here errors are wanted,
    // and a definition would warn.
    if flag == "-Wno-error" || flag.starts_with("-D") {
        return true;
    }
    ask(
        compiler,
        &[
            "-Werror",
            flag,
            "-x",
            "c",
            "-c",
            "-o",
            "/dev/null",
            "/dev/null",
        ],
    )
    .is_some()
}

/// What `program` prints, or `None` if it fails.
fn ask(program: &Path, arguments: &[&str]) -> Option<String> {
    let output = tool::command(program).args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn first_line(text: Option<String>) -> String {
    text.unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}
