//! Patterns for one line of text: `*` for any text, `{:name}` for a captured
//! number, ` || ` between alternatives. They compile to plain tables and match
//! without allocating, so that a client can live in a tracee's memory.

use super::MAX_VARIABLES;

/// One element of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// This byte.
    Byte(u8),
    /// Any bytes, also none.
    Any,
    /// One or more decimal digits, stored in this variable.
    Number(u8),
}

/// A compiled pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    alternatives: Vec<Vec<Token>>,
}

/// A pattern that cannot be compiled.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// An opening brace without `:name}`.
    #[error("`{{` opens a capture and must read `{{:name}}`; write `\\{{` for the brace itself")]
    Capture,
    /// Too many different variables.
    #[error("more than {MAX_VARIABLES} variables in one session")]
    TooManyVariables,
}

/// Variables of a session, by position.
pub type Variables = [u32; MAX_VARIABLES];

impl Pattern {
    /// Compiles `text`; `variable` gives the position of a variable's name.
    ///
    /// # Errors
    /// When a capture is malformed or there are too many variables.
    pub fn compile(
        text: &str,
        variable: &mut dyn FnMut(&str) -> Option<u8>,
    ) -> Result<Self, PatternError> {
        let alternatives = text
            .split(" || ")
            .map(|alternative| compile_one(alternative, variable))
            .collect::<Result<_, _>>()?;
        Ok(Self { alternatives })
    }

    pub(super) fn alternatives(&self) -> &[Vec<Token>] {
        &self.alternatives
    }

    /// Whether `line` matches; captures are written only if it does.
    #[must_use]
    pub fn matches(&self, line: &[u8], variables: &mut Variables) -> bool {
        self.alternatives.iter().any(|tokens| {
            let mut captured = *variables;
            let matched = matches_from(tokens, line, &mut captured);
            if matched {
                *variables = captured;
            }
            matched
        })
    }
}

fn compile_one(
    text: &str,
    variable: &mut dyn FnMut(&str) -> Option<u8>,
) -> Result<Vec<Token>, PatternError> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match first {
            '\\' if rest[1..].starts_with(['*', '{', '\\']) => {
                tokens.push(Token::Byte(rest.as_bytes()[1]));
                rest = &rest[2..];
            }
            '*' => {
                tokens.push(Token::Any);
                rest = &rest[1..];
            }
            '{' => {
                let name = rest
                    .strip_prefix("{:")
                    .and_then(|r| r.split_once('}'))
                    .ok_or(PatternError::Capture)?;
                tokens.push(Token::Number(
                    variable(name.0).ok_or(PatternError::TooManyVariables)?,
                ));
                rest = name.1;
            }
            other => {
                let end = other.len_utf8();
                tokens.extend(rest[..end].bytes().map(Token::Byte));
                rest = &rest[end..];
            }
        }
    }
    Ok(tokens)
}

/// Matches greedily from left to right, going back to the last `*` on a mismatch:
/// a later `*` never needs an earlier one to take more.
fn matches_from(tokens: &[Token], line: &[u8], variables: &mut Variables) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let advanced = match tokens.get(token) {
            None if at == line.len() => return true,
            None => None,
            Some(Token::Any) => {
                retry = Some((token + 1, at));
                Some(0)
            }
            Some(Token::Byte(byte)) => (line.get(at) == Some(byte)).then_some(1),
            Some(Token::Number(variable)) => {
                number(&line[at.min(line.len())..]).map(|(value, length)| {
                    variables[usize::from(*variable)] = value;
                    length
                })
            }
        };
        if let Some(length) = advanced {
            token += 1;
            at += length;
        } else {
            match retry {
                Some((after_any, from)) if from < line.len() => {
                    retry = Some((after_any, from + 1));
                    (token, at) = (after_any, from + 1);
                }
                _ => return false,
            }
        }
    }
}

fn number(text: &[u8]) -> Option<(u32, usize)> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    let value = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    Some((value, digits))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn compile(text: &str) -> (Pattern, Vec<String>) {
        let mut names = Vec::new();
        let pattern = Pattern::compile(text, &mut |name| {
            names.push(name.to_owned());
            u8::try_from(names.len() - 1).ok()
        })
        .unwrap();
        (pattern, names)
    }

    #[test]
    fn captures_a_passive_port() {
        let (pattern, names) = compile("227 *({:a},{:b},{:c},{:d},{:hi},{:lo})*");
        let mut variables = [0; MAX_VARIABLES];
        assert!(pattern.matches(
            b"227 Entering Passive Mode (127,0,0,1,195,80).",
            &mut variables
        ));
        assert_eq!(names[4], "hi");
        assert_eq!(variables[4..6], [195, 80]);
    }

    #[test]
    fn alternatives_and_escapes() {
        let (pattern, _) = compile("* 376 * || \\*OK\\{");
        let mut variables = [0; MAX_VARIABLES];
        assert!(pattern.matches(b":srv 376 end", &mut variables));
        assert!(pattern.matches(b"*OK{", &mut variables));
        assert!(!pattern.matches(b"xOK{", &mut variables));
    }

    #[test]
    fn a_lone_brace_is_refused() {
        let refused = Pattern::compile("a {b", &mut |_| Some(0));
        assert_eq!(refused, Err(PatternError::Capture));
    }

    proptest! {
        /// The matcher agrees with the same pattern as a regular expression.
        #[test]
        fn agrees_with_a_regular_expression(pattern in "[ab*]{0,8}", line in "[ab]{0,10}") {
            let (compiled, _) = compile(&pattern);
            let expression = format!("^{}$", pattern.replace('*', ".*"));
            let expected = regex::Regex::new(&expression).unwrap().is_match(&line);
            prop_assert_eq!(compiled.matches(line.as_bytes(), &mut [0; MAX_VARIABLES]), expected);
        }
    }
}
