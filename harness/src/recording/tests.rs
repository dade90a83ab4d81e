//! Scripts composed of logs: what they look like, and that playing them against
//! the recorded server consumes exactly what was recorded.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::compose::{ComposeError, Composed, Heading, compose};
use super::groups::{Group, facts, group};
use super::log::{Event, Log, Target};
use crate::workload::script::Specification;
use crate::workload::{Action, Client, Event as ClientEvent, Script};
use crate::world::session::{END_OF_FILE, REFUSED, RESET};

fn heading() -> Heading {
    Heading {
        origin: "Recorded from a test".to_owned(),
        about: "a test".to_owned(),
        specification: Specification::BackwardCompatible,
        profile: None,
    }
}

fn open(connection: usize) -> Event {
    Event::Opened {
        connection,
        target: Target::Port("main".to_owned()),
        accepted: true,
    }
}

fn sent(connection: usize, text: &str) -> Event {
    Event::Sent {
        connection,
        bytes: text.as_bytes().to_vec(),
    }
}

fn received(connection: usize, text: &str) -> Event {
    Event::Received {
        connection,
        bytes: text.as_bytes().to_vec(),
    }
}

fn ended(connection: usize) -> Event {
    Event::Ended {
        connection,
        torn: false,
    }
}

fn finished(connection: usize) -> Event {
    Event::Finished { connection }
}

/// The script without its heading.
fn body(events: Vec<Event>) -> String {
    let log = Log {
        events,
        server_ending: None,
    };
    let composed = compose(&log, &heading()).unwrap();
    parse(&composed.text);
    let lines: Vec<&str> = composed.text.lines().skip(3).collect();
    lines.join("\n")
}

fn parse(text: &str) -> Script {
    let ports = BTreeMap::from([("main".to_owned(), 21)]);
    Script::parse("t", text, &ports).unwrap_or_else(|error| panic!("{error:?} in\n{text}"))
}

#[test]
fn an_ftp_session_reads_like_one_written_by_hand() {
    let reply = "227 Entering Passive Mode (127,0,0,1,195,180).\r\n";
    let data = Event::Opened {
        connection: 1,
        target: Target::Passive {
            control: 0,
            offset: 7 + reply.len(),
        },
        accepted: true,
    };
    let text = body(vec![
        open(0),
        received(0, "220 x\r\n"),
        Event::Rest,
        sent(0, "PASV\r\n"),
        received(0, reply),
        Event::Rest,
        data,
        Event::Rest,
        sent(0, "LIST\r\n"),
        received(0, "150 Here\r\n"),
        received(1, "file\r\n"),
        ended(1),
        received(0, "226 Done\r\n"),
        Event::Rest,
        finished(1),
        sent(0, "QUIT\r\n"),
        received(0, "221 Bye\r\n"),
        ended(0),
        Event::Rest,
        finished(0),
    ]);
    assert_eq!(
        text,
        "eol crlf

exchange c connects
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

exchange QUIT
send c QUIT
await c 221 *
await c eof
close c"
    );
}

#[test]
fn an_upload_closes_its_data_connection() {
    let reply = "229 Entering Extended Passive Mode (|||50100|)\r\n";
    let text = body(vec![
        open(0),
        received(0, reply),
        Event::Rest,
        Event::Opened {
            connection: 1,
            target: Target::Passive {
                control: 0,
                offset: reply.len(),
            },
            accepted: true,
        },
        Event::Rest,
        sent(0, "STOR x\r\n"),
        received(0, "150 Go\r\n"),
        Event::Rest,
        sent(1, "some d"),
        Event::Rest,
        sent(1, "ata"),
        Event::Rest,
        finished(1),
        received(0, "226 Done\r\n"),
        ended(1),
    ]);
    assert!(
        text.ends_with(
            "exchange STOR x
open d {port}
send c STOR x
await c 150 *

exchange data on d
raw d some data
close d
await c 226 *"
        ),
        "{text}"
    );
}

