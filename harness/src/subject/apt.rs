//! Fetches single source archives through apt.
//!
//! `apt-get source` fails when a mirror lacks one file of a package, often the
//! `.dsc`, and a machine's own configuration knows neither source indexes nor
//! other suites. So Kairos keeps a private apt state, derived from the
//! machine's configuration (the same mirrors and keys), looks the archive up in
//! the source indexes by its SHA-256, asks apt for its address and has apt's own
//! helper download it. Addresses stay in apt's files in the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::apt_sources::{self, Repository};
use super::cache;
use super::error::{AtFile, SourceError, SubjectError};
use super::manifest::Archive;
use super::{source, tool};

/// An index older than this is updated before "not there" is believed.
const FRESH: Duration = Duration::from_secs(24 * 60 * 60);

/// A private apt state.
#[derive(Debug)]
pub struct Apt {
    folder: PathBuf,
}

/// Where an archive is, by the source index.
struct Located {
    version: String,
    repository: Repository,
}

impl Apt {
    /// The state kept in `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_path_buf(),
        }
    }

    /// Downloads the archive to `target`. The source index must list its
    /// SHA-256, and apt verifies the bytes against it.
    ///
    /// # Errors
    /// What was tried, repository by repository.
    pub fn fetch(&self, archive: &Archive, target: &Path) -> Result<(), SubjectError> {
        let configured = configured_sources()?;
        let repositories = apt_sources::repositories(&configured);
        if repositories.is_empty() {
            return Err(apt_error(
                "not through apt: its configuration on this machine names no Debian archive"
                    .to_owned(),
            ));
        }
        let mut tried = Vec::new();
        // First what earlier runs downloaded, then fresh indexes.
        for refresh in [false, true] {
            for repository in &repositories {
                if refresh && self.is_fresh(repository) {
                    continue;
                }
                let found = if refresh {
                    self.update(repository)
                        .and_then(|()| self.locate(repository, archive))
                } else {
                    self.locate(repository, archive)
                };
                match found {
                    Ok(Some(located)) => match self.download(&located, archive, target) {
                        Ok(()) => return Ok(()),
                        Err(error) => tried.push(format!("{}: {error}", repository.name)),
                    },
                    Ok(None) if self.is_fresh(repository) => {
                        tried.push(format!("{}: not in the source index", repository.name));
                    }
                    Ok(None) => {}
                    Err(error) => tried.push(format!("{}: {error}", repository.name)),
                }
            }
        }
        Err(apt_error(format!(
            "not through apt:\n    {}",
            tried.join("\n    ")
        )))
    }

    fn state(&self, repository: &Repository) -> PathBuf {
        self.folder.join(&repository.name)
    }

    /// An apt program that sees this repository and nothing else.
    fn program(&self, program: impl AsRef<std::ffi::OsStr>, repository: &Repository) -> Command {
        let state = self.state(repository);
        let mut command = tool::command(program);
        command.args(["-o", "Acquire::http::Timeout=20"]);
        command.args(["-o", "Acquire::https::Timeout=20"]);
        for (option, path) in [
            ("Dir::Etc::sourcelist", PathBuf::from("/dev/null")),
            ("Dir::Etc::sourceparts", state.join("sources")),
            ("Dir::State::lists", state.join("lists")),
            ("Dir::Cache", state.join("cache")),
        ] {
            command
                .arg("-o")
                .arg(format!("{option}={}", path.display()));
        }
        command
    }

    /// The time of the last update that went well.
    fn stamp(&self, repository: &Repository) -> PathBuf {
        self.state(repository).join("updated")
    }

    fn is_fresh(&self, repository: &Repository) -> bool {
        self.stamp(repository)
            .metadata()
            .and_then(|data| data.modified())
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok())
            .is_some_and(|age| age < FRESH)
    }

    fn update(&self, repository: &Repository) -> Result<(), SubjectError> {
        let state = self.state(repository);
        for folder in ["sources", "lists/partial", "cache/archives/partial"] {
            cache::create(&state.join(folder))?;
        }
        let list = state.join("sources/kairos.sources");
        fs::write(&list, &repository.text).at("write", &list)?;
        let output = tool::output(self.program("apt-get", repository).arg("update"), "apt")?;
        if !output.status.success() {
            return Err(apt_error(complaints(&tool::text(&output))));
        }
        let stamp = self.stamp(repository);
        fs::write(&stamp, "").at("write", &stamp)
    }

    /// The version of the source package whose index entry lists the archive.
    fn locate(
        &self,
        repository: &Repository,
        archive: &Archive,
    ) -> Result<Option<Located>, SubjectError> {
        if !self.stamp(repository).is_file() {
            return Ok(None);
        }
        let output = tool::output(
            self.program("apt-cache", repository)
                .args(["showsrc", "--only-source", "--"])
                .arg(&archive.package),
            "apt",
        )?;
        let index = String::from_utf8_lossy(&output.stdout);
        if let Some(version) = version_with(&index, &archive.sha256) {
            return Ok(Some(Located {
                version,
                repository: repository.clone(),
            }));
        }
        match hash_of(&index, &archive.file) {
            Some(listed) => Err(apt_error(format!(
                "the source index lists {} with SHA-256 {listed}, the manifest with {}",
                archive.file, archive.sha256
            ))),
            None => Ok(None),
        }
    }

    fn download(
        &self,
        located: &Located,
        archive: &Archive,
        target: &Path,
    ) -> Result<(), SubjectError> {
        let repository = &located.repository;
        let output = tool::output(
            self.program("apt-get", repository)
                .args(["source", "--print-uris", "--only-source", "--"])
                .arg(format!("{}={}", archive.package, located.version)),
            "apt",
        )?;
        let uris = String::from_utf8_lossy(&output.stdout);
        let Some(uri) = uri_of(&uris, &archive.sha256) else {
            return Err(apt_error(complaints(&tool::text(&output))));
        };
        let folder = target.parent().unwrap_or(Path::new("."));
        cache::create(folder)?;
        let part = folder.join("download.part");
        let output = tool::output(
            self.program(helper(), repository)
                .arg("download-file")
                .arg(uri)
                .arg(&part)
                .arg(format!("SHA256:{}", archive.sha256)),
            "apt",
        )?;
        if !output.status.success() {
            return Err(apt_error(complaints(&tool::text(&output))));
        }
        fs::rename(&part, target).at("write", target)
    }
}

