//! The session script: parsed from `workloads/NAME.session` (see docs/sessions.md)
//! into tables that the client walks.

use std::collections::BTreeMap;
use std::path::Path;

use super::pattern::{Pattern, Variables};
use super::text::{Template, unescape};
use super::{MAX_CONNECTIONS, MAX_VARIABLES};
use crate::subject::scaffold::FILL_IN;

/// Which claim a workload makes about the versions (Hayden et al., VSTTE 2012).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Specification {
    /// Old and new baselines agree; the replies must hold wherever the update lands.
    BackwardCompatible,
    /// New behaviour is asked for after the update on state that old code built.
    PostUpdate,
    /// Old behaviour before, the corresponding new behaviour after.
    Conformable,
}

/// A parsed session.
#[derive(Clone, Debug)]
pub struct Script {
    /// Name: the file's stem.
    pub name: String,
    /// One line saying what the session does.
    pub about: String,
    /// The claim it makes.
    pub specification: Specification,
    /// The profile of the subject that the server runs under, and the line that
    /// names it; none for the usual way to run.
    pub profile: Option<(String, usize)>,
    /// Labels of the exchanges, in order.
    pub exchanges: Vec<String>,
    /// Connection names, by position.
    pub connections: Vec<String>,
    /// Right replies after an update, by exchange and connection.
    pub after_update: BTreeMap<(u32, String), String>,
    pub(super) steps: Vec<Step>,
}

/// One directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Open { connection: u8, port: Port },
    Send { connection: u8, text: Template },
    Await { connection: u8, until: Until },
    Finish { connection: u8 },
    Close { connection: u8 },
    Reset { connection: u8 },
    Signal { role: String, signal: String },
    Write { path: String, content: Vec<u8> },
    Remove { path: String },
    EndExchange,
}

/// Where a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Number(u16),
    /// `{high}*256+{low}`
    Pair(u8, u8),
    /// `{port}`
    Variable(u8),
}

impl Port {
    pub(super) fn number(&self, variables: &Variables) -> u16 {
        let value = |position: &u8| variables[usize::from(*position)];
        match self {
            Self::Number(number) => *number,
            Self::Pair(high, low) => {
                (value(high).wrapping_mul(256).wrapping_add(value(low)) & 0xffff) as u16
            }
            Self::Variable(port) => (value(port) & 0xffff) as u16,
        }
    }
}

/// What an `await` waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Until {
    Line(Pattern),
    Lines(u32),
    Bytes(u32),
    EndOfStream,
}

/// A script that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ScriptError {
    /// The file could not be read.
    #[error("{path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A line of it is wrong.
    #[error("{path}:{line}: {message} (see docs/sessions.md)")]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong and what is expected.
        message: String,
    },
}

impl Script {
    /// Reads a script; `ports` are the subject's named ports.
    ///
    /// # Errors
    /// When the file cannot be read or a line of it is wrong.
    pub fn read(path: &Path, ports: &BTreeMap<String, u16>) -> Result<Self, ScriptError> {
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|source| ScriptError::Read {
            path: shown.clone(),
            source,
        })?;
        let name = path
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        Self::parse(&name, &text, ports).map_err(|(line, message)| ScriptError::Line {
            path: shown,
            line,
            message,
        })
    }

    /// Parses the text of a script.
    ///
    /// # Errors
    /// The line, from 1, and what is wrong with it.
    pub fn parse(
        name: &str,
        text: &str,
        ports: &BTreeMap<String, u16>,
    ) -> Result<Self, (usize, String)> {
        let mut parser = Parser {
            script: Self {
                name: name.to_owned(),
                about: String::new(),
                specification: Specification::BackwardCompatible,
                profile: None,
                exchanges: Vec::new(),
                connections: Vec::new(),
                after_update: BTreeMap::new(),
                steps: Vec::new(),
            },
            ports,
            variables: Vec::new(),
            eol: b"\n",
        };
        for (index, line) in text.lines().enumerate() {
            parser
                .line(line, index + 1)
                .map_err(|message| (index + 1, message))?;
        }
        let mut script = parser.script;
        if script.exchanges.is_empty() {
            return Err((1, "no `exchange`: a session needs at least one".to_owned()));
        }
        script.steps.push(Step::EndExchange);
        Ok(script)
    }
}

struct Parser<'a> {
    script: Script,
    ports: &'a BTreeMap<String, u16>,
    variables: Vec<String>,
    eol: &'static [u8],
}

