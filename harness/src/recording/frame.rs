//! How a script awaits a reply: a pattern for its last line that nothing before
//! that line matches, or the number of its lines.

use std::collections::BTreeMap;

use crate::workload::pattern::{Pattern, Variables};
use crate::workload::{LINE_CAPACITY, MAX_VARIABLES};

/// A pattern is repeated for earlier lines that match it, so often at most.
const MOST_REPETITIONS: usize = 8;

/// Operands of the `await` directives that consume exactly `reply`. `anchors` holds
/// patterns for lines whose captures are needed, by where the line ends.
#[must_use]
pub fn awaits(reply: &[u8], anchors: &BTreeMap<usize, String>) -> Vec<String> {
    let mut operands = Vec::new();
    let mut segment: Vec<&[u8]> = Vec::new();
    let mut end = 0;
    for line in reply.split_inclusive(|byte| *byte == b'\n') {
        if !line.ends_with(b"\n") {
            break;
        }
        end += line.len();
        segment.push(shown(line));
        if let Some(pattern) = anchors.get(&end) {
            let times = matching(pattern, &segment).max(1);
            operands.extend(std::iter::repeat_n(pattern.clone(), times));
            segment.clear();
        }
    }
    if !segment.is_empty() {
        operands.extend(last_line(&segment));
    }
    if end < reply.len() {
        operands.push(format!("bytes {}", reply.len() - end));
    }
    operands
}

/// The part of a line that patterns see.
fn shown(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = &line[..line.len().min(LINE_CAPACITY)];
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn last_line(lines: &[&[u8]]) -> Vec<String> {
    let last = lines.last().copied().unwrap_or_default();
    let coded = coded(last);
    if coded.is_none() && lines.len() == 1 {
        return vec!["*".to_owned()];
    }
    if let Some(pattern) = coded.or_else(|| terminator(last)) {
        let times = matching(&pattern, lines);
        if (1..=MOST_REPETITIONS).contains(&times) && matching(&pattern, &[last]) == 1 {
            return vec![pattern; times];
        }
    }
    vec![format!("lines {}", lines.len())]
}

/// A line that says by its form what it is: a numeric code at its beginning
/// (RFC 959, RFC 5321), or an IRC message from somebody (RFC 2812).
fn coded(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    let code = |word: &str| word.len() == 3 && word.bytes().all(|byte| byte.is_ascii_digit());
    let mut words = line.split(' ');
    let first = words.next()?;
    if code(first) {
        let rest = if line.len() > 3 { " *" } else { "" };
        return Some(format!("{first}{rest}"));
    }
    let sender = first.strip_prefix(':')?;
    let command = words.next()?;
    if !code(command) && !(is_command(command)) {
        return None;
    }
    let sender = match sender.split_once('!') {
        Some((nick, _)) => format!("{}!*", literal(nick)),
        None => "*".to_owned(),
    };
    let rest = if words.next().is_some() { " *" } else { "" };
    Some(format!(":{sender} {command}{rest}"))
}

fn is_command(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase())
}

/// A line that looks like the end of a longer reply: `END`, `-ERR …`, `.`.
fn terminator(line: &[u8]) -> Option<String> {
    let line = std::str::from_utf8(line).ok()?;
    let (first, rest) = match line.split_once(' ') {
        Some((first, _)) => (first, " *"),
        None => (line, ""),
    };
    let plain = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_punctuation();
    (!first.is_empty() && first.bytes().all(plain)).then(|| format!("{}{rest}", literal(first)))
}

/// The text with what is special in a pattern escaped.
#[must_use]
pub fn literal(text: &str) -> String {
    let mut written = String::new();
    for character in text.chars() {
        if matches!(character, '*' | '{' | '\\') {
            written.push('\\');
        }
        written.push(character);
    }
    written
}

/// How many of the lines a pattern matches.
fn matching(pattern: &str, lines: &[&[u8]]) -> usize {
    let mut names = Vec::new();
    let Ok(pattern) = Pattern::compile(pattern, &mut |name| position(&mut names, name)) else {
        return 0;
    };
    let mut variables: Variables = [0; MAX_VARIABLES];
    lines
        .iter()
        .filter(|line| pattern.matches(line, &mut variables))
        .count()
}

fn position(names: &mut Vec<String>, name: &str) -> Option<u8> {
    let known = names.iter().position(|known| known == name);
    let at = known.unwrap_or_else(|| {
        names.push(name.to_owned());
        names.len() - 1
    });
    (at < MAX_VARIABLES).then(|| u8::try_from(at).ok())?
}

