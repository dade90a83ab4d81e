//! Breakpoints in a program with threads: each passage is seen, and a thread that
//! reached one just before it was taken away goes on as if there had been none.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;

use kairos::binary::Address;
use kairos::tracee::Stopped;
use kairos::tracee::spawn::{Descriptors, Program, Tracing, start};
use kairos::tracee::stopped::Until;
use kairos::tracee::tree::{Event, Stop, Tree};
use kairos::verdict::observation::Ending;

const CALLS: usize = 1000;

/// Two threads call one function, each so many times.
fn program(folder: &Path) -> (String, Address) {
    let source = folder.join("calls.c");
    let text = format!(
        "#include <pthread.h>\n\
         void __attribute__((noinline, noipa)) reached(void) {{ __asm__ volatile(\"nop\"); }}\n\
         static void *calls(void *nothing)\n\
         {{\n\
             for (int i = 0; i < {CALLS}; i++) reached();\n\
             return nothing;\n\
         }}\n\
         int main(void)\n\
         {{\n\
             pthread_t other;\n\
             pthread_create(&other, 0, calls, 0);\n\
             calls(0);\n\
             return pthread_join(other, 0);\n\
         }}\n"
    );
    fs::write(&source, text).unwrap();
    let path = folder.join("calls");
    let made = Command::new("cc")
        .args(["-O1", "-no-pie", "-pthread", "-o"])
        .args([&path, &source])
        .status()
        .unwrap();
    assert!(made.success());
    let names = Command::new("nm").arg(&path).output().unwrap();
    let names = String::from_utf8(names.stdout).unwrap();
    let line = names.lines().find(|line| line.ends_with(" reached"));
    let address = line.and_then(|line| line.split(' ').next()).unwrap();
    let address = u64::from_str_radix(address, 16).unwrap();
    (path.to_string_lossy().into_owned(), Address(address))
}

/// Starts the program with a breakpoint in the function.
fn started(path: &str, address: Address) -> Tree {
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let program = Program {
        arguments: &[path.to_owned()],
        environment: &[],
        directory: Path::new("/"),
    };
    let descriptors = Descriptors {
        input: null.as_fd(),
        output: null.as_fd(),
        error: null.as_fd(),
        shared: None,
        world: None,
    };
    let pid = start(&program, &descriptors, Tracing::Seized).unwrap();
    let (mut tree, stopped) = Tree::start(pid, path, Until::Event).unwrap();
    let process = &mut tree.processes[0];
    process.breakpoints.set(&process.memory, address).unwrap();
    stopped.resume(Until::Event, 0).unwrap();
    tree
}

/// Runs to the end; `reached` is given each stop at the breakpoint.
fn run(tree: &mut Tree, reached: &mut dyn FnMut(&mut Tree, Stopped)) -> Ending {
    loop {
        match tree.poll().unwrap() {
            None => std::thread::yield_now(),
            Some(Event::Ended(_)) => return tree.processes[0].ending.clone().unwrap(),
            Some(Event::Stopped { stopped, stop, .. }) => match stop {
                Stop::Breakpoint(_) => reached(tree, stopped),
                Stop::Signal(signal) => {
                    stopped.resume(Until::Event, signal).unwrap();
                }
                _ => {
                    stopped.resume(Until::Event, 0).unwrap();
                }
            },
            Some(other) => panic!("{other:?}"),
        }
    }
}

fn all_threads_are_stopped(tree: &Tree) -> bool {
    tree.living_threads().all(|(process, thread)| {
        fs::read_to_string(format!("/proc/{process}/task/{thread}/stat"))
            .unwrap()
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('t'))
    })
}

// One test: waiting takes the reports of any child.
#[test]
fn threads_pass_breakpoints_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let (path, address) = program(folder.path());

    let mut tree = started(&path, address);
    let mut passages = 0;
    let ending = run(&mut tree, &mut |tree, stopped| {
        passages += 1;
        tree.step_over(0, stopped, address).unwrap();
    });
    assert_eq!(ending, Ending::Exited(0));
    assert_eq!(
        passages,
        2 * CALLS,
        "one thread passed while another was stepped"
    );

    let mut tree = started(&path, address);
    let mut passages = 0;
    let ending = run(&mut tree, &mut |tree, stopped| {
        passages += 1;
        if tree.processes[0].threads.len() == 1 {
            // The other thread is still to come.
            tree.step_over(0, stopped, address).unwrap();
            return;
        }
        while !all_threads_are_stopped(tree) {
            std::thread::yield_now();
        }
        let process = &mut tree.processes[0];
        process.breakpoints.clear(&process.memory, address).unwrap();
        stopped.resume(Until::Event, 0).unwrap();
    });
    assert_eq!(
        ending,
        Ending::Exited(0),
        "the second thread's stop became a signal"
    );
    assert!(passages > 0);
}
