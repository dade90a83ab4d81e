//! What a run could leave behind on the machine.

use std::fs;
use std::path::Path;

use super::Project;

/// Mounts and folders before a run.
pub struct Before {
    mounts: String,
    places: Vec<(String, Vec<String>)>,
}

/// Where a sandbox could leave files outside the project.
const PLACES: [&str; 6] = ["/mnt", "/media", "/srv", "/opt", "/dev/shm", "/run/lock"];

impl Before {
    /// Looks.
    pub fn look() -> Self {
        Self {
            mounts: mounts(),
            places: PLACES.iter().map(|p| ((*p).to_owned(), list(p))).collect(),
        }
    }

    /// Panics if a process, mount or file of the project's runs is left.
    pub fn compare(&self, project: &Project) {
        // A killed process group needs a moment to be gone; nothing else does.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !processes(project).is_empty() && std::time::Instant::now() < deadline {
            std::thread::yield_now();
        }
        let left = processes(project);
        assert!(left.is_empty(), "processes are left: {left:#?}");
        assert_eq!(self.mounts, mounts(), "mounts changed");
        for (place, before) in &self.places {
            assert_eq!(before, &list(place), "{place} changed");
        }
        let temporary = list(project.temporary());
        assert!(temporary.is_empty(), "temporary files: {temporary:?}");
    }
}

/// Processes that carry the project's token: those of Kairos and of its subjects.
/// Namespaces live as long as one of these or a mount.
pub fn processes(project: &Project) -> Vec<String> {
    let token = project.token();
    let me = std::process::id().to_string();
    list("/proc")
        .into_iter()
        .filter(|name| name.bytes().all(|b| b.is_ascii_digit()) && *name != me)
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == token.as_bytes())
        })
        .map(|pid| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            format!("{pid}: {}", String::from_utf8_lossy(&line).replace('\0', " "))
        })
        .collect()
}

fn mounts() -> String {
    fs::read_to_string("/proc/self/mounts").unwrap()
}

fn list(place: impl AsRef<Path>) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(place)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