/// A pattern that captures the number at `range` of a line in `variable`, if one
/// can be written.
#[must_use]
pub fn capturing(line: &[u8], range: std::ops::Range<usize>, variable: &str) -> Option<String> {
    let line = shown(line);
    let text = std::str::from_utf8(line).ok()?;
    let value: u32 = text.get(range.clone())?.parse().ok()?;
    let before = text.get(..range.start)?;
    let first = before.find(' ').map_or(before, |blank| &before[..blank]);
    // The word before the number, as far as it is no number itself.
    let rest = &before[first.len()..];
    let words = rest.trim_end_matches(' ').rfind(' ').unwrap_or(0);
    let digits = rest
        .rfind(|c: char| c.is_ascii_digit())
        .map_or(0, |at| at + 1);
    let context = &rest[words.max(digits)..];
    let between = if first.len() + context.len() < before.len() {
        "*"
    } else {
        ""
    };
    let after = if range.end < text.len() { "*" } else { "" };
    let pattern = format!(
        "{}{between}{}{{:{variable}}}{after}",
        without_digits(first),
        literal(context)
    );
    let compiled = Pattern::compile(&pattern, &mut |_| Some(0)).ok()?;
    let mut variables: Variables = [0; MAX_VARIABLES];
    (compiled.matches(line, &mut variables) && variables[0] == value).then_some(pattern)
}

/// A literal in which any number may stand for another, but for a reply's code.
fn without_digits(text: &str) -> String {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (code, rest) = text.split_at(if digits == 3 { 3 } else { 0 });
    let mut written = code.to_owned();
    for character in literal(rest).chars() {
        if !character.is_ascii_digit() {
            written.push(character);
        } else if !written.ends_with('*') {
            written.push('*');
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;
    use crate::workload::{Action, Client, Event, Script};

    fn frame(reply: &str) -> Vec<String> {
        awaits(reply.as_bytes(), &BTreeMap::new())
    }

    #[test]
    fn known_forms_are_framed_by_their_last_line() {
        assert_eq!(frame("220 (vsFTPd 3.0.5)\r\n"), ["220 *"]);
        assert_eq!(frame("211-Features:\r\n EPRT\r\n211 End\r\n"), ["211 *"]);
        assert_eq!(frame("230-hello\r\n230 a\r\n230 b\r\n"), ["230 *", "230 *"]);
        assert_eq!(
            frame(":irc.x 375 a :Motd\r\n:irc.x 376 a :End of MOTD\r\n"),
            [":* 376 *"]
        );
        assert_eq!(frame(":al!~u@h PRIVMSG #c :x\r\n"), [":al!* PRIVMSG *"]);
        assert_eq!(frame("+OK\r\n"), ["*"]);
        assert_eq!(frame("key 1\nkey 2\nEND\n"), ["END"]);
        assert_eq!(frame("$5\r\nhello\r\n"), ["lines 2"]);
        assert_eq!(frame("A x\nlogin: "), ["*", "bytes 7"]);
        assert_eq!(frame("login: "), ["bytes 7"]);
        assert_eq!(frame("*{\\ 1\n*{\\ 2\n"), ["\\*\\{\\\\ *", "\\*\\{\\\\ *"]);
        assert_eq!(frame(""), Vec::<String>::new());
    }

    #[test]
    fn a_token_is_captured_where_a_pattern_can_say_so() {
        let capture = |line: &[u8], token: &str| {
            let text = std::str::from_utf8(line).unwrap();
            let at = text.rfind(token).unwrap();
            capturing(line, at..at + token.len(), "t")
        };
        assert_eq!(
            capture(b"PING :123456\r\n", "123456").as_deref(),
            Some("PING :{:t}")
        );
        assert_eq!(
            capture(
                b":irc9.x 513 alice :To connect, type /QUOTE PONG 77777\r\n",
                "77777"
            )
            .as_deref(),
            Some(":irc*.x* PONG {:t}")
        );
        assert_eq!(
            capture(b"200-the token 7 is 123456.\n", "123456").as_deref(),
            Some("200-the* is {:t}*")
        );
        assert_eq!(capture(b"x 5000000000\n", "5000000000"), None, "no 32 bits");
    }

    proptest! {
        /// The awaits consume the reply to its last byte and not one more.
        #[test]
        fn awaits_consume_exactly_the_reply(
            lines in prop::collection::vec("(200|211-|END|[a-z]{1,3}|:a!b|:s [0-9]{3})?( [A-Z*{\\\\]{1,5}| x)?\r?", 0..12),
            tail in "[a-z]{0,3}",
        ) {
            let mut reply: Vec<u8> = lines.iter().flat_map(|l| [l.as_bytes(), b"\n"].concat()).collect();
            reply.extend_from_slice(tail.as_bytes());
            let mut text = "exchange a\nopen c 1\n".to_owned();
            for operand in awaits(&reply, &BTreeMap::new()) {
                let _ = writeln!(text, "await c {operand}");
            }
            let script = Script::parse("t", &text, &BTreeMap::new()).unwrap();
            let mut client = Client::default();
            client.begin(&script);
            let mut action = client.on(&script, Event::Done).1;
            let mut rest = &reply[..];
            while matches!(action, Action::Receive { .. }) && !rest.is_empty() {
                let (count, next) = client.on(&script, Event::Data(rest));
                rest = &rest[count..];
                action = next;
            }
            prop_assert_eq!(action, Action::Settle);
            prop_assert!(rest.is_empty());
        }
    }
}
