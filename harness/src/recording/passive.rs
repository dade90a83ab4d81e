//! Replies in which a server names a port for a data connection, recognised by
//! their form: FTP's 227 (RFC 959) and 229 (RFC 2428).

/// A reply that names a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passive {
    /// The port named.
    pub port: u16,
    /// Length of the line up to the numbers.
    before: usize,
    /// Length of the line up to what follows them.
    until: usize,
    form: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `h1,h2,h3,h4,p1,p2`
    Address,
    /// `(|||port|)`
    Extended,
}

/// What a passive reply begins with.
const CODES: [&[u8]; 2] = [b"227 ", b"229 "];

/// Whether a line that begins like this may yet become a passive reply.
#[must_use]
pub fn may_become(beginning: &[u8]) -> bool {
    CODES.iter().any(|code| {
        let common = code.len().min(beginning.len());
        code[..common] == beginning[..common]
    })
}

/// Whether a client's line asks the server to connect back: FTP's active mode.
#[must_use]
pub fn asks_to_connect_back(line: &[u8]) -> bool {
    let line = line.to_ascii_uppercase();
    line.strip_prefix(b"PORT ")
        .is_some_and(|rest| six(rest).is_some_and(|(start, _, _)| start == 0))
        || line.starts_with(b"EPRT |")
}

impl Passive {
    /// Reads a line, with or without its end.
    #[must_use]
    pub fn of(line: &[u8]) -> Option<Self> {
        if line.starts_with(CODES[0]) {
            let (start, end, numbers) = six(&line[4..])?;
            return Some(Self {
                port: u16::from(numbers[4]) * 256 + u16::from(numbers[5]),
                before: start + 4,
                until: end + 4,
                form: Form::Address,
            });
        }
        if !line.starts_with(CODES[1]) {
            return None;
        }
        let start = line.windows(4).position(|w| w == b"(|||")? + 4;
        let length = digits(&line[start..]);
        let port = decimal(&line[start..start + length])?;
        line[start + length..].starts_with(b"|)").then_some(Self {
            port,
            before: start,
            until: start + length,
            form: Form::Extended,
        })
    }

    /// The line with another port, on the loopback interface.
    #[must_use]
    pub fn rewritten(&self, line: &[u8], port: u16) -> Vec<u8> {
        let named = match self.form {
            Form::Address => format!("127,0,0,1,{},{}", port / 256, port % 256),
            Form::Extended => port.to_string(),
        };
        [&line[..self.before], named.as_bytes(), &line[self.until..]].concat()
    }

    /// A pattern for the line that captures the port, and the port as `open`
    /// writes it; `suffix` makes the variables' names its own.
    #[must_use]
    pub fn pattern(&self, line: &[u8], suffix: &str) -> (String, String) {
        let open = if line[..self.before].ends_with(b"(") {
            "("
        } else {
            ""
        };
        let close = if line[self.until..].starts_with(b")") {
            ")"
        } else {
            ""
        };
        match self.form {
            Form::Address => (
                format!(
                    "227 *{open}{{:h1}},{{:h2}},{{:h3}},{{:h4}},{{:p1{suffix}}},{{:p2{suffix}}}{close}*"
                ),
                format!("{{p1{suffix}}}*256+{{p2{suffix}}}"),
            ),
            Form::Extended => (
                format!("229 *(|||{{:port{suffix}}}|)*"),
                format!("{{port{suffix}}}"),
            ),
        }
    }
}

/// The first six numbers below 256 with commas between: where they begin and end.
fn six(text: &[u8]) -> Option<(usize, usize, [u8; 6])> {
    let start = text.iter().position(u8::is_ascii_digit)?;
    let mut numbers = [0; 6];
    let mut at = start;
    for (index, number) in numbers.iter_mut().enumerate() {
        if index > 0 {
            if text.get(at) != Some(&b',') {
                return None;
            }
            at += 1;
        }
        let length = digits(&text[at..]);
        *number = decimal(&text[at..at + length])?;
        at += length;
    }
    Some((start, at, numbers))
}

fn digits(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

fn decimal<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_recognised_and_rewritten() {
        let line = b"227 Entering Passive Mode (127,0,0,1,195,180).\r\n";
        let passive = Passive::of(line).unwrap();
        assert_eq!(passive.port, 50100);
        assert_eq!(
            passive.rewritten(line, 258),
            b"227 Entering Passive Mode (127,0,0,1,1,2).\r\n"
        );
        let line = b"229 Entering Extended Passive Mode (|||50100|)\r\n";
        let passive = Passive::of(line).unwrap();
        assert_eq!(passive.port, 50100);
        assert_eq!(
            passive.rewritten(line, 7),
            b"229 Entering Extended Passive Mode (|||7|)\r\n"
        );
        assert_eq!(
            passive.pattern(line, "").0,
            "229 *(|||{:port}|)*",
            "the parenthesis keeps the text before it out"
        );
        assert_eq!(
            Passive::of(b"227 =1,2,3,4,5,6")
                .unwrap()
                .pattern(b"227 =1,2,3,4,5,6", "x")
                .1,
            "{p1x}*256+{p2x}"
        );
    }

    #[test]
    fn what_only_resembles_them_is_left_alone() {
        for line in [
            &b"227 no numbers"[..],
            b"227 (1,2,3,4,5)",
            b"227 (1,2,3,4,5,256)",
            b"229 (||50100|)",
            b"229 (|||70000|)",
            b"230 (1,2,3,4,5,6)",
            b"",
        ] {
            assert_eq!(Passive::of(line), None, "{}", String::from_utf8_lossy(line));
        }
        assert!(may_become(b"22"));
        assert!(may_become(b"229 E"));
        assert!(!may_become(b"230"));
        assert!(asks_to_connect_back(b"PORT 127,0,0,1,4,5\r\n"));
        assert!(asks_to_connect_back(b"eprt |1|127.0.0.1|5282|"));
        assert!(!asks_to_connect_back(b"PORTAL 1,2,3,4,5,6"));
    }

    proptest! {
        /// No line makes it panic, and a rewritten reply names the new port.
        #[test]
        fn rewriting_is_read_back(line in "(227|229) [ (|,0-9a-z]{0,40}", port: u16) {
            if let Some(passive) = Passive::of(line.as_bytes()) {
                let again = passive.rewritten(line.as_bytes(), port);
                prop_assert_eq!(Passive::of(&again).map(|p| p.port), Some(port));
            }
        }
    }
}
