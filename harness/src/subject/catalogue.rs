//! All subjects and update pairs of a project.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::error::{AtFile, SubjectError};
use super::manifest::{self, Subject};
use super::pair::{self, Pair};

/// The subjects and pairs of one project, sorted by name.
#[derive(Debug, Clone)]
pub struct Catalogue {
    /// The folder that holds `subjects/` and `update-pairs/`.
    pub root: PathBuf,
    /// Every subject.
    pub subjects: Vec<Subject>,
    /// Every update pair.
    pub pairs: Vec<Pair>,
}

/// The project's root: `given` (`--root`), else `KAIROS_ROOT`, else the current
/// directory or its nearest ancestor that holds `subjects/` and `update-pairs/`.
///
/// # Errors
/// [`SubjectError::NoProject`] if there is none.
pub fn find_root(given: Option<&Path>) -> Result<PathBuf, SubjectError> {
    let named = given
        .map(Path::to_path_buf)
        .or_else(|| std::env::var_os("KAIROS_ROOT").map(PathBuf::from));
    let is_root =
        |folder: &Path| folder.join("subjects").is_dir() && folder.join("update-pairs").is_dir();
    if let Some(folder) = named {
        // A project that is only begun may lack pairs; whoever names it knows.
        return if folder.join("subjects").is_dir() {
            std::path::absolute(&folder).at("find", &folder)
        } else {
            Err(SubjectError::NoProject { start: folder })
        };
    }
    let start = std::env::current_dir().at("find", Path::new("."))?;
    start
        .ancestors()
        .find(|folder| is_root(folder))
        .map(Path::to_path_buf)
        .ok_or(SubjectError::NoProject {
            start: start.clone(),
        })
}

impl Catalogue {
    /// Reads every manifest under `root`.
    ///
    /// # Errors
    /// The first wrong manifest, or a folder that cannot be read.
    pub fn open(root: &Path) -> Result<Self, SubjectError> {
        let subjects = folders_with(&root.join("subjects"), manifest::MANIFEST)?
            .iter()
            .map(|folder| Subject::load(folder))
            .collect::<Result<Vec<_>, _>>()?;
        let pairs = folders_with(&root.join("update-pairs"), pair::MANIFEST)?
            .iter()
            .map(|folder| Pair::load(folder, &subjects))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            root: root.to_path_buf(),
            subjects,
            pairs,
        })
    }

    /// The subject of this name.
    ///
    /// # Errors
    /// [`SubjectError::Unknown`] naming those that exist, or the missing manifest of a
    /// folder of this name.
    pub fn subject(&self, name: &str) -> Result<&Subject, SubjectError> {
        let folder = self.root.join("subjects").join(name);
        let manifest = folder.join(manifest::MANIFEST);
        if !name.is_empty() && folder.is_dir() && !manifest.is_file() {
            return Err(Errno::ENOENT).at("read", &manifest);
        }
        self.subjects
            .iter()
            .find(|subject| subject.name == name)
            .ok_or_else(|| SubjectError::Unknown {
                kind: "subject",
                name: name.to_owned(),
                known: joined(self.subjects.iter().map(|subject| &subject.name)),
            })
    }

    /// The update pair with this id.
    ///
    /// # Errors
    /// [`SubjectError::Unknown`] naming those that exist.
    pub fn pair(&self, id: &str) -> Result<&Pair, SubjectError> {
        self.pairs
            .iter()
            .find(|pair| pair.id == id)
            .ok_or_else(|| SubjectError::Unknown {
                kind: "update pair",
                name: id.to_owned(),
                known: joined(self.pairs.iter().map(|pair| &pair.id)),
            })
    }
}

fn joined<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The sub-folders of `parent` that hold a file of this name, sorted.
pub(crate) fn folders_with(parent: &Path, file: &str) -> Result<Vec<PathBuf>, SubjectError> {
    if !parent.is_dir() {
        return Ok(Vec::new());
    }
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(parent).at("list", parent)? {
        let folder = entry.at("list", parent)?.path();
        if folder.join(file).is_file() {
            folders.push(folder);
        }
    }
    folders.sort();
    Ok(folders)
}