impl Parser<'_> {
    fn line(&mut self, line: &str, number: usize) -> Result<(), String> {
        let trimmed = line.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            return Ok(());
        }
        let (directive, rest) = word(trimmed);
        if rest.starts_with(FILL_IN) || word(rest).1.starts_with(FILL_IN) {
            return Err("this is still to be filled in".to_owned());
        }
        match directive {
            "about" => uncommented(rest).clone_into(&mut self.script.about),
            "specification" => self.script.specification = specification(uncommented(rest))?,
            "eol" => self.eol = line_end(uncommented(rest))?,
            "profile" => self.script.profile = Some((profile(uncommented(rest))?, number)),
            "exchange" => {
                if !self.script.exchanges.is_empty() {
                    self.script.steps.push(Step::EndExchange);
                }
                self.script.exchanges.push(uncommented(rest).to_owned());
            }
            _ if self.script.exchanges.is_empty() => {
                return Err(format!(
                    "`{directive}` before the first `exchange`; the header knows about, specification, profile, eol"
                ));
            }
            _ => self.step(directive, rest)?,
        }
        Ok(())
    }

    fn step(&mut self, directive: &str, rest: &str) -> Result<(), String> {
        let (first, text) = word(rest);
        if first.is_empty() {
            return Err(format!("`{directive}` needs an operand"));
        }
        let step = match directive {
            "open" => Step::Open {
                connection: self.new_connection(first)?,
                port: self.port(uncommented(text))?,
            },
            "send" => Step::Send {
                connection: self.connection(first)?,
                text: Template::parse(text, self.eol, &|name| self.variable(name))?,
            },
            "raw" => Step::Send {
                connection: self.connection(first)?,
                text: Template::fixed(unescape(text)?),
            },
            "upload" => {
                let connection = self.connection(first)?;
                let (count, text) = word(text);
                let count: usize = number(count, "COUNT")?;
                Step::Send {
                    connection,
                    text: Template::fixed(unescape(text)?.repeat(count)),
                }
            }
            "await" => Step::Await {
                connection: self.connection(first)?,
                until: self.until(text)?,
            },
            "finish" => Step::Finish {
                connection: self.connection(first)?,
            },
            "close" => Step::Close {
                connection: self.connection(first)?,
            },
            "reset" => Step::Reset {
                connection: self.connection(first)?,
            },
            "signal" => Step::Signal {
                role: first.to_owned(),
                signal: signal(uncommented(text))?,
            },
            "write" => Step::Write {
                path: relative(first)?,
                content: unescape(text)?,
            },
            "remove" => Step::Remove {
                path: relative(first)?,
            },
            "after_update" => {
                self.connection(first)?;
                let exchange = u32::try_from(self.script.exchanges.len() - 1).unwrap_or(u32::MAX);
                let text = String::from_utf8(unescape(text)?)
                    .map_err(|_| "an after_update reply must be UTF-8 text".to_owned())?;
                self.script
                    .after_update
                    .insert((exchange, first.to_owned()), text);
                return Ok(());
            }
            other => {
                return Err(format!(
                    "unknown directive `{other}`; known are exchange, open, send, raw, upload, await, finish, close, reset, signal, write, remove, after_update"
                ));
            }
        };
        self.script.steps.push(step);
        Ok(())
    }

    fn new_connection(&mut self, name: &str) -> Result<u8, String> {
        if let Ok(known) = self.connection(name) {
            return Ok(known);
        }
        if self.script.connections.len() == MAX_CONNECTIONS {
            return Err(format!("more than {MAX_CONNECTIONS} connections"));
        }
        self.script.connections.push(name.to_owned());
        self.connection(name)
    }

    fn connection(&self, name: &str) -> Result<u8, String> {
        position(&self.script.connections, name)
            .ok_or_else(|| format!("connection `{name}` was not opened"))
    }

    fn variable(&self, name: &str) -> Option<u8> {
        position(&self.variables, name)
    }

    fn port(&self, text: &str) -> Result<Port, String> {
        let known = |name: &str| {
            self.variable(name)
                .ok_or_else(|| format!("no earlier pattern captures `{{:{name}}}`"))
        };
        if let Some(port) = self.ports.get(text) {
            return Ok(Port::Number(*port));
        }
        if let Some((high, low)) = text
            .strip_prefix('{')
            .and_then(|t| t.strip_suffix('}'))
            .and_then(|t| t.split_once("}*256+{"))
        {
            return Ok(Port::Pair(known(high)?, known(low)?));
        }
        if let Some(name) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            return Ok(Port::Variable(known(name)?));
        }
        text.parse().map(Port::Number).map_err(|_| {
            let names: Vec<_> = self.ports.keys().map(String::as_str).collect();
            format!(
                "`{text}` is no port: expected one of [{}] from `[run] ports`, a number, {{var}} or {{high}}*256+{{low}}",
                names.join(", ")
            )
        })
    }

    fn until(&mut self, text: &str) -> Result<Until, String> {
        let (kind, count) = word(text);
        match kind {
            "eof" if count.is_empty() => return Ok(Until::EndOfStream),
            "lines" if count.trim().parse::<u32>().is_ok() => {
                return Ok(Until::Lines(number(count, "N")?));
            }
            "bytes" if count.trim().parse::<u32>().is_ok() => {
                return Ok(Until::Bytes(number(count, "N")?));
            }
            "" => return Err("`await` needs a pattern, `lines N`, `bytes N` or `eof`".to_owned()),
            _ => {}
        }
        let variables = &mut self.variables;
        Pattern::compile(text, &mut |name| {
            position(variables, name).or_else(|| {
                if variables.len() == MAX_VARIABLES {
                    return None;
                }
                variables.push(name.to_owned());
                u8::try_from(variables.len() - 1).ok()
            })
        })
        .map(Until::Line)
        .map_err(|error| error.to_string())
    }
}

