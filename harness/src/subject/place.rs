//! Places in a manifest: from a byte range to line, column and the line's text.

use std::ops::Range;
use std::path::Path;

use super::error::ManifestError;

/// A manifest's text with its path, for errors that point into it.
pub(crate) struct Text<'a> {
    /// Where the text was read from.
    pub path: &'a Path,
    /// The whole file.
    pub text: &'a str,
}

impl Text<'_> {
    /// Line of a byte offset, counted from 1.
    pub fn line(&self, offset: usize) -> usize {
        let end = offset.min(self.text.len());
        self.text
            .get(..end)
            .map_or(1, |before| before.matches('\n').count() + 1)
    }

    /// An error at `span`: what is wrong, and what to do about it.
    pub fn error(
        &self,
        span: Range<usize>,
        wrong: impl Into<String>,
        mend: impl Into<String>,
    ) -> ManifestError {
        let mut start = span.start.min(self.text.len());
        while !self.text.is_char_boundary(start) {
            start -= 1;
        }
        let line_start = self.text[..start].rfind('\n').map_or(0, |at| at + 1);
        let excerpt = self.text[line_start..].lines().next().unwrap_or_default();
        ManifestError {
            file: self.path.to_path_buf(),
            line: self.line(start),
            column: self.text[line_start..start].chars().count() + 1,
            excerpt: excerpt.to_owned(),
            wrong: wrong.into(),
            mend: mend.into(),
        }
    }

    /// The TOML reader's own error, in the same form as ours.
    pub fn syntax(&self, error: &toml::de::Error) -> ManifestError {
        self.syntax_in(error, "docs/manifests.md")
    }

    /// The same for a file whose format another document describes.
    pub fn syntax_in(&self, error: &toml::de::Error, document: &str) -> ManifestError {
        let message = error.message().trim_end();
        let mend = if message.starts_with("unknown field") {
            format!("correct or remove this key; {document} lists all keys")
        } else if message.starts_with("missing field") {
            format!("add the key; {document} shows each with an example")
        } else {
            format!("see {document} for the format")
        };
        self.error(error.span().unwrap_or(0..0), message, mend)
    }
}