#[test]
fn two_clients_have_names_and_labels_of_their_own() {
    let text = body(vec![
        open(0),
        Event::Rest,
        open(1),
        Event::Rest,
        sent(0, "NICK al\n"),
        Event::Rest,
        sent(1, "JOIN #c\n"),
        received(1, ":s 366 b #c :End\n"),
        received(0, ":b!x@h JOIN :#c\n"),
        Event::Rest,
        Event::Reset { connection: 0 },
        received(1, ":al!x@h QUIT :gone\n"),
        Event::Rest,
        finished(1),
    ]);
    assert_eq!(
        text,
        "eol lf

exchange c1 connects
open c1 main

exchange c2 connects
open c2 main

exchange c1 NICK al
send c1 NICK al

exchange c2 JOIN
send c2 JOIN #c
await c2 :* 366 *
await c1 :b!* JOIN *

exchange c1 resets
reset c1
await c2 :al!* QUIT *

exchange c2 closes
close c2"
    );
}

#[test]
fn active_mode_is_marked() {
    let text = body(vec![
        open(0),
        Event::Rest,
        sent(0, "PORT 127,0,0,1,4,5\r\n"),
        received(0, "200 Fine\r\n"),
        Event::Rest,
        finished(0),
    ]);
    assert!(
        text.contains("exchange PORT 127,0,0,1,4,5\n# Active mode: "),
        "{text}"
    );
}

#[test]
fn a_token_that_is_sent_back_becomes_a_variable() {
    let text = body(vec![
        open(0),
        received(0, "PING :123456\r\n"),
        Event::Rest,
        sent(0, "PONG :123456\r\n"),
        received(0, "ok 99999\r\n"),
        Event::Rest,
        sent(0, "SET a 77777\r\n"),
        received(0, "ok 77777\r\n"),
        Event::Rest,
        sent(0, "SET b 77777\r\n"),
        Event::Rest,
        finished(0),
    ]);
    assert!(text.contains("await c PING :{:token1}\n"), "{text}");
    assert!(text.contains("send c PONG :{token1}\n"), "{text}");
    // The client's own number stays a number, although the server repeated it.
    assert!(text.contains("send c SET b 77777\n"), "{text}");
}

#[test]
fn what_comes_unasked_is_awaited_by_itself() {
    let text = body(vec![
        open(0),
        Event::Rest,
        received(0, "PING :x\n"),
        Event::Rest,
        finished(0),
    ]);
    assert!(
        text.contains(
            "exchange unasked on c\n# Nothing was sent: the server spoke by itself.\nawait c *\n"
        ),
        "{text}"
    );
}

#[test]
fn a_half_close_is_told_from_a_close() {
    let half = body(vec![
        open(0),
        Event::Rest,
        sent(0, "GET /\n"),
        Event::Rest,
        finished(0),
        received(0, "page"),
        ended(0),
    ]);
    assert!(half.ends_with("finish c\nawait c eof\nclose c"), "{half}");
    let gone = body(vec![
        open(0),
        Event::Rest,
        sent(0, "GET /\n"),
        Event::Rest,
        finished(0),
        received(0, "page"),
        Event::Reset { connection: 0 },
    ]);
    assert!(gone.ends_with("exchange c closes\nclose c"), "{gone}");
}

#[test]
fn nothing_and_too_much_are_refused() {
    let log = |events| Log {
        events,
        server_ending: None,
    };
    assert_eq!(
        compose(&log(vec![]), &heading()).map(|_| ()),
        Err(ComposeError::Nothing)
    );
    let many = (0..9).flat_map(|connection| [open(connection), Event::Rest]);
    assert_eq!(
        compose(&log(many.collect()), &heading()).map(|_| ()),
        Err(ComposeError::TooManyConnections(9))
    );
    let one_after_the_other = (0..9).flat_map(|connection| {
        [
            open(connection),
            Event::Rest,
            finished(connection),
            Event::Rest,
        ]
    });
    assert!(compose(&log(one_after_the_other.collect()), &heading()).is_ok());
}

/// One random step of a session.
#[derive(Clone, Debug)]
enum Step {
    Open,
    Send(usize, String),
    Finish(usize),
    Reset(usize),
    Receive(usize, String),
    End(usize),
    Passive(usize, u16),
    Rest,
}

