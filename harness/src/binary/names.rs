//! How functions are named.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A function of one version: its name and the source file that defines it,
/// relative to the source tree. Static functions of equal name differ by file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FunctionName {
    /// Name in the symbol table.
    pub name: String,
    /// Source file, relative to the root of the source tree.
    pub file: String,
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.file)
    }
}

/// A source path as debug information gives it (working directory and name),
/// relative to the tree that the build maps to `/src`. Files outside the tree
/// keep their absolute path.
#[must_use]
pub fn relative_source(directory: &str, name: &str) -> String {
    let whole = if name.starts_with('/') || directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            other => parts.push(other),
        }
    }
    if parts.first() == Some(&"src") && whole.starts_with('/') {
        parts.remove(0);
        return parts.join("/");
    }
    if whole.starts_with('/') {
        format!("/{}", parts.join("/"))
    } else {
        parts.join("/")
    }
}

#[cfg(test)]
mod tests {
    use super::relative_source;

    #[test]
    fn paths_inside_the_tree_lose_the_prefix() {
        assert_eq!(relative_source("/src/a", "../b/./c.c"), "b/c.c");
        assert_eq!(relative_source("/src", "/src/x.c"), "x.c");
        assert_eq!(
            relative_source("/src", "/usr/include/x.h"),
            "/usr/include/x.h"
        );
        assert_eq!(relative_source("", "x.c"), "x.c");
    }
}
