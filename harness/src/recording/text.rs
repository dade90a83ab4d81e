//! How a script writes what a client sent: readable lines where it can, escapes
//! where it must.

use std::fmt::Write as _;
use std::ops::Range;

/// Longest text of one `raw` directive, before escaping.
const LONGEST_RAW: usize = 4096;
/// Longest unit and fewest repetitions that are worth an `upload`.
const LONGEST_UNIT: usize = 1024;
const FEWEST_REPETITIONS: usize = 4;

/// The line end that `send` appends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// `\r\n`
    CrLf,
    /// `\n`
    Lf,
}

impl LineEnd {
    /// The line end of most lines in `texts`.
    pub fn of_most<'a>(texts: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut crlf, mut lf) = (0_usize, 0_usize);
        for text in texts {
            for line in text.split_inclusive(|byte| *byte == b'\n') {
                if line.ends_with(b"\r\n") {
                    crlf += 1;
                } else if line.ends_with(b"\n") {
                    lf += 1;
                }
            }
        }
        if crlf > lf { Self::CrLf } else { Self::Lf }
    }

    /// Its name in a header.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CrLf => "crlf",
            Self::Lf => "lf",
        }
    }

    const fn bytes(self) -> &'static [u8] {
        match self {
            Self::CrLf => b"\r\n",
            Self::Lf => b"\n",
        }
    }
}

/// A part of the bytes that stands for a variable's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Insertion {
    /// Which bytes.
    pub range: Range<usize>,
    /// The variable.
    pub variable: String,
}

/// Directives that send `bytes` on `connection`. Lines that were sent in one burst
/// stay one `raw`, since a server may see how its input was cut; only where a
/// variable is inserted each line is sent by itself.
#[must_use]
pub fn directives(
    connection: &str,
    bytes: &[u8],
    end: LineEnd,
    insertions: &[Insertion],
) -> Vec<String> {
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    if lines.len() > 1 && insertions.is_empty() {
        return bulk(connection, bytes);
    }
    let mut directives = Vec::new();
    let mut start = 0;
    for line in lines {
        let range = start..start + line.len();
        start = range.end;
        let inside: Vec<Insertion> = insertions
            .iter()
            .filter(|insertion| range.contains(&insertion.range.start))
            .map(|insertion| Insertion {
                range: insertion.range.start - range.start..insertion.range.end - range.start,
                variable: insertion.variable.clone(),
            })
            .collect();
        match as_line(line, end, &inside) {
            Some(text) => {
                directives.push(format!("send {connection} {text}").trim_end().to_owned());
            }
            None => directives.extend(bulk(connection, line)),
        }
    }
    directives
}

/// The text of a `send`, if the line can be one.
fn as_line(line: &[u8], end: LineEnd, insertions: &[Insertion]) -> Option<String> {
    let text = std::str::from_utf8(line.strip_suffix(end.bytes())?).ok()?;
    if text.chars().any(char::is_control) || text.ends_with(char::is_whitespace) {
        return None;
    }
    let mut written = String::new();
    let mut at = 0;
    for insertion in insertions {
        written.push_str(&text.get(at..insertion.range.start)?.replace('{', "{{"));
        let _ = write!(written, "{{{}}}", insertion.variable);
        at = insertion.range.end;
    }
    written.push_str(&text.get(at..)?.replace('{', "{{"));
    Some(written)
}

fn bulk(connection: &str, bytes: &[u8]) -> Vec<String> {
    let unit = period(bytes);
    let mut directives = Vec::new();
    let mut rest = bytes;
    if unit <= LONGEST_UNIT && bytes.len() / unit.max(1) >= FEWEST_REPETITIONS {
        let count = bytes.len() / unit;
        directives.push(format!(
            "upload {connection} {count} {}",
            escaped(&bytes[..unit])
        ));
        rest = &bytes[count * unit..];
    }
    while !rest.is_empty() {
        let mut length = rest.len().min(LONGEST_RAW);
        if length < rest.len()
            && let Some(line_end) = rest[..length].iter().rposition(|byte| *byte == b'\n')
        {
            length = line_end + 1;
        }
        directives.push(format!("raw {connection} {}", escaped(&rest[..length])));
        rest = &rest[length..];
    }
    directives
}

/// The length of the shortest unit that the text repeats (Knuth, Morris, Pratt).
fn period(text: &[u8]) -> usize {
    let mut border = vec![0; text.len()];
    for at in 1..text.len() {
        let mut length = border[at - 1];
        while length > 0 && text[at] != text[length] {
            length = border[length - 1];
        }
        border[at] = length + usize::from(text[at] == text[length]);
    }
    text.len() - border.last().copied().unwrap_or(0)
}

/// The text with the escapes of `raw`.
#[must_use]
pub fn escaped(bytes: &[u8]) -> String {
    let last = bytes.len().saturating_sub(1);
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' => text.push_str("\\r"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\\' => text.push_str("\\\\"),
            0 => text.push_str("\\0"),
            // An editor may take blanks at the ends away.
            b' ' if at > 0 && at < last => text.push(' '),
            b'!'..=b'~' => text.push(char::from(*byte)),
            other => {
                let _ = write!(text, "\\x{other:02x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::workload::unescape;

    #[test]
    fn lines_bursts_and_bulk() {
        let write = |bytes: &[u8]| directives("c", bytes, LineEnd::CrLf, &[]);
        assert_eq!(write(b"RETR {a}\r\n"), ["send c RETR {{a}"]);
        assert_eq!(write(b"\r\n"), ["send c"]);
        assert_eq!(write(b"LIST \r\n"), ["raw c LIST \\r\\n"]);
        assert_eq!(write(b"QUIT\n"), ["raw c QUIT\\n"]);
        assert_eq!(write(b"A\r\nB\r\n"), ["raw c A\\r\\nB\\r\\n"]);
        assert_eq!(write(b"\xff\x00"), ["raw c \\xff\\0"]);
        assert_eq!(write(&b"0123\n".repeat(9)), ["upload c 9 0123\\n"]);
        assert_eq!(
            write(&[b"ab\n".repeat(5), b"a".to_vec()].concat()),
            ["upload c 5 ab\\n", "raw c a"]
        );
    }

    #[test]
    fn variables_are_inserted() {
        let insertion = Insertion {
            range: 6..10,
            variable: "t".to_owned(),
        };
        assert_eq!(
            directives("c", b"PONG :1234\nQUIT\n", LineEnd::Lf, &[insertion]),
            ["send c PONG :{t}", "send c QUIT"]
        );
    }

    proptest! {
        /// What is escaped reads back as it was.
        #[test]
        fn escapes_are_read_back(bytes: Vec<u8>) {
            prop_assert_eq!(unescape(&escaped(&bytes)).unwrap(), bytes);
        }
    }
}
