//! Gets the archives of a version and makes its source tree.
//!
//! An archive comes from the folders that the user names, else from the cache,
//! else through apt. Wherever it comes from, its SHA-256 must be the manifest's.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::apt::Apt;
use super::cache::{self, Cache};
use super::error::{AtFile, SourceError, SubjectError};
use super::manifest::{Archive, Subject, Version, VersionSource};
use super::unpack;

/// Where archives may come from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// Local folders of archives, searched first.
    pub folders: Vec<PathBuf>,
    /// Holds what was fetched before.
    pub cache: Cache,
    /// Whether apt may be asked.
    pub network: bool,
}

impl Sources {
    /// The folders `given` (`--archives`), else those of `KAIROS_ARCHIVES`
    /// (separated by colons), and the cache and apt of this machine.
    #[must_use]
    pub fn from_environment(given: Vec<PathBuf>, cache: Cache) -> Self {
        let folders = if given.is_empty() {
            std::env::var_os("KAIROS_ARCHIVES")
                .filter(|value| !value.is_empty())
                .map(|value| std::env::split_paths(&value).collect())
                .unwrap_or_default()
        } else {
            given
        };
        Self {
            folders,
            cache,
            network: true,
        }
    }

    /// The archive as a verified file on disk. `manifest` is for errors.
    ///
    /// # Errors
    /// [`SourceError::HashMismatch`] if a file has the name but other bytes,
    /// [`SourceError::NotFound`] with all that was tried.
    pub fn archive(&self, archive: &Archive, manifest: &Path) -> Result<PathBuf, SubjectError> {
        let mut tried = Vec::new();
        for folder in &self.folders {
            for name in names(&archive.file) {
                let path = folder.join(name);
                if path.is_file() {
                    verify(
                        &path,
                        archive,
                        manifest,
                        "it comes from a local folder of archives",
                    )?;
                    return Ok(path);
                }
            }
            tried.push(format!("  not in {}", folder.display()));
        }
        let cached = self.cache.archive(&archive.sha256, &archive.file);
        if cached.is_file() {
            verify(&cached, archive, manifest, "it comes from the cache")?;
            return Ok(cached);
        }
        if self.network {
            let _lock = self.cache.lock("apt")?;
            // Another Kairos may have fetched it while this one waited.
            if !cached.is_file() {
                match Apt::new(&self.cache.apt()).fetch(archive, &cached) {
                    Ok(()) => {}
                    Err(error) => tried.push(format!("  {error}")),
                }
            }
            if cached.is_file() {
                verify(&cached, archive, manifest, "apt fetched it")?;
                return Ok(cached);
            }
        }
        Err(SourceError::NotFound {
            file: archive.file.clone(),
            package: archive.package.clone(),
            tried: tried.join("\n"),
        }
        .into())
    }

    /// Makes the version's source tree in the empty folder `tree`.
    ///
    /// # Errors
    /// Archives that cannot be had, or patches that do not apply.
    pub fn tree(
        &self,
        subject: &Subject,
        version: &Version,
        tree: &Path,
    ) -> Result<(), SubjectError> {
        cache::create(tree)?;
        match &version.source {
            VersionSource::Folder(folder) => {
                exists(folder, subject, version)?;
                unpack::folder(folder, tree)
            }
            VersionSource::Archive { archive, queue } => {
                let manifest = subject.manifest();
                unpack::upstream(&self.archive(archive, &manifest)?, tree)?;
                if let Some(queue) = queue {
                    let file = self.archive(&queue.archive, &manifest)?;
                    unpack::queue(&file, queue, tree)?;
                }
                Ok(())
            }
        }
    }
}

/// The folder of a version with its own tree must be there.
pub(crate) fn exists(
    folder: &Path,
    subject: &Subject,
    version: &Version,
) -> Result<(), SourceError> {
    if folder.is_dir() {
        return Ok(());
    }
    Err(SourceError::NoFolder {
        folder: folder.to_path_buf(),
        subject: subject.name.clone(),
        version: version.label.clone(),
    })
}

