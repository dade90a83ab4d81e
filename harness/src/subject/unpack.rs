//! From archives to a source tree: unpack, apply the patch queue.

use std::fs::{File, FileTimes};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::error::{AtFile, SourceError, SubjectError};
use super::manifest::Queue;
use super::tool;

/// Unpacks an upstream archive into `tree`, without its top folder.
///
/// # Errors
/// If tar is missing or refuses the archive.
pub fn upstream(archive: &Path, tree: &Path) -> Result<(), SubjectError> {
    tar(archive, tree, &["--strip-components=1"])
}

/// Copies a source tree, keeping timestamps: a generated file that seems older
/// than its source would be made again.
///
/// # Errors
/// If `cp` fails.
pub fn folder(from: &Path, tree: &Path) -> Result<(), SubjectError> {
    let output = tool::output(
        tool::command("cp")
            .args(["-a", "--no-preserve=ownership", "--"])
            .arg(from.join("."))
            .arg(tree),
        "coreutils",
    )?;
    if output.status.success() {
        return Ok(());
    }
    Err(SourceError::Unpack {
        file: from.to_path_buf(),
        output: tool::text(&output),
    }
    .into())
}

/// Unpacks a queue's archive (`debian/`) into `tree` and applies its patches,
/// as far as the manifest says.
///
/// # Errors
/// A patch that the manifest names and the queue lacks, or one that does not
/// apply.
pub fn queue(archive: &Path, queue: &Queue, tree: &Path) -> Result<(), SubjectError> {
    tar(archive, tree, &[])?;
    apply(queue, tree)
}

fn tar(archive: &Path, into: &Path, options: &[&str]) -> Result<(), SubjectError> {
    let output = tool::output(
        tool::command("tar")
            .args(["--no-same-owner", "--no-same-permissions"])
            .args(options)
            .arg("-C")
            .arg(into)
            .arg("-xf")
            .arg(archive),
        "tar",
    )?;
    if output.status.success() {
        return Ok(());
    }
    Err(SourceError::Unpack {
        file: archive.to_path_buf(),
        output: tool::text(&output),
    }
    .into())
}

/// One line of `debian/patches/series`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Patch {
    name: String,
    strip: String,
}

fn series(text: &str) -> Vec<Patch> {
    text.lines()
        .map(|line| line.split(" #").next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?.to_owned();
            let strip = words
                .find(|word| word.starts_with("-p"))
                .unwrap_or("-p1")
                .to_owned();
            Some(Patch { name, strip })
        })
        .collect()
}

/// The patches of a series that a version has.
fn chosen(all: Vec<Patch>, queue: &Queue) -> Result<Vec<Patch>, SourceError> {
    let no_such = |patch: &str, key| SourceError::NoSuchPatch {
        file: queue.archive.file.clone(),
        patch: patch.to_owned(),
        key,
        known: all
            .iter()
            .map(|patch| patch.name.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    };
    let position = |name: &String| all.iter().position(|patch| patch.name == *name);
    for name in &queue.without {
        position(name).ok_or_else(|| no_such(name, "without"))?;
    }
    let count = match &queue.upto {
        None => all.len(),
        Some(name) => position(name).ok_or_else(|| no_such(name, "upto"))? + 1,
    };
    Ok(all
        .into_iter()
        .take(count)
        .filter(|patch| !queue.without.contains(&patch.name))
        .collect())
}

/// Applies the queue that lies in `tree/debian/patches`.
fn apply(queue: &Queue, tree: &Path) -> Result<(), SubjectError> {
    let folder = tree.join("debian/patches");
    let list = folder.join("series");
    let text = std::fs::read_to_string(&list).at("read", &list)?;
    let start = SystemTime::now();
    for patch in chosen(series(&text), queue)? {
        let output = tool::output(
            tool::command("patch")
                .args(["-N", "-F0", "--force", "--no-backup-if-mismatch"])
                .args(["-u", "-r", "-"])
                .arg(&patch.strip)
                .arg("-d")
                .arg(tree)
                .arg("-i")
                .arg(folder.join(&patch.name)),
            "patch",
        )?;
        if !output.status.success() {
            return Err(SourceError::PatchFails {
                patch: patch.name,
                file: queue.archive.file.clone(),
                output: tool::tail(&tool::text(&output), 30),
            }
            .into());
        }
    }
    same_time(tree, start)
}

/// Gives all files that the queue touched one and the same time, as
/// `dpkg-source` does: the order of patches must not make a generated file
/// seem older than its source.
fn same_time(tree: &Path, start: SystemTime) -> Result<(), SubjectError> {
    for entry in walkdir::WalkDir::new(tree) {
        let entry = entry.map_err(std::io::Error::from).at("list", tree)?;
        if !entry.file_type().is_file() {
            continue;
        }
        let path: PathBuf = entry.into_path();
        let modified = path.metadata().and_then(|data| data.modified());
        if modified.at("inspect", &path)? >= start {
            File::open(&path)
                .and_then(|file| file.set_times(FileTimes::new().set_modified(start)))
                .at("set the time of", &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::manifest::Archive;

    const FIRST: &str = "--- a/file.c\n+++ b/file.c\n@@ -1 +1 @@\n-one\n+two\n";
    const SECOND: &str = "--- a/file.c\n+++ b/file.c\n@@ -1 +1 @@\n-two\n+three\n";

    fn queue(upto: Option<&str>, without: &[&str]) -> Queue {
        Queue {
            archive: Archive {
                file: "p_1-1.tar.xz".to_owned(),
                sha256: String::new(),
                package: "p".to_owned(),
            },
            upto: upto.map(str::to_owned),
            without: without.iter().map(ToString::to_string).collect(),
        }
    }

    fn applied(queue: &Queue) -> Result<String, SubjectError> {
        let tree = tempfile::tempdir().at("create", Path::new("tree"))?;
        let write = |name: &str, text: &str| {
            let path = tree.path().join(name);
            std::fs::write(&path, text).at("write", &path)
        };
        let patches = tree.path().join("debian/patches/sub");
        std::fs::create_dir_all(&patches).at("create", &patches)?;
        write("file.c", "one\n")?;
        write("debian/patches/first.patch", FIRST)?;
        write("debian/patches/sub/second.patch", SECOND)?;
        write(
            "debian/patches/series",
            "# comment\n\nfirst.patch\nsub/second.patch -p1 # why\n",
        )?;
        apply(queue, tree.path())?;
        let file = tree.path().join("file.c");
        std::fs::read_to_string(&file).at("read", &file)
    }

    #[test]
    fn a_queue_applies_in_order_up_to_its_end_or_a_patch() -> Result<(), SubjectError> {
        assert_eq!(applied(&queue(None, &[]))?, "three\n");
        assert_eq!(applied(&queue(Some("first.patch"), &[]))?, "two\n");
        assert_eq!(applied(&queue(None, &["sub/second.patch"]))?, "two\n");
        Ok(())
    }

    #[test]
    fn a_patch_that_does_not_apply_is_named() {
        let error = applied(&queue(None, &["first.patch"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("patch sub/second.patch of p_1-1.tar.xz does not apply"),
            "{error}"
        );
        assert!(error.contains("FAILED"), "{error}");
    }

    #[test]
    fn a_patch_that_is_not_there_is_named() {
        let error = applied(&queue(Some("third.patch"), &[])).unwrap_err();
        insta::assert_snapshot!(error, @r"
        the patch queue of p_1-1.tar.xz has no patch 'third.patch' (named by `upto`)
          it has: first.patch, sub/second.patch
        ");
    }
}