fn position(names: &[String], name: &str) -> Option<u8> {
    names
        .iter()
        .position(|known| known == name)
        .and_then(|at| u8::try_from(at).ok())
}

/// The first word and the rest after exactly one blank.
fn word(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text.trim_end(), ""))
}

fn uncommented(text: &str) -> &str {
    text.split(" #").next().unwrap_or(text).trim()
}

fn number<T: std::str::FromStr>(text: &str, what: &str) -> Result<T, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{what} must be a number, not `{text}`"))
}

/// Reads the name of a claim.
///
/// # Errors
/// Which names there are.
pub fn specification(text: &str) -> Result<Specification, String> {
    match text {
        "backward-compatible" => Ok(Specification::BackwardCompatible),
        "post-update" => Ok(Specification::PostUpdate),
        "conformable" => Ok(Specification::Conformable),
        other => Err(format!(
            "specification `{other}`; expected backward-compatible, post-update or conformable"
        )),
    }
}

fn profile(name: &str) -> Result<String, String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(is_word) {
        return Err(format!(
            "`profile {name}`: expected the name of a [[profile]] of the subject's manifest"
        ));
    }
    Ok(name.to_owned())
}

fn line_end(text: &str) -> Result<&'static [u8], String> {
    match text {
        "crlf" => Ok(b"\r\n"),
        "lf" => Ok(b"\n"),
        other => Err(format!("eol `{other}`; expected crlf or lf")),
    }
}

fn signal(name: &str) -> Result<String, String> {
    name.parse::<nix::sys::signal::Signal>()
        .map(|signal| signal.as_str().to_owned())
        .map_err(|_| format!("`{name}` is no signal name such as SIGHUP"))
}

fn relative(path: &str) -> Result<String, String> {
    let inside = !path.starts_with('/') && !path.split('/').any(|part| part == "..");
    inside
        .then(|| path.to_owned())
        .ok_or_else(|| format!("`{path}` must be relative to the run folder, without `..`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports() -> BTreeMap<String, u16> {
        BTreeMap::from([("control".to_owned(), 2121)])
    }

    #[test]
    fn reads_a_session_with_a_data_connection() {
        let script = Script::parse(
            "t",
            "about x\neol crlf\nexchange banner # first\nopen c control\nawait c 227 ({:p1},{:p2})*\n\nexchange d\nopen d {p1}*256+{p2}\nawait d eof\nclose c\nafter_update c 2\\n\n",
            &ports(),
        )
        .unwrap();
        assert_eq!(script.exchanges, ["banner", "d"]);
        assert_eq!(script.connections, ["c", "d"]);
        assert_eq!(script.after_update[&(1, "c".to_owned())], "2\n");
        assert_eq!(
            script.steps[3],
            Step::Open {
                connection: 1,
                port: Port::Pair(0, 1)
            }
        );
    }

    #[test]
    fn the_header_may_name_a_profile() {
        let text = "about x\nprofile isolated # why\nexchange a\nopen c control\n";
        let script = Script::parse("t", text, &ports()).unwrap();
        assert_eq!(script.profile, Some(("isolated".to_owned(), 2)));
    }

    #[test]
    fn a_wrong_line_is_named() {
        for (text, line, expected) in [
            ("exchange a\nsend c x", 2, "not opened"),
            ("exchange a\nopen c ftp", 2, "[control]"),
            ("send c x", 1, "before the first"),
            ("exchange a\nopen c 1\nsend c {x}", 3, "{:x}"),
            ("exchange a\nfrob c", 2, "unknown directive `frob`"),
            ("exchange a\nwrite /etc/x y", 2, "relative"),
            ("about nothing", 1, "at least one"),
            ("about x\nprofile a b", 2, "name of a [[profile]]"),
        ] {
            let (at, message) = Script::parse("t", text, &ports()).unwrap_err();
            assert_eq!(at, line, "{text}");
            assert!(message.contains(expected), "{message}");
        }
    }
}
