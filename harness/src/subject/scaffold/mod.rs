//! Begins a subject from a source tree: a manifest with everything that can be
//! guessed, and a mark in each place that only a person can fill in.

mod recipe;
mod templates;

use std::fs;
use std::path::{Path, PathBuf};

use super::error::{AtFile, SubjectError};
use super::source::sha256;
use super::unpack;

pub use recipe::Recipe;
pub(crate) use templates::FILL_IN;

/// What to begin.
#[derive(Clone, Debug)]
pub struct Request {
    /// The subject's name.
    pub name: String,
    /// Source tree or archive of the first version.
    pub source: PathBuf,
    /// The same of a second version, if there is one yet.
    pub second: Option<PathBuf>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaffold {
    /// The subject's folder.
    pub subject: PathBuf,
    /// The pair's folder, if there are two versions.
    pub pair: Option<PathBuf>,
    /// How the program is probably built.
    pub recipe: Recipe,
    /// Each place to fill in: file, line from 1, its text.
    pub open: Vec<(PathBuf, usize, String)>,
}

/// A subject that cannot be begun.
#[derive(Debug, thiserror::Error)]
pub enum ScaffoldError {
    /// The name is none.
    #[error(
        "'{0}' cannot name a subject\n  use letters, digits and underscores; hyphens separate the parts of a pair's name"
    )]
    Name(String),
    /// Something of that name is there already.
    #[error("{0} exists already\n  choose another name, or remove it yourself")]
    Exists(PathBuf),
    /// The project lacks the folder that subjects lie in.
    #[error(
        "{0} is no project: it has no folder subjects/\n  make the folders subjects/ and update-pairs/ in it first"
    )]
    NoProject(PathBuf),
    /// The source is neither a folder nor an archive.
    #[error("{0} is neither a folder nor a tar archive of C sources")]
    Source(PathBuf),
    /// A source tree that the project is part of.
    #[error("{0} holds this project\n  name the folder of the server's sources alone")]
    Around(PathBuf),
    /// Two archives whose names give one label, or no label at all.
    #[error("both archives are of version {0}\n  give two versions, or leave out the second")]
    OneLabel(String),
    /// A file or an archive.
    #[error(transparent)]
    Subject(#[from] SubjectError),
}

/// Writes `subjects/NAME` and, for two versions, the pair's folder under `root`.
/// Nothing that exists is touched, and of a failure nothing is left.
///
/// # Errors
/// A wrong name, a name in use, or a source that cannot be read.
pub fn create(root: &Path, request: &Request) -> Result<Scaffold, ScaffoldError> {
    let name = &request.name;
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(is_word) {
        return Err(ScaffoldError::Name(name.clone()));
    }
    let subjects = root.join("subjects");
    if !subjects.is_dir() {
        return Err(ScaffoldError::NoProject(root.to_path_buf()));
    }
    let subject = subjects.join(name);
    refuse_existing(&subject)?;
    for source in std::iter::once(&request.source).chain(&request.second) {
        // Copied into itself, it would have no end.
        let within = |outer: &Path| {
            let outer = fs::canonicalize(outer).ok()?;
            fs::canonicalize(&subjects)
                .ok()
                .map(|it| it.starts_with(outer))
        };
        if within(source) == Some(true) {
            return Err(ScaffoldError::Around(source.clone()));
        }
    }
    let folder = tempfile::Builder::new()
        .prefix(".new-")
        .tempdir_in(&subjects)
        .at("create a folder in", &subjects)?;
    let first = Source::take(&request.source, "v1", folder.path())?;
    let second = match &request.second {
        Some(source) => Some(Source::take(source, "v2", folder.path())?),
        None => None,
    };
    if let Some(second) = second.as_ref().filter(|it| it.label == first.label) {
        return Err(ScaffoldError::OneLabel(second.label.clone()));
    }
    let pair = second
        .as_ref()
        .map(|second| format!("{name}-{}-{}", first.label, second.label))
        .map(|id| root.join("update-pairs").join(id));
    if let Some(pair) = &pair {
        refuse_existing(pair)?;
    }
    let recipe = recipe::guess(first.tree.path(), name);
    let sources: Vec<&Source> = std::iter::once(&first).chain(&second).collect();
    let manifest = templates::manifest(name, &sources, &recipe);
    let workloads = folder.path().join("workloads");
    fs::create_dir(&workloads).at("create", &workloads)?;
    for (path, text) in [
        ("subject.toml", manifest.as_str()),
        ("workloads/first.session", templates::FIRST),
        ("workloads/probe.session", templates::PROBE),
    ] {
        let path = folder.path().join(path);
        fs::write(&path, text).at("write", &path)?;
    }
    let pair_text = second
        .as_ref()
        .map(|second| templates::pair(name, &first.label, &second.label));
    drop((first, second));
    put(folder, &subject)?;
    if let (Some(pair), Some(text)) = (&pair, pair_text) {
        fs::create_dir_all(pair).at("create", pair)?;
        let path = pair.join("pair.toml");
        fs::write(&path, text).at("write", &path)?;
    }
    Ok(Scaffold {
        open: open_places(&subject)?,
        subject,
        pair,
        recipe,
    })
}