fn step() -> impl Strategy<Value = Step> {
    let text = || "([A-Z]{3,5}( [a-z#*{\\\\]{0,4}| 123456|[0-9]{3})?(\r\n|\n|)){0,3}";
    prop_oneof![
        1 => Just(Step::Open),
        4 => (0..4usize, text()).prop_map(|(c, t)| Step::Send(c, t)),
        1 => (0..4usize).prop_map(Step::Finish),
        1 => (0..4usize).prop_map(Step::Reset),
        6 => (0..4usize, text()).prop_map(|(c, t)| Step::Receive(c, t)),
        1 => (0..4usize).prop_map(Step::End),
        1 => (0..4usize, 1..=u16::MAX).prop_map(|(c, p)| Step::Passive(c, p)),
        6 => Just(Step::Rest),
    ]
}

/// A log as a proxy could have written it.
fn log(steps: Vec<Step>) -> Log {
    #[derive(Clone, Copy, Default)]
    struct Ends {
        client: bool,
        server: bool,
        received: usize,
        within_line: bool,
        data: bool,
    }
    let mut events = Vec::new();
    let mut ends: Vec<Ends> = Vec::new();
    for step in std::iter::once(Step::Open).chain(steps) {
        let known = match &step {
            Step::Send(c, _) | Step::Finish(c) | Step::Reset(c) => {
                ends.get(*c).is_some_and(|ends| !ends.client)
            }
            Step::Receive(c, _) | Step::End(c) => ends.get(*c).is_some_and(|ends| !ends.server),
            Step::Passive(c, _) => ends
                .get(*c)
                .is_some_and(|e| !e.server && !e.client && !e.within_line && !e.data),
            Step::Open | Step::Rest => true,
        };
        if !known || (ends.len() >= 4 && matches!(step, Step::Open | Step::Passive(..))) {
            continue;
        }
        match step {
            Step::Open => {
                events.push(open(ends.len()));
                ends.push(Ends::default());
            }
            Step::Send(c, text) if !text.is_empty() => events.push(sent(c, &text)),
            Step::Receive(c, text) if !text.is_empty() => {
                ends[c].received += text.len();
                ends[c].within_line = !text.ends_with('\n');
                events.push(received(c, &text));
            }
            Step::Send(..) | Step::Receive(..) => {}
            Step::Finish(c) => {
                ends[c].client = true;
                events.push(finished(c));
            }
            Step::Reset(c) => {
                ends[c].client = true;
                ends[c].server = true;
                events.push(Event::Reset { connection: c });
            }
            Step::End(c) => {
                ends[c].server = true;
                events.push(ended(c));
            }
            Step::Passive(c, port) => {
                let line = format!("227 (127,0,0,1,{},{})\r\n", port / 256, port % 256);
                ends[c].received += line.len();
                events.push(received(c, &line));
                events.push(Event::Rest);
                events.push(Event::Opened {
                    connection: ends.len(),
                    target: Target::Passive {
                        control: c,
                        offset: ends[c].received,
                    },
                    accepted: true,
                });
                ends.push(Ends {
                    data: true,
                    ..Ends::default()
                });
            }
            Step::Rest => events.push(Event::Rest),
        }
    }
    // As the proxy ends a session.
    for (connection, ends) in ends.iter().enumerate() {
        if !ends.client {
            events.extend([Event::Rest, finished(connection)]);
        }
    }
    Log {
        events,
        server_ending: None,
    }
}

