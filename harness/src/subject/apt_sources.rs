//! From the machine's apt sources to the source repositories that Kairos asks.
//!
//! Both formats of apt are read: one line per repository (`.list`) and stanzas
//! (`.sources`). Of the entries for a Debian archive, all is kept but the type,
//! which becomes `deb-src`, and the suite.

use std::path::{Path, PathBuf};

/// The suites to look in, those with most of what the study needs first.
const SUITES: &[&str] = &["trixie", "sid", "bookworm", "forky", "bullseye"];

/// Further names by which a machine may know them.
const ALIASES: &[&str] = &[
    "stable",
    "oldstable",
    "oldoldstable",
    "testing",
    "unstable",
    "buster",
];

/// One source repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    /// Names its state: suite, and number of the entry if there are several.
    pub name: String,
    /// A stanza for apt.
    pub text: String,
}

/// One entry of the machine's sources: field names and values.
type Entry = Vec<(String, String)>;

/// The repositories to ask, in order.
#[must_use]
pub fn repositories(files: &[(PathBuf, String)]) -> Vec<Repository> {
    let entries: Vec<Entry> = files
        .iter()
        .flat_map(|(path, text)| entries(path, text))
        .collect();
    let mut repositories: Vec<Repository> = Vec::new();
    for suite in SUITES {
        for entry in &entries {
            for suite in suites_of(entry, suite) {
                let text = stanza(entry, &suite);
                if repositories.iter().any(|known| known.text == text) {
                    continue;
                }
                let count = repositories
                    .iter()
                    .filter(|known| known.name.split('@').next() == Some(&*suite))
                    .count();
                let name = if count == 0 {
                    suite
                } else {
                    format!("{suite}@{count}")
                };
                repositories.push(Repository { name, text });
            }
        }
    }
    repositories
}

fn field<'a>(entry: &'a Entry, name: &str) -> Option<&'a str> {
    entry
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}

/// What an entry becomes for another release: the release, its security
/// updates, or both if the entry names both kinds.
fn suites_of(entry: &Entry, suite: &str) -> Vec<String> {
    let mut found = Vec::new();
    for configured in field(entry, "Suites")
        .unwrap_or_default()
        .split_whitespace()
    {
        let security = configured.ends_with("-security") || configured.contains("/updates");
        let base = configured.split(['-', '/']).next().unwrap_or_default();
        if !SUITES.contains(&base) && !ALIASES.contains(&base) {
            continue;
        }
        let wanted = match (security, suite) {
            (true, "sid") => continue,
            (true, _) => format!("{suite}-security"),
            (false, _) => suite.to_owned(),
        };
        if !found.contains(&wanted) {
            found.push(wanted);
        }
    }
    found
}

fn stanza(entry: &Entry, suite: &str) -> String {
    let mut text = format!("Types: deb-src\nSuites: {suite}\n");
    for (name, value) in entry {
        let name_is = |other: &str| name.eq_ignore_ascii_case(other);
        if name_is("Types") || name_is("Suites") || name_is("Enabled") {
            continue;
        }
        let has_main = value.split_whitespace().any(|word| word == "main");
        let value = if name_is("Components") && has_main {
            "main"
        } else {
            value
        };
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push('\n');
    }
    text
}

fn entries(path: &Path, text: &str) -> Vec<Entry> {
    if path
        .extension()
        .is_some_and(|extension| extension == "sources")
    {
        stanzas(text)
    } else {
        text.lines().filter_map(line_entry).collect()
    }
}

/// The enabled entries of the stanza format. Continuation lines keep their
/// form, since a key may be written out in them.
fn stanzas(text: &str) -> Vec<Entry> {
    let mut entries = vec![Entry::new()];
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some(entry) = entries.last_mut() else {
            break;
        };
        if line.trim().is_empty() {
            entries.push(Entry::new());
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = entry.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            entry.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    entries.retain(|entry| {
        let enabled = field(entry, "Enabled").is_none_or(|value| {
            !["no", "false", "off", "0"].contains(&value.to_ascii_lowercase().as_str())
        });
        enabled && field(entry, "URIs").is_some()
    });
    entries
}

/// An entry of the one-line format: `deb [option=value …] URI suite component…`.
fn line_entry(line: &str) -> Option<Entry> {
    let line = line.split('#').next()?.trim();
    let rest = line
        .strip_prefix("deb-src")
        .or_else(|| line.strip_prefix("deb"))?;
    if !rest.starts_with(char::is_whitespace) {
        return None;
    }
    let rest = rest.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inside) => inside.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let mut entry = vec![
        ("URIs".to_owned(), words.next()?.to_owned()),
        ("Suites".to_owned(), words.next()?.to_owned()),
        ("Components".to_owned(), words.collect::<Vec<_>>().join(" ")),
    ];
    for (name, value) in options.split_whitespace().filter_map(|o| o.split_once('=')) {
        let name = match name {
            "arch" => "Architectures",
            "lang" => "Languages",
            "target" => "Targets",
            other => other,
        };
        entry.push((name.to_owned(), value.replace(',', " ")));
    }
    Some(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(name: &str, text: &str) -> Vec<Repository> {
        repositories(&[(PathBuf::from(name), text.to_owned())])
    }

    #[test]
    fn stanzas_keep_their_mirror_and_key() {
        let found = from(
            "debian.sources",
            "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates\n\
             Components: main contrib\nSigned-By:\n -----BEGIN\n .\n -----END\n\n\
             Types: deb\nURIs: http://mirror.example/other\nSuites: nodistro\nComponents: main\n\n\
             Enabled: no\nTypes: deb\nURIs: http://off.example/debian\nSuites: sid\nComponents: main\n",
        );
        let names: Vec<_> = found.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names, ["trixie", "sid", "bookworm", "forky", "bullseye"]);
        insta::assert_snapshot!(found[0].text, @r"
        Types: deb-src
        Suites: trixie
        URIs: http://mirror.example/debian
        Components: main
        Signed-By: 
         -----BEGIN
         .
         -----END
        ");
    }

    #[test]
    fn lines_keep_their_options() {
        let found = from(
            "sources.list",
            "# deb http://a.example/debian sid main\n\
             deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian bookworm main non-free # here\n\
             deb http://b.example/security bookworm-security main\n\
             deb-src http://a.example/tools stable-tools extra\n\
             debris http://a.example/debian sid main\n",
        );
        let names: Vec<_> = found.iter().map(|r| r.name.as_str()).collect();
        assert_eq!(names[..3], ["trixie", "trixie-security", "trixie@1"]);
        insta::assert_snapshot!(found[0].text, @r"
        Types: deb-src
        Suites: trixie
        URIs: http://a.example/debian
        Components: main
        Architectures: amd64
        signed-by: /k.gpg
        ");
    }
}