fn refuse_existing(place: &Path) -> Result<(), ScaffoldError> {
    match fs::symlink_metadata(place) {
        Ok(_) => Err(ScaffoldError::Exists(place.to_path_buf())),
        Err(_) => Ok(()),
    }
}

/// Gives the finished folder its name. A temporary folder is private; a subject is
/// not.
fn put(folder: tempfile::TempDir, subject: &Path) -> Result<(), SubjectError> {
    use std::os::unix::fs::PermissionsExt as _;
    let made = folder.path().to_path_buf();
    fs::set_permissions(&made, fs::Permissions::from_mode(0o755)).at("change", &made)?;
    fs::rename(&made, subject).at("create", subject)?;
    // It has another name by now: there is nothing to remove.
    let _ = folder.keep();
    Ok(())
}

/// Where a person must write something.
fn open_places(subject: &Path) -> Result<Vec<(PathBuf, usize, String)>, SubjectError> {
    let mut places = Vec::new();
    for file in [
        "subject.toml",
        "workloads/first.session",
        "workloads/probe.session",
    ] {
        let path = subject.join(file);
        let text = fs::read_to_string(&path).at("read", &path)?;
        for (number, line) in text.lines().enumerate() {
            if line.contains(FILL_IN) && !line.starts_with('#') {
                places.push((path.clone(), number + 1, line.trim().to_owned()));
            }
        }
    }
    Ok(places)
}

/// The sources of one version.
struct Source {
    label: String,
    /// What the manifest says of where they come from.
    origin: Origin,
    /// The tree to guess from.
    tree: Tree,
}

enum Origin {
    /// Copied beside the manifest.
    Folder,
    /// An archive as it is.
    Archive { file: String, sha256: String },
}

/// A tree that belongs to the subject, or one unpacked only to look at.
enum Tree {
    Kept(PathBuf),
    Unpacked(tempfile::TempDir),
}

impl Tree {
    fn path(&self) -> &Path {
        match self {
            Self::Kept(path) => path,
            Self::Unpacked(folder) => folder.path(),
        }
    }
}

impl Source {
    /// Copies a folder to `subject/LABEL`; looks into an archive.
    fn take(source: &Path, label: &str, subject: &Path) -> Result<Self, ScaffoldError> {
        if source.is_dir() {
            let tree = subject.join(label);
            fs::create_dir(&tree).at("create", &tree)?;
            unpack::folder(source, &tree)?;
            let git = tree.join(".git");
            if git.is_dir() {
                fs::remove_dir_all(&git).at("remove", &git)?;
            }
            return Ok(Self {
                label: label.to_owned(),
                origin: Origin::Folder,
                tree: Tree::Kept(tree),
            });
        }
        let file = source
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .filter(|name| source.is_file() && is_archive(name))
            .ok_or_else(|| ScaffoldError::Source(source.to_path_buf()))?;
        let unpacked = tempfile::tempdir().at("create a folder in", &std::env::temp_dir())?;
        unpack::upstream(source, unpacked.path())?;
        Ok(Self {
            label: label_of(&file).unwrap_or_else(|| label.to_owned()),
            origin: Origin::Archive {
                sha256: sha256(source)?,
                file,
            },
            tree: Tree::Unpacked(unpacked),
        })
    }
}

fn is_archive(name: &str) -> bool {
    name.contains(".tar") || name.ends_with(".tgz")
}

/// The version in an archive's name: `ngircd_27.orig.tar.xz`, `kvd-1.2.tar.gz`.
fn label_of(file: &str) -> Option<String> {
    let stem = file.split(".tar").next()?.trim_end_matches(".tgz");
    let stem = stem.trim_end_matches(".orig");
    let (_, version) = stem.rsplit_once(['_', '-'])?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".+~_".contains(c);
    let is_version = version.starts_with(|c: char| c.is_ascii_digit());
    (is_version && version.chars().all(allowed)).then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_names_of_archives() {
        let label = |name| label_of(name);
        assert_eq!(label("ngircd_27.orig.tar.xz").as_deref(), Some("27"));
        assert_eq!(label("kvd-1.2.3.tar.gz").as_deref(), Some("1.2.3"));
        assert_eq!(label("kvd-1.2.tgz").as_deref(), Some("1.2"));
        assert_eq!(label("kvd.tar.gz"), None);
        assert_eq!(label("kvd-main.tar.gz"), None);
    }
}
