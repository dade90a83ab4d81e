//! Takes out text that differs between equal runs, by the subject's own rules.

use std::borrow::Cow;

use regex::Regex;

/// The subject's rules for volatile text, applied in order to replies, logs and
/// files alike.
#[derive(Clone, Debug, Default)]
pub struct Normaliser {
    rules: Vec<(Regex, String)>,
}

impl Normaliser {
    /// Compiles pairs of pattern and replacement.
    ///
    /// # Errors
    /// When a pattern is no regular expression.
    pub fn new<'a>(
        rules: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, regex::Error> {
        let rules = rules
            .into_iter()
            .map(|(pattern, replace)| {
                // Line by line, as the rules are written.
                Ok((Regex::new(&format!("(?m){pattern}"))?, replace.to_owned()))
            })
            .collect::<Result<_, regex::Error>>()?;
        Ok(Self { rules })
    }

    /// The text with volatile parts replaced; bytes that are not UTF-8 become
    /// the replacement character, the same in every run.
    #[must_use]
    pub fn apply(&self, bytes: &[u8]) -> String {
        let mut text: Cow<'_, str> = String::from_utf8_lossy(bytes);
        for (pattern, replace) in &self.rules {
            if let Cow::Owned(replaced) = pattern.replace_all(&text, replace.as_str()) {
                text = Cow::Owned(replaced);
            }
        }
        text.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_apply_to_each_line_in_order() {
        let normaliser = Normaliser::new([("^PING :.*$", "PING :X"), ("X$", "T")]).unwrap();
        assert_eq!(
            normaliser.apply(b"PING :81\nPING :9\nq"),
            "PING :T\nPING :T\nq"
        );
    }
}
