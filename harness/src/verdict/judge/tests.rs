use super::*;
use crate::verdict::observation::{Fault, Stall};

fn role(text: &str) -> RoleInstance {
    text.parse().unwrap()
}

fn run(replies: &[&str]) -> Observation {
    Observation {
        update: Update::None,
        exchanges: replies
            .iter()
            .map(|reply| SeenExchange {
                replies: BTreeMap::from([("c".to_owned(), format!("{reply}\n"))]),
                logs: BTreeMap::new(),
            })
            .collect(),
        session_exchanges: u32::try_from(replies.len()).unwrap(),
        processes: vec![SeenProcess {
            role: role("server#1"),
            updated: true,
            ended_in: u32::try_from(replies.len()).unwrap(),
            ending: Ending::Exited(0),
            fault: None,
        }],
        files: BTreeMap::new(),
        stall: None,
        new_entries: [("f", 3)].into_iter().collect(),
        old_frame_exchanges: BTreeSet::new(),
        wall_us: 1,
        output: BTreeMap::new(),
    }
}

fn judge_at(exchange: u32, seen: &Observation) -> Judgement {
    judge_with(
        exchange,
        seen,
        &[BTreeSet::from([role("server#1")]), BTreeSet::new()],
    )
}

fn judge_with(exchange: u32, seen: &Observation, writers: &[BTreeSet<RoleInstance>]) -> Judgement {
    let (old, new) = (run(&["hi", "a", "b", "c"]), run(&["hi", "A", "B", "C"]));
    let expected = Expected {
        old: &old,
        new: &new,
        after_update: &BTreeMap::new(),
        writers,
    };
    let point = PointId {
        role: role("server#1"),
        thread: 0,
        exchange: Some(exchange),
        index: 1,
    };
    judge(&expected, &point, seen)
}

#[test]
fn replies_decide() {
    for (exchange, replies, verdict, cause) in [
        (0, ["hi", "A", "B", "C"], Verdict::New, ""),
        (1, ["hi", "a", "B", "C"], Verdict::New, ""),
        (1, ["hi", "A", "B", "C"], Verdict::New, ""),
        (3, ["hi", "a", "b", "c"], Verdict::New, ""),
        (1, ["hi", "a", "b", "c"], Verdict::Inert, "stale"),
        (1, ["hi", "a", "b", "C"], Verdict::Late, "stale"),
        (
            1,
            ["hi", "a", "B", "c"],
            Verdict::Mixed,
            "old reply after a new one",
        ),
        (1, ["hi", "a", "B", "x"], Verdict::Wrong, ""),
        (
            2,
            ["hi", "A", "B", "C"],
            Verdict::Wrong,
            "before the update",
        ),
        (
            1,
            ["hi", "a", "B", "<EOF>"],
            Verdict::Exit,
            "connection c ended",
        ),
    ] {
        let judgement = judge_at(exchange, &run(&replies));
        assert_eq!(judgement.verdict, verdict, "{replies:?}");
        assert_eq!(judgement.cause, cause, "{replies:?}");
    }
}

#[test]
fn an_old_frame_excuses_old_replies() {
    let mut seen = run(&["hi", "a", "b", "C"]);
    seen.old_frame_exchanges.insert(2);
    let judgement = judge_at(1, &seen);
    assert_eq!(
        (judgement.verdict, judgement.cause.as_str()),
        (Verdict::Late, "")
    );
    assert!(judgement.old_frame_ran);
    let mut seen = run(&["hi", "a", "B", "c"]);
    seen.old_frame_exchanges.insert(3);
    assert_eq!(judge_at(1, &seen).verdict, Verdict::Late);
}

#[test]
fn a_reply_of_both_versions_is_mixed() {
    let mut seen = run(&["hi", "a", "B", "C"]);
    let (old, new) = ("one\ntwo\n", "ONE\nTWO\n");
    let mut baselines = [run(&["hi", "a", "b", "c"]), run(&["hi", "A", "B", "C"])];
    for (baseline, text) in baselines.iter_mut().zip([old, new]) {
        baseline.exchanges[2]
            .replies
            .insert("c".to_owned(), text.to_owned());
    }
    seen.exchanges[2]
        .replies
        .insert("c".to_owned(), "one\nTWO\n".to_owned());
    let [old, new] = &baselines;
    let expected = Expected {
        old,
        new,
        after_update: &BTreeMap::new(),
        writers: &[],
    };
    for (exchange, cause) in [(2, "in-flight"), (1, "one reply of both versions")] {
        let point = PointId {
            role: role("server#1"),
            thread: 0,
            exchange: Some(exchange),
            index: 1,
        };
        let judgement = judge(&expected, &point, &seen);
        assert_eq!(judgement.verdict, Verdict::Mixed);
        assert_eq!(judgement.cause, cause);
    }
}

#[test]
fn a_crash_weighs_most_and_names_the_function() {
    let mut seen = run(&["hi", "a", "<EOF>"]);
    seen.processes[0].ending = Ending::Killed("SIGSEGV".to_owned());
    seen.processes[0].ended_in = 2;
    seen.processes[0].fault = Some(Fault {
        address: crate::binary::Address(1),
        function: "f (new)".to_owned(),
        stack: Vec::new(),
    });
    let judgement = judge_at(1, &seen);
    assert_eq!(judgement.verdict, Verdict::Crash);
    assert_eq!(judgement.cause, "server killed by SIGSEGV in f (new)");
    assert_eq!(judgement.diverged_at, Some(2));
}

#[test]
fn a_stall_is_no_end() {
    let mut seen = run(&["hi", "a"]);
    seen.processes[0].ending = Ending::Outlived;
    seen.stall = Some(Stall {
        exchange: 2,
        waiting_for: "a reply on c".to_owned(),
        busy: false,
    });
    let judgement = judge_at(1, &seen);
    assert_eq!(judgement.verdict, Verdict::Stall);
    assert_eq!(judgement.diverged_at, Some(2));
}

#[test]
fn an_early_end_and_a_wrong_file_are_found() {
    let mut seen = run(&["hi", "A", "B", "C"]);
    seen.processes[0].ended_in = 2;
    assert_eq!(judge_at(0, &seen).verdict, Verdict::Exit);
    let mut seen = run(&["hi", "A", "B", "C"]);
    seen.files.insert("core".to_owned(), "x".to_owned());
    assert_eq!(judge_at(0, &seen).verdict, Verdict::State);
}

#[test]
fn a_process_without_the_update_is_not_asked_for_new_replies() {
    let other = BTreeSet::from([role("other#1")]);
    let writers = [other.clone(), other.clone(), other.clone(), other];
    let judgement = judge_with(0, &run(&["hi", "a", "b", "c"]), &writers);
    assert_eq!(judgement.verdict, Verdict::New);
    assert_eq!(judgement.discriminating, 0);
}
