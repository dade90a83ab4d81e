//! Texts of a script: escapes, and templates with captured variables.

use super::pattern::Variables;

/// Bytes to send, with captured variables to insert.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Bytes(Vec<u8>),
    Variable(u8),
}

impl Template {
    /// Fixed bytes.
    pub fn fixed(bytes: Vec<u8>) -> Self {
        Self {
            parts: vec![Part::Bytes(bytes)],
        }
    }

    /// Parses `text {var} text`, `{{` standing for a brace, and appends `end`.
    pub fn parse(
        text: &str,
        end: &[u8],
        variable: &dyn Fn(&str) -> Option<u8>,
    ) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut fixed = Vec::new();
        let mut rest = text;
        while let Some(brace) = rest.find('{') {
            fixed.extend_from_slice(&rest.as_bytes()[..brace]);
            if let Some(after) = rest[brace..].strip_prefix("{{") {
                fixed.push(b'{');
                rest = after;
                continue;
            }
            let (name, after) = rest[brace + 1..]
                .split_once('}')
                .ok_or("`{` without `}`; write `{{` for the brace itself")?;
            let position = variable(name)
                .ok_or_else(|| format!("no earlier pattern captures `{{:{name}}}`"))?;
            parts.push(Part::Bytes(std::mem::take(&mut fixed)));
            parts.push(Part::Variable(position));
            rest = after;
        }
        fixed.extend_from_slice(rest.as_bytes());
        fixed.extend_from_slice(end);
        parts.push(Part::Bytes(fixed));
        Ok(Self { parts })
    }

    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The bytes, with the values of `variables` inserted.
    pub fn fill(&self, variables: &Variables) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in &self.parts {
            match part {
                Part::Bytes(fixed) => bytes.extend_from_slice(fixed),
                Part::Variable(position) => {
                    bytes.extend_from_slice(
                        variables[usize::from(*position)].to_string().as_bytes(),
                    );
                }
            }
        }
        bytes
    }
}

/// Resolves `\r \n \t \0 \\ \xHH`.
///
/// # Errors
/// Which escape is wrong.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let (byte, length) = match escape.chars().next() {
            Some('r') => (b'\r', 1),
            Some('n') => (b'\n', 1),
            Some('t') => (b'\t', 1),
            Some('0') => (0, 1),
            Some('\\') => (b'\\', 1),
            Some('x') => {
                let digits = escape
                    .get(1..3)
                    .ok_or("`\\x` needs two hexadecimal digits")?;
                let byte = u8::from_str_radix(digits, 16)
                    .map_err(|_| format!("`\\x{digits}` is not hexadecimal"))?;
                (byte, 3)
            }
            _ => return Err("unknown escape; known are \\r \\n \\t \\0 \\\\ \\xHH".to_owned()),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_insert_variables_and_braces() {
        let template =
            Template::parse("a {{ {p} b", b"\r\n", &|name| (name == "p").then_some(1)).unwrap();
        let mut variables = [0; super::super::MAX_VARIABLES];
        variables[1] = 77;
        assert_eq!(template.fill(&variables), b"a { 77 b\r\n");
        assert!(
            Template::parse("{q}", b"", &|_| None)
                .unwrap_err()
                .contains("{:q}")
        );
    }

    #[test]
    fn escapes_resolve() {
        assert_eq!(unescape("a\\r\\n\\x41\\\\").unwrap(), b"a\r\nA\\");
        assert!(unescape("\\q").is_err());
    }
}
