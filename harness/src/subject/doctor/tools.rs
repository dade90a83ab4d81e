//! The programs that Kairos calls: the compiler with its flags, and the rest.

use super::{Check, Refusal};
use crate::confree::syntax;
use crate::subject::compiler::Compiler;
use crate::subject::{apt, apt_sources, flags, tool};

/// Programs, what each is for, and the Debian package that has it.
const REQUIRED: &[(&str, &str, &str)] = &[
    ("ld", "links patches", "binutils"),
    ("make", "builds subjects", "make"),
    ("patch", "applies patch queues", "patch"),
    ("tar", "unpacks sources", "tar"),
    ("xz", "unpacks sources", "xz-utils"),
    ("gzip", "unpacks sources", "gzip"),
];

pub(super) fn checks() -> Vec<Check> {
    let mut checks = compiler();
    for (program, purpose, package) in REQUIRED {
        let outcome = match tool::find(program) {
            Some(path) => Ok(path.display().to_string()),
            None => Err(Refusal::new(
                "not found",
                format!("it {purpose}: `sudo apt-get install {package}`"),
            )),
        };
        checks.push(Check::required(program, "on the search path", outcome));
    }
    checks.push(syntax_check());
    checks.push(apt_check());
    checks
}

fn compiler() -> Vec<Check> {
    let found = Compiler::find();
    let mut checks = vec![Check::required(
        "compiler",
        "gcc with the required flags",
        match &found {
            Ok(compiler) => Ok(compiler.version.clone()),
            Err(error) => {
                let text = error.to_string();
                let (found, mend) = text.split_once('\n').unwrap_or((&text, ""));
                Err(Refusal::new(found, mend.trim()))
            }
        },
    )];
    if let Ok(compiler) = found {
        checks.extend(flags::OPTIONAL.iter().map(|(flag, without)| {
            let outcome = if compiler.flags.iter().any(|known| known == flag) {
                Ok("known".to_owned())
            } else {
                Err(Refusal::new(
                    "not known",
                    format!("use a newer gcc; without it {without}"),
                ))
            };
            Check::recommended(flag, "known to the compiler", outcome)
        }));
    }
    checks
}

fn syntax_check() -> Check {
    let outcome = syntax::version().map_err(|why| {
        Refusal::new(
            why.lines().next().unwrap_or("not found"),
            "con-freeness sees less without it: `sudo apt-get install libclang1`, or name \
             its folder with LIBCLANG_PATH"
                .to_owned(),
        )
    });
    Check::recommended("libclang", "reads the sources of subjects", outcome)
}

fn apt_check() -> Check {
    let without = "or get the source archives elsewhere and name their folder with KAIROS_ARCHIVES";
    let outcome = match apt::configured_sources() {
        Err(error) => {
            let text = error.to_string();
            let found = text.lines().next().unwrap_or_default();
            Err(Refusal::new(
                found,
                format!("use a Debian machine, {without}"),
            ))
        }
        Ok(files) => match apt_sources::repositories(&files).len() {
            0 => Err(Refusal::new(
                "no Debian archive in apt's sources",
                format!("add a Debian archive to apt's sources, {without}"),
            )),
            count => Ok(format!("{count} source repositories to ask")),
        },
    };
    Check::recommended("apt", "a Debian archive to fetch sources from", outcome)
}