fn apt_error(message: String) -> SubjectError {
    SourceError::Apt { message }.into()
}

/// The lines in which apt complains, else its last line.
fn complaints(output: &str) -> String {
    let lines: Vec<_> = output
        .lines()
        .filter(|line| line.starts_with("E:") || line.starts_with("Err:"))
        .collect();
    if lines.is_empty() {
        output.lines().last().unwrap_or_default().to_owned()
    } else {
        lines.join("; ")
    }
}

/// The version of the index entry (of `apt-cache showsrc`) that lists `sha256`.
fn version_with(index: &str, sha256: &str) -> Option<String> {
    index
        .split("\n\n")
        .find(|entry| {
            entry
                .lines()
                .any(|line| line.trim_start().starts_with(sha256))
        })?
        .lines()
        .find_map(|line| line.strip_prefix("Version: "))
        .map(|version| version.trim().to_owned())
}

/// The SHA-256 by which the index lists a file of this name.
fn hash_of<'a>(index: &'a str, file: &str) -> Option<&'a str> {
    let names = source::names(file);
    index.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (hash, _size, name) = (words.next()?, words.next()?, words.next()?);
        (hash.len() == 64 && names.iter().any(|known| known == name)).then_some(hash)
    })
}

/// The address, in the output of `--print-uris`, of the file with this hash.
fn uri_of<'a>(uris: &'a str, sha256: &str) -> Option<&'a str> {
    let hash = format!("SHA256:{sha256}");
    uris.lines()
        .find(|line| line.split_whitespace().last() == Some(&hash))?
        .strip_prefix('\'')?
        .split_once('\'')
        .map(|(uri, _)| uri)
}

/// apt's download helper, which lies beside its methods.
fn helper() -> PathBuf {
    configuration("Dir::Bin::methods/d")
        .and_then(|methods| methods.parent().map(|folder| folder.join("apt-helper")))
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from("/usr/lib/apt/apt-helper"))
}

/// A path of apt's configuration (`/d` for a folder, `/f` for a file).
fn configuration(name: &str) -> Option<PathBuf> {
    let output = tool::command("apt-config")
        .args(["shell", "VALUE", name])
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let value = text.trim().strip_prefix("VALUE='")?.strip_suffix('\'')?;
    Some(PathBuf::from(value.trim_end_matches('/')))
}

/// Every source list of the machine: its path and text.
pub(crate) fn configured_sources() -> Result<Vec<(PathBuf, String)>, SubjectError> {
    tool::output(tool::command("apt-get").arg("--version"), "apt")?;
    let list = configuration("Dir::Etc::sourcelist/f");
    let parts = configuration("Dir::Etc::sourceparts/d");
    let mut files: Vec<PathBuf> = list.into_iter().filter(|path| path.is_file()).collect();
    if let Some(parts) = parts.filter(|folder| folder.is_dir()) {
        let mut found = Vec::new();
        for entry in fs::read_dir(&parts).at("list", &parts)? {
            let path = entry.at("list", &parts)?.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if matches!(extension, Some("list" | "sources")) {
                found.push(path);
            }
        }
        found.sort();
        files.extend(found);
    }
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).at("read", &path)?;
            Ok((path, text))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_gives_version_and_address_of_a_hash() {
        let (old, new) = ("a".repeat(64), "b".repeat(64));
        let index = format!(
            "Package: p\nVersion: 1-1\nChecksums-Sha256:\n {old} 10 p_1-1.debian.tar.xz\n\n\
             Package: p\nVersion: 1-2\nChecksums-Sha256:\n {new} 10 p_1-2.debian.tar.xz\n\n"
        );
        assert_eq!(version_with(&index, &new).as_deref(), Some("1-2"));
        assert_eq!(version_with(&index, &"c".repeat(64)), None);
        assert_eq!(hash_of(&index, "p_1-1.tar.xz"), Some(old.as_str()));
        let uris = format!(
            "Need to get 20 B of source archives.\n\
             'http://mirror.example/p_1-2.dsc' p_1-2.dsc 10 SHA256:{old}\n\
             'http://mirror.example/p_1-2.debian.tar.xz' p_1-2.debian.tar.xz 10 SHA256:{new}\n"
        );
        assert_eq!(
            uri_of(&uris, &new),
            Some("http://mirror.example/p_1-2.debian.tar.xz")
        );
    }
}
