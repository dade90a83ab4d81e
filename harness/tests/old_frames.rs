//! Old frames that run on after the update: in which exchanges one does, a test by
//! rollback sees in the server's own process, and restart by breakpoints. Both show the
//! same at every point.

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::{Project, compared};

/// A frame that waits in a callee, on several stacks, and returns; more frames than are
/// followed at a time.
const STACKS: &str = "open c main
send c lines
await c lingers

send c x
await c *
await c *

send c lines
await c lingers

send c lines
await c lingers

send c deep
await c *

send c lines
await c lingers

send c x
await c *

send c other
await c *

send c lines
await c lingers

send c x
await c *

send c x
await c *
await c *

send c nest
await c *

send c lines
await c lingers

send c x
await c *
await c *
await c *
await c *

open d main

send c return
await c *
await c *
await c eof

send d x
await d *
await d *

finish d
await d eof";

/// Jumps into a frame and past it.
const JUMPS: &str = "open c main
send c lines
await c lingers

send c x
await c *
await c *

send c again
await c *

send c lines
await c lingers

send c x
await c *
await c *

send c out
await c *

send c x
await c *
await c *

send c x
await c *
await c *

finish c
await c *
await c eof";

/// A callee that is interrupted while its caller waits, and a child that goes on in the
/// caller.
const PROCESSES: &str = "open c main
send c x
await c *
await c *

signal server SIGUSR1
await c interrupted

send c anything
await c goes on

send c x
await c *
await c *

send c fork
await c *
await c *

send c lines
await c lingers

send c x
await c *
await c *

send c x
await c *
await c *

send c crash
await c child ended by 6

send c lines
await c lingers

send c x
await c *
await c *

finish c
await c eof";

const ROLES: &str = "[[role]]\nname = \"server\"\nfirst = true\n\
    [[role]]\nname = \"child\"\nparent = \"server\"\n";

fn frames(exchanges: &str) -> Project {
    Project::of("frames")
        .manifest(ROLES)
        .session("conformable", exchanges)
}

/// Compares both engines at every point, of which some are left to restart; returns at
/// how many.
fn compare(exchanges: &str, by_restart: u64) -> u64 {
    let rollback = compared(&frames(exchanges), "rollback");
    assert_eq!(rollback["by_restart"], by_restart, "{rollback}");
    rollback["compared"].as_u64().unwrap()
}

#[test]
fn frames_that_wait_on_several_stacks_are_seen_alike() {
    assert!(compare(STACKS, 0) > 25);
}

/// They may run unnoticed in place, and breakpoints are used after all.
#[test]
fn frames_that_are_left_by_jumps_are_seen_alike() {
    assert!(compare(JUMPS, 0) > 15);
}

#[test]
fn frames_below_a_handler_and_of_a_child_are_seen_alike() {
    // The handler's own entry is.
    assert!(compare(PROCESSES, 1) > 15);
}

/// Those of `session` and then of `serve`, for an update in the first exchange.
const KNOWN: [u32; 10] = [1, 4, 6, 7, 9, 10, 11, 13, 15, 17];

#[test]
fn old_frames_run_in_the_exchanges_that_they_are_known_to_run_in() {
    let seen = ["restart", "rollback"].map(|engine| {
        let run = frames(STACKS).study(&format!("--engine {engine}"));
        assert!(run.rows().iter().all(|row| row.engine == engine));
        let of = |(test, seen): (String, Value)| (test, seen["old_frame_exchanges"].clone());
        let seen = run.observations().into_iter().map(of);
        seen.collect::<BTreeMap<String, Value>>()
    });
    assert_eq!(seen[0], seen[1]);
    let first = seen[0]
        .iter()
        .find(|(test, _)| test.ends_with("/server#1/0@0:3"));
    assert_eq!(*first.unwrap().1, json!(KNOWN), "{seen:?}");
}
