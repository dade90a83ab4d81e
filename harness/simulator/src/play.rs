//! Plays the client: session, probe session, and the ordinary stop.

use crate::cache::Path;
use crate::client::Event;
use crate::marks;
use crate::network::{End, FIRST_LOCAL_PORT};
use crate::numbers::ACT_OF_CLIENT;
use crate::script::{Kind, Script, Step};
use crate::signals::Sender;
use crate::transcript::{END_OF_FILE, MOST_EXCHANGES, MOST_LOGS, REFUSED, RESET};
use crate::waiting::{arm, stalled, trap};
use crate::world::{Awaited, Declined, Phase, Reason, World};

/// Where the run folder is found.
pub const RUN_FOLDER: &[u8] = b"/kairos/run";

/// What came of letting the client act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It did something.
    Acted,
    /// It waits for the server.
    Waits,
}

fn script(world: &World) -> Script<'static> {
    let which = usize::from(world.control.phase == Phase::Probe);
    // SAFETY: the harness placed the tables.
    unsafe { world.control.scripts[which].script() }
}

/// Begins the session.
pub fn begin(world: &mut World) {
    world.control.phase = Phase::Session;
    world.control.idle = 0;
    let script = script(world);
    world.client.begin(&script);
    arm(world);
}

/// Lets the client do one thing; `blocked` says that the server waits for an event and
/// not only for time to pass.
///
/// # Errors
/// When something happens that is not simulated.
pub fn turn(world: &mut World, blocked: bool) -> Result<Turn, Declined> {
    if world.control.phase == Phase::Stop {
        return Ok(Turn::Waits);
    }
    let script = script(world);
    let Some(step) = world.client.action(&script) else {
        next_phase(world);
        return Ok(Turn::Acted);
    };
    let turn = act(world, &script, *step, blocked)?;
    if turn == Turn::Acted {
        world.control.idle = 0;
    }
    Ok(turn)
}

fn next_phase(world: &mut World) {
    world.control.idle = 0;
    let mut left = false;
    for link in 0..world.network.links.len() {
        // The client is gone, and its connections with it.
        if world.network.links[link].open {
            world.network.drop_link(link, false);
            left = true;
        }
    }
    if left {
        // The server takes note of that before anybody comes again.
        return;
    }
    if world.control.phase == Phase::Session && world.control.has_probe != 0 {
        world.control.phase = Phase::Probe;
        world.client = crate::client::Client::NEW;
        let script = script(world);
        world.client.begin(&script);
        return;
    }
    world.control.phase = Phase::Stop;
    if world.control.dead == 0 {
        let signal = world.control.stop_signal;
        world.processes[0].signals.send(signal, Sender::KAIROS);
    }
}

fn act(
    world: &mut World,
    script: &Script<'_>,
    step: Step,
    blocked: bool,
) -> Result<Turn, Declined> {
    let at = step.connection as usize;
    let mut event = Event::Done;
    match step.kind {
        Kind::Open | Kind::OpenPair | Kind::OpenVariable => {
            if !connect(world, &step)? {
                record(world, at, REFUSED)?;
                event = Event::Ended;
            }
        }
        Kind::Send => match send(world, script, &step) {
            Sent::All => {}
            Sent::Ended => event = Event::Ended,
            Sent::Some => return Ok(Turn::Waits),
        },
        Kind::AwaitLine | Kind::AwaitLines | Kind::AwaitBytes | Kind::AwaitEnd => {
            return receive(world, script, at);
        }
        Kind::Finish => world.network.finish(at),
        Kind::Close | Kind::Reset => {
            if !blocked {
                return Ok(Turn::Waits);
            }
            close(world, at, step.kind == Kind::Reset)?;
        }
        Kind::Signal => {
            if step.a != 0 && world.control.dead == 0 {
                world.processes[0].signals.send(step.number, Sender::KAIROS);
            }
        }
        Kind::Write => write(
            world,
            step.first.of(script.bytes),
            step.second.of(script.bytes),
        )?,
        Kind::Remove => {
            let path = Path::resolve(RUN_FOLDER, step.first.of(script.bytes))?;
            world.files.set_name(&path, 0)?;
        }
        Kind::EndExchange => {
            if !blocked {
                return Ok(Turn::Waits);
            }
            end_exchange(world)?;
            world.client.on(script, Event::Done);
            arm(world);
            return Ok(Turn::Acted);
        }
    }
    // As much in every test, however the server sends and reads.
    world.control.now += ACT_OF_CLIENT;
    world.client.on(script, event);
    Ok(Turn::Acted)
}

fn end_exchange(world: &mut World) -> Result<(), Declined> {
    let number = world.control.exchange + 1;
    if number as usize > MOST_EXCHANGES {
        return Err(Declined("too many exchanges"));
    }
    note_logs(world, number as usize);
    world.transcript.ended = number;
    marks::rest(world);
    if world.control.stop_at_exchange_end != 0 || marks::any_runs(world) {
        trap(
            world,
            Reason::ExchangeEnded,
            i64::from(world.control.exchange),
            0,
        );
    }
    world.control.exchange = number;
    Ok(())
}

