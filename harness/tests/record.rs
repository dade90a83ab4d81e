//! `kairos record` with scripted clients: what it writes can be read, passes on old
//! and new, and can be studied; and it leaves nothing behind.

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::Project;
use support::leftovers::Before;

/// Functions for clients in bash, which speaks TCP by itself: `ask LINE` sends a
/// line on descriptor 3 and reads one reply, `until CODE` reads to a final reply.
const CLIENT: &str = r#"
set -e
open() { exec 3<>/dev/tcp/127.0.0.1/$KAIROS_PORT; }
say() { printf '%s\n' "$1" >&3; }
until_code() { while read -r line <&3; do case $line in "$1 "*) return;; esac; done; exit 7; }
ask() { say "$1"; until_code "$2"; }
data() { port=${line##*(}; port=${port%%)*}; IFS=, read -r a b c d high low <<< "$port"; exec 4<>/dev/tcp/127.0.0.1/$((high * 256 + low)); }
extended() { port=${line##*|||}; exec 4<>/dev/tcp/127.0.0.1/${port%%|*}; }
"#;

fn project() -> Project {
    let project = Project::of("passive").session(
        "conformable",
        "open c main\nawait c *\n\nsend c QUIT\nawait c *\nclose c",
    );
    project.write();
    project
}

fn record(project: &Project, name: &str, options: &[&str]) -> Command {
    let mut command = project.kairos();
    command.args(["record", "tiny", name]).args(options);
    command
}

/// Records a client that is a script for bash; `kairos` must succeed.
fn record_bash(project: &Project, name: &str, client: &str) -> (String, Output) {
    let before = Before::look();
    let output = record(project, name, &["--", "bash", "-c"])
        .arg(format!("{CLIENT}{client}"))
        .output()
        .unwrap();
    println!("{}", String::from_utf8_lossy(&output.stdout));
    println!("{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0));
    before.compare(project);
    (script(project, name), output)
}

fn script(project: &Project, name: &str) -> String {
    let path = format!("subjects/tiny/workloads/{name}.session");
    let text = fs::read_to_string(project.root().join(path)).unwrap();
    println!("{text}");
    text
}

/// The exchanges, without heading.
fn exchanges(script: &str) -> &str {
    &script[script.find("\nexchange").unwrap() + 1..]
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Makes the recorded workload the subject's only one.
fn study(project: &Project, name: &str) {
    let manifest = project.root().join("subjects/tiny/subject.toml");
    let text = fs::read_to_string(&manifest).unwrap();
    let text = text.replace("study = [\"session\"]", &format!("study = [\"{name}\"]"));
    fs::write(&manifest, text).unwrap();
    let run = project.study_as("run", "--sample 3");
    assert!(!run.rows().is_empty());
    run.expect_sound_controls();
}

#[test]
fn data_connections_and_tokens_are_followed_and_the_workload_can_be_studied() {
    let project = project();
    let (text, output) = record_bash(
        &project,
        "transfers",
        r#"open; until_code 220
ask PASV 227; data; ask LIST 226; cat <&4 >/dev/null; exec 4>&-
ask LATER 229; extended; say STOR; until_code 150
for i in {1..100}; do echo 0123456789; done >&4; exec 4>&-; until_code 226
say TOKEN; read -r line <&3; number=${line##* }; until_code 200
ask "SAY $number" 200
ask QUIT 221"#,
    );
    assert_eq!(
        exchanges(&text),
        "exchange c connects
open c main
await c 220 *

exchange PASV
send c PASV
await c 227 *({:h1},{:h2},{:h3},{:h4},{:p1},{:p2})*

exchange LIST
open d {p1}*256+{p2}
send c LIST
await c 226 *
close d

exchange LATER
send c LATER
await c 229 *(|||{:port}|)*

exchange STOR
open d {port}
send c STOR
await c 150 *

exchange data on d
upload d 100 0123456789\\n
close d
await c 226 *

exchange TOKEN
send c TOKEN
await c 200-the* is {:token1}
await c 200 *

exchange SAY 123456
send c SAY {token1}
await c 200 *

exchange QUIT
send c QUIT
await c 221 *
await c eof
close c
"
    );
    assert!(text.starts_with("# Recorded by `kairos record` from tiny v1: bash -c"));
    assert!(text.contains("\nspecification conformable\n"), "{text}");
    let told = stdout(&output);
    assert!(
        told.contains("v1: passes; replies equal those of the recording"),
        "{told}"
    );
    assert!(told.contains("v2: passes; replies differ"), "{told}");
    study(&project, "transfers");
}

#[test]
fn two_clients_are_one_session_and_a_reset_stays_one() {
    let project = project();
    let before = Before::look();
    // A client of our own: bash cannot reset a connection.
    let mut kairos = Recording::start(record(&project, "two", &[]));
    let mut first = Peer::connect(kairos.port);
    first.hear("220 Hello");
    let mut second = Peer::connect(kairos.port);
    second.hear("220 Hello");
    first.say("TOKEN");
    first.hear("200-the token is 123456");
    first.hear("200 End");
    second.say("SAY 1");
    second.hear("500 What?");
    let linger = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    nix::sys::socket::setsockopt(&first.stream, nix::sys::socket::sockopt::Linger, &linger)
        .unwrap();
    drop(first);
    second.hear("100 Somebody left");
    second.say("QUIT");
    second.hear("221 Bye");
    second.end();
    kairos.interrupt();
    let (status, told) = kairos.end();
    assert_eq!(status, Some(0), "{told}");
    before.compare(&project);
    assert!(told.contains("v2: passes"), "{told}");
    assert_eq!(
        exchanges(&script(&project, "two")),
        "exchange c1 connects
open c1 main
await c1 220 *

exchange c2 connects
open c2 main
await c2 220 *

exchange c1 TOKEN
send c1 TOKEN
await c1 200 *

exchange c2 SAY 1
send c2 SAY 1
await c2 500 *

exchange c1 resets
reset c1
await c2 100 *

exchange c2 QUIT
send c2 QUIT
await c2 221 *
await c2 eof
close c2
"
    );
}

#[test]
fn bursts_stay_together_unless_they_are_paced() {
    let project = project();
    // bash's own printf writes line by line; cat hands on what it reads at once.
    let client = "open; until_code 220; cat <<< $'A\\nB\\nQUIT' >&3; until_code 221";
    let (text, _) = record_bash(&project, "burst", client);
    assert!(
        text.contains("exchange A and 2 more\nraw c A\\nB\\nQUIT\\n\n"),
        "{text}"
    );
    let output = record(&project, "paced", &["--paced", "--", "bash", "-c"])
        .arg(format!("{CLIENT}{client}"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = script(&project, "paced");
    assert!(
        text.contains("exchange A\nsend c A\nawait c 500 *\n\nexchange B\nsend c B\n"),
        "{text}"
    );
}

#[test]
fn a_script_that_does_not_pass_is_a_finding() {
    let project = project();
    // A number too short to be taken for a token: v2 wants another.
    let source = project.root().join("subjects/tiny/v2/main.c");
    let text = fs::read_to_string(&source).unwrap();
    fs::write(&source, text.replace("\"500 What?\"", "\"599 What?\"")).unwrap();
    let output = record(&project, "fails", &["--", "bash", "-c"])
        .arg(format!(
            "{CLIENT}open; until_code 220; ask NONSENSE 500; ask QUIT 221"
        ))
        .output()
        .unwrap();
    let told = stdout(&output);
    assert_eq!(output.status.code(), Some(5), "{told}");
    assert!(told.contains("v1: passes"), "{told}");
    assert!(
        told.contains("v2: does not pass: exchange 1 (NONSENSE)"),
        "{told}"
    );
    assert!(told.contains("599 What?"), "{told}");
}

#[test]
fn nothing_is_left_when_client_or_recording_die() {
    let project = project();
    let before = Before::look();
    // The client kills itself in the middle of a line.
    let output = record(&project, "killed", &["--", "bash", "-c"])
        .arg(format!(
            "{CLIENT}open; until_code 220; printf TOK >&3; kill -KILL $$"
        ))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    assert!(script(&project, "killed").contains("raw c TOK\n"));
    // A port that is taken is a wrong argument.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = record(&project, "taken", &["--listen", &port, "--", "true"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot listen"));
    // The server dies.
    let output = record(&project, "crash", &["--", "bash", "-c"])
        .arg(format!(
            "{CLIENT}open; until_code 220; say CRASH; read -r line <&3"
        ))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stdout(&output));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("the server ended by itself"), "{told}");
    assert!(script(&project, "crash").ends_with(
        "send c CRASH\nawait c eof\nclose c\n# The server ended by itself: Killed(\"SIGABRT\").\n"
    ));
    // The recording is killed.
    let mut kairos = Recording::start(record(&project, "never", &[]));
    let mut peer = Peer::connect(kairos.port);
    peer.hear("220 Hello");
    kairos.process.kill().unwrap();
    kairos.process.wait().unwrap();
    peer.end();
    assert!(
        !project
            .root()
            .join("subjects/tiny/workloads/never.session")
            .exists()
    );
    // Nobody connects.
    let output = record(&project, "nobody", &["--", "true"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no client connected"));
    assert!(
        !project
            .root()
            .join("subjects/tiny/workloads/nobody.session")
            .exists()
    );
    before.compare(&project);
}

#[test]
fn wrong_arguments_are_one_clear_error() {
    let project = project();
    for (arguments, expected) in [
        (&["nothing", "x"][..], "tiny"),
        (&["tiny", "../x"], "cannot name a workload"),
        (&["tiny", "session"], "--force"),
        (&["tiny", "x", "--version", "v9"], "v1"),
        (&["tiny", "x", "--check", "v9"], "v1"),
        (&["tiny", "x", "--listen", "ftp=21"], "main, other"),
        (&["tiny", "x", "--listen", "many"], "no port number"),
        (
            &["tiny", "x", "--specification", "odd"],
            "backward-compatible",
        ),
        (
            &["tiny", "x", "--", "/no/such/client"],
            "cannot start the client",
        ),
    ] {
        let output = project
            .kairos()
            .arg("record")
            .args(arguments)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
        let errors: Vec<&str> = told.lines().filter(|l| l.starts_with("kairos: ")).collect();
        assert_eq!(errors.len(), 1, "{told}");
        assert!(told.contains(expected), "{told}");
    }
}

/// A `kairos record` without a client of its own.
struct Recording {
    process: Child,
    out: BufReader<std::process::ChildStdout>,
    port: u16,
}

impl Recording {
    fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut port = 0;
        let mut line = String::new();
        while !line.starts_with("Connect any client") {
            if let Some(number) = line.trim_end().strip_prefix("main: 127.0.0.1 port ") {
                port = number.parse().unwrap();
            }
            line.clear();
            assert_ne!(out.read_line(&mut line).unwrap(), 0, "it ended early");
        }
        Self { process, out, port }
    }

    fn interrupt(&self) {
        let pid = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        kill(pid, Signal::SIGINT).unwrap();
    }

    fn end(&mut self) -> (Option<i32>, String) {
        let mut told = String::new();
        self.out.read_to_string(&mut told).unwrap();
        (self.process.wait().unwrap().code(), told)
    }
}

/// One client connection.
struct Peer {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
}

impl Peer {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap());
        Self { stream, lines }
    }

    fn say(&mut self, line: &str) {
        self.stream
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }

    fn hear(&mut self, expected: &str) {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        assert_eq!(line.trim_end(), expected);
    }

    /// Waits for the server's end, however it comes.
    fn end(&mut self) {
        let mut rest = Vec::new();
        let _ = self.lines.read_to_end(&mut rest);
    }
}