/// The names under which an archive may lie: Debian calls a queue's archive
/// `NAME.debian.tar.xz`, and a manifest may leave the word out.
pub(crate) fn names(file: &str) -> Vec<String> {
    let mut names = vec![file.to_owned()];
    if let Some((stem, compression)) = file.rsplit_once(".tar.") {
        if let Some(short) = stem.strip_suffix(".debian") {
            names.push(format!("{short}.tar.{compression}"));
        } else if stem.strip_suffix(".orig").is_none() {
            names.push(format!("{stem}.debian.tar.{compression}"));
        }
    }
    names
}

/// SHA-256 of a file, in lower-case hexadecimal.
///
/// # Errors
/// If the file cannot be read.
pub fn sha256(path: &Path) -> Result<String, SubjectError> {
    let mut hasher = Sha256::new();
    File::open(path)
        .and_then(|mut file| io::copy(&mut file, &mut HashWriter(&mut hasher)))
        .at("read", path)?;
    Ok(hexadecimal(&hasher.finalize()))
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn verify(
    file: &Path,
    archive: &Archive,
    manifest: &Path,
    origin: &str,
) -> Result<(), SubjectError> {
    let found = sha256(file)?;
    if found == archive.sha256 {
        return Ok(());
    }
    Err(SourceError::HashMismatch {
        file: file.to_path_buf(),
        expected: archive.sha256.clone(),
        found,
        origin: origin.to_owned(),
        manifest: manifest.to_path_buf(),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(folder: &Path) -> Sources {
        Sources {
            folders: vec![folder.join("archives")],
            cache: Cache::at(folder.join("cache")),
            network: false,
        }
    }

    fn archive(sha256: &str) -> Archive {
        Archive {
            file: "p_1-1.tar.xz".to_owned(),
            sha256: sha256.to_owned(),
            package: "p".to_owned(),
        }
    }

    /// SHA-256 of "text".
    const HASH: &str = "982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1";

    #[test]
    fn an_archive_comes_from_a_folder_under_either_name_or_from_the_cache() {
        let folder = tempfile::tempdir().unwrap();
        let sources = sources(folder.path());
        let manifest = Path::new("subject.toml");
        let cached = sources.cache.archive(HASH, "p_1-1.tar.xz");
        fs_write(&cached, "text");
        assert_eq!(sources.archive(&archive(HASH), manifest).unwrap(), cached);
        let local = folder.path().join("archives/p_1-1.debian.tar.xz");
        fs_write(&local, "text");
        assert_eq!(sources.archive(&archive(HASH), manifest).unwrap(), local);
    }

    #[test]
    fn wrong_contents_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let sources = sources(folder.path());
        fs_write(&folder.path().join("archives/p_1-1.tar.xz"), "other");
        let error = sources
            .archive(&archive(HASH), Path::new("subjects/p/subject.toml"))
            .unwrap_err()
            .to_string()
            .replace(&folder.path().display().to_string(), "DIR");
        insta::assert_snapshot!(error, @r"
        DIR/archives/p_1-1.tar.xz: wrong contents
          expected SHA-256 982d9e3eb996f559e633f4d194def3761d909f5a3b647d1a851fead67c32c9d1
          found    SHA-256 d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa
          it comes from a local folder of archives; remove or replace that file, or correct sha256 in subjects/p/subject.toml if the archive is right
        ");
    }

    #[test]
    fn an_archive_that_is_nowhere_names_the_places() {
        let folder = tempfile::tempdir().unwrap();
        let error = sources(folder.path())
            .archive(&archive(HASH), Path::new("subject.toml"))
            .unwrap_err()
            .to_string()
            .replace(&folder.path().display().to_string(), "DIR");
        insta::assert_snapshot!(error, @r"
        cannot get p_1-1.tar.xz (source package p):
          not in DIR/archives
          put the archive into a folder and name that with --archives or KAIROS_ARCHIVES
        ");
    }

    fn fs_write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}