/// Notes how long the logs are: before the first exchange (0), or after so many.
pub fn note_logs(world: &mut World, place: usize) {
    for log in 0..MOST_LOGS {
        let path = &world.logs[log];
        if path.length > 0 {
            let inode = world.files.written(path);
            let length = inode.map_or(0, |inode| world.files.content(inode).len());
            world.transcript.logs[place][log] = length as u32;
        }
    }
}

fn connect(world: &mut World, step: &Step) -> Result<bool, Declined> {
    let variables = world.client.variables();
    let value = |at: u32| variables.get(at as usize).copied().unwrap_or(0);
    let port = match step.kind {
        Kind::OpenPair => value(step.a).wrapping_mul(256).wrapping_add(value(step.b)),
        Kind::OpenVariable => value(step.a),
        _ => step.number,
    };
    let local = FIRST_LOCAL_PORT + world.opened as u16;
    world.opened += 1;
    let at = step.connection as usize;
    let connected = world.network.links[at];
    if world.network.listener(port as u16).is_some() && connected.open {
        world.network.drop_link(at, false);
    }
    world.network.connect(at, port as u16, local)
}

enum Sent {
    All,
    Some,
    Ended,
}

fn send(world: &mut World, script: &Script<'_>, step: &Step) -> Sent {
    let link = step.connection as usize;
    let mut before = 0;
    for part in step.first.of(script.parts) {
        let mut digits = [0; 10];
        let bytes = if part.is_variable != 0 {
            let variables = world.client.variables();
            let value = variables.get(part.bytes.start as usize).copied();
            decimal(value.unwrap_or(0), &mut digits)
        } else {
            part.bytes.of(script.bytes)
        };
        let after = before + bytes.len() as u64;
        if world.sent < after {
            let rest = &bytes[(world.sent - before) as usize..];
            let Some(count) = world.network.send(link, rest) else {
                world.sent = 0;
                return Sent::Ended;
            };
            world.sent += count as u64;
            if count > 0 {
                world.control.idle = 0;
            }
            if world.sent < after {
                return Sent::Some;
            }
        }
        before = after;
    }
    world.sent = 0;
    Sent::All
}

fn decimal(mut value: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            return &digits[at..];
        }
    }
}

fn receive(world: &mut World, script: &Script<'_>, at: usize) -> Result<Turn, Declined> {
    let link = world.network.links[at];
    if !link.open {
        world.client.on(script, Event::Ended);
        return Ok(Turn::Acted);
    }
    if link.length > 0 {
        let pending = world.network.pending(at);
        let consumed = world.client.on(script, Event::Data(pending));
        let exchange = world.control.exchange;
        world
            .transcript
            .record(exchange, at as u32, &pending[..consumed])?;
        world.network.consume(at, consumed);
        return Ok(Turn::Acted);
    }
    let mark = match link.end {
        End::Open => return Ok(Turn::Waits),
        End::Closed => END_OF_FILE,
        End::Reset => RESET,
    };
    record(world, at, mark)?;
    world.network.drop_link(at, false);
    world.client.on(script, Event::Ended);
    Ok(Turn::Acted)
}

/// Records what has arrived and closes.
fn close(world: &mut World, at: usize, abrupt: bool) -> Result<(), Declined> {
    let link = world.network.links[at];
    if !link.open {
        return Ok(());
    }
    let exchange = world.control.exchange;
    let rest = world.network.pending(at);
    world.transcript.record(exchange, at as u32, rest)?;
    world.network.consume(at, link.length as usize);
    match link.end {
        End::Open => {}
        End::Closed => record(world, at, END_OF_FILE)?,
        End::Reset => record(world, at, RESET)?,
    }
    world.network.drop_link(at, abrupt);
    Ok(())
}

fn record(world: &mut World, at: usize, bytes: &[u8]) -> Result<(), Declined> {
    let exchange = world.control.exchange;
    world.transcript.record(exchange, at as u32, bytes)
}

fn write(world: &mut World, path: &[u8], content: &[u8]) -> Result<(), Declined> {
    let path = Path::resolve(RUN_FOLDER, path)?;
    let now = world.control.now;
    let inode = world.files.to_write(&path, 0o644, now)?;
    world.files.truncate(inode, 0, now)?;
    world.files.write(inode, 0, content, now)
}

/// The time is up in which the client should have seen something.
pub fn stall(world: &mut World) -> ! {
    if world.control.phase == Phase::Stop {
        stalled(world, Awaited::Stopping, 0);
    }
    let script = script(world);
    let step = world.client.action(&script);
    let (awaited, connection) = step.map_or((Awaited::Rest, 0), |step| match step.kind {
        Kind::AwaitLine | Kind::AwaitLines | Kind::AwaitBytes | Kind::AwaitEnd => {
            (Awaited::Reply, step.connection)
        }
        Kind::Send => (Awaited::Reading, step.connection),
        _ => (Awaited::Rest, 0),
    });
    stalled(world, awaited, connection)
}