/// Plays a script against the server of the log, which in each exchange sends what
/// it sent when that was recorded.
fn play(script: &Script, groups: &[Group]) -> Vec<BTreeMap<String, Vec<u8>>> {
    #[derive(Default)]
    struct Peer {
        pending: Vec<u8>,
        end: Option<&'static str>,
    }
    let mut peers: Vec<Peer> = Vec::new();
    peers.resize_with(16, Peer::default);
    let mut open: BTreeMap<u8, usize> = BTreeMap::new();
    let mut opened = 0;
    let mut replies: Vec<BTreeMap<String, Vec<u8>>> = Vec::new();
    let mut client = Client::default();
    let mut action = client.begin(script);
    while action != Action::Finished {
        let exchange = usize::try_from(client.exchange()).unwrap();
        if replies.len() == exchange {
            replies.push(BTreeMap::new());
            for event in &groups[exchange] {
                match event {
                    Event::Received { connection, bytes } => {
                        peers[*connection].pending.extend_from_slice(bytes);
                    }
                    Event::Ended { connection, torn } => {
                        peers[*connection].end = Some(if *torn { RESET } else { END_OF_FILE });
                    }
                    _ => {}
                }
            }
        }
        let mut note = |at: u8, bytes: &[u8]| {
            if !bytes.is_empty() {
                let name = script.connections[usize::from(at)].clone();
                replies[exchange]
                    .entry(name)
                    .or_default()
                    .extend_from_slice(bytes);
            }
        };
        let mut event = ClientEvent::Done;
        let data;
        match &action {
            Action::Connect { connection, .. } => {
                open.insert(*connection, opened);
                opened += 1;
            }
            Action::Receive { connection } => match open.get(connection) {
                None => event = ClientEvent::Ended,
                Some(number) => {
                    let peer = &mut peers[*number];
                    if peer.pending.is_empty() {
                        let mark = peer.end.expect("the script awaits what never came");
                        note(*connection, mark.as_bytes());
                        open.remove(connection);
                        event = ClientEvent::Ended;
                    } else {
                        data = peer.pending.clone();
                        let (count, next) = client.on(script, ClientEvent::Data(&data));
                        note(*connection, &data[..count]);
                        peer.pending.drain(..count);
                        action = next;
                        continue;
                    }
                }
            },
            Action::Close { connection } | Action::Reset { connection } => {
                if let Some(number) = open.remove(connection) {
                    let peer = &mut peers[number];
                    note(*connection, &std::mem::take(&mut peer.pending));
                    note(*connection, peer.end.unwrap_or_default().as_bytes());
                }
            }
            _ => {}
        }
        action = client.on(script, event).1;
    }
    replies
}

fn show(composed: &Composed) -> String {
    format!("{}\n{:?}", composed.text, composed.replies)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// Whatever was recorded, the script can be read, and playing it against the
    /// same server consumes in every exchange what was recorded in it.
    #[test]
    fn a_script_plays_what_was_recorded(steps in prop::collection::vec(step(), 0..40)) {
        let log = log(steps);
        let composed = compose(&log, &heading()).unwrap();
        let script = parse(&composed.text);
        prop_assert_eq!(&script.exchanges, &composed.labels);
        let facts = facts(&log);
        let groups = group(&log, &facts);
        prop_assert_eq!(groups.len(), composed.labels.len());
        prop_assert_eq!(play(&script, &groups), composed.replies.clone(), "{}", show(&composed));
    }

    /// Everything that a client sent while the server could hear it is in the script.
    #[test]
    fn a_script_sends_what_was_sent(lines in prop::collection::vec("[ -~\t]{0,20}\r?\n", 1..8)) {
        let mut events = vec![open(0), Event::Rest];
        for line in &lines {
            events.extend([sent(0, line), Event::Rest]);
        }
        events.push(finished(0));
        let log = Log { events, server_ending: None };
        let script = parse(&compose(&log, &heading()).unwrap().text);
        let mut client = Client::default();
        let mut action = client.begin(&script);
        let mut bytes = Vec::new();
        while action != Action::Finished {
            if let Action::Send { bytes: more, .. } = &action {
                bytes.extend_from_slice(more);
            }
            action = client.on(&script, ClientEvent::Done).1;
        }
        prop_assert_eq!(String::from_utf8(bytes).unwrap(), lines.concat());
    }
}

#[test]
fn a_refused_connection_is_marked() {
    let log = Log {
        events: vec![Event::Opened {
            connection: 0,
            target: Target::Port("main".to_owned()),
            accepted: false,
        }],
        server_ending: None,
    };
    let composed = compose(&log, &heading()).unwrap();
    assert_eq!(composed.replies[0]["c"], REFUSED.as_bytes());
}
