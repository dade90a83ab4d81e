//! Records the stacks of all threads in scope at a point: of the thread that enters
//! a function, and of those that wait or run elsewhere meanwhile.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::parts::Parts;
use crate::binary::Address;
use crate::trace::{Scope, Stack};
use crate::tracee::tree::ProcessIndex;
use crate::tracee::unwind::{Registers, Walk};
use crate::tracee::words::scan;
use crate::tracee::{Memory, Stopped};
use crate::world::HostError;

/// A thread: its process, and its place within it.
pub type ThreadIndex = (ProcessIndex, u32);

/// Distinct stacks and sets of words, each stored once.
#[derive(Default)]
pub struct Interned {
    /// Distinct stacks.
    pub stacks: Vec<Stack>,
    /// Distinct sets of functions that words point into.
    pub word_sets: Vec<Vec<Address>>,
    known_stacks: HashMap<Stack, u32>,
    known_words: HashMap<Vec<Address>, u32>,
}

impl Interned {
    /// The index of a stack.
    pub fn stack(&mut self, stack: Stack) -> u32 {
        *self.known_stacks.entry(stack).or_insert_with_key(|stack| {
            self.stacks.push(stack.clone());
            last(&self.stacks)
        })
    }

    /// The index of a set of functions.
    pub fn words(&mut self, words: &BTreeSet<Address>) -> u32 {
        let words: Vec<Address> = words.iter().copied().collect();
        *self.known_words.entry(words).or_insert_with_key(|words| {
            self.word_sets.push(words.clone());
            last(&self.word_sets)
        })
    }
}

fn last<T>(list: &[T]) -> u32 {
    u32::try_from(list.len() - 1).unwrap_or(u32::MAX)
}

/// What was seen of one thread's stack.
#[derive(Clone)]
pub struct SeenStack {
    /// Index of the stack.
    pub stack: u32,
    words: Rc<BTreeSet<Address>>,
}

/// What was seen of the threads beside one.
pub struct Others {
    /// Indices of their stacks, in order of processes and threads.
    pub stacks: Vec<u32>,
    words: Vec<Rc<BTreeSet<Address>>>,
}

impl Others {
    /// Everything that a word of these stacks or of `own` points into.
    #[must_use]
    pub fn words_with(&self, own: &SeenStack) -> BTreeSet<Address> {
        let mut all = (*own.words).clone();
        for words in &self.words {
            all.extend(words.iter().copied());
        }
        all
    }
}

/// A thread in a system call: its stack stays as it is until the call returns.
struct Waiting {
    registers: libc::user_regs_struct,
    seen: Option<SeenStack>,
}

/// Where the threads of the server stand.
#[derive(Default)]
pub struct Surroundings {
    waiting: HashMap<ThreadIndex, Waiting>,
}

impl Surroundings {
    /// A thread enters a system call.
    pub fn enters_call(&mut self, thread: ThreadIndex, registers: libc::user_regs_struct) {
        let waiting = Waiting {
            registers,
            seen: None,
        };
        self.waiting.insert(thread, waiting);
    }

    /// A thread has left its system call.
    pub fn leaves_call(&mut self, thread: ThreadIndex) {
        self.waiting.remove(&thread);
    }

    /// The stack of a thread that waits in a system call; none of one that runs.
    pub fn of_waiting(
        &mut self,
        parts: &mut Parts<'_>,
        interned: &mut Interned,
        thread: ThreadIndex,
    ) -> Option<SeenStack> {
        let waiting = self.waiting.get_mut(&thread)?;
        if let Some(seen) = &waiting.seen {
            return Some(seen.clone());
        }
        let process = &parts.tree.processes[thread.0];
        let walk = parts.tools.unwinder.walk(
            process.pid,
            &process.memory,
            Registers::from(&waiting.registers),
        );
        let stack_pointer = Address(waiting.registers.rsp);
        let seen = see(parts, interned, &process.memory, stack_pointer, &walk);
        waiting.seen = Some(seen.clone());
        Some(seen)
    }

    /// The stacks of all threads in scope but `thread`. Those that run are held still
    /// for the look.
    ///
    /// # Errors
    /// When tracing fails.
    pub fn of_others(
        &mut self,
        parts: &mut Parts<'_>,
        interned: &mut Interned,
        thread: ThreadIndex,
    ) -> Result<Others, HostError> {
        let scope = parts.spec.scope;
        let in_scope: Vec<ThreadIndex> = parts
            .tree
            .living()
            .filter(|(process, traced)| match scope {
                Scope::Process => *process == thread.0,
                Scope::Tree => traced.counted,
            })
            .flat_map(|(process, traced)| {
                let threads = traced.threads.iter();
                threads.map(move |thread| (process, thread.ordinal))
            })
            .filter(|other| *other != thread)
            .collect();
        let running = |other: &ThreadIndex| !self.waiting.contains_key(other);
        let mut seen: HashMap<ThreadIndex, SeenStack> = HashMap::new();
        if in_scope.iter().any(running) {
            let held = parts.tree.hold(&|process, ordinal, _| {
                let other = (process, ordinal);
                in_scope.contains(&other) && running(&other)
            })?;
            for other in &held {
                let function = parts.entry_of(other.process, &other.stopped)?;
                let own = see_stopped(parts, interned, other.process, &other.stopped, function)?;
                seen.insert((other.process, other.thread), own);
            }
            parts.tree.release(held)?;
        }
        let mut others = Others {
            stacks: Vec::new(),
            words: Vec::new(),
        };
        for other in in_scope {
            let own = match seen.remove(&other) {
                Some(own) => Some(own),
                None => self.of_waiting(parts, interned, other),
            };
            // One that has just ended has no stack.
            if let Some(own) = own {
                others.stacks.push(own.stack);
                others.words.push(own.words);
            }
        }
        Ok(others)
    }
}

/// Looks at the stack of a stopped thread; at a counted entry as if `function` had
/// just been called.
///
/// # Errors
/// When the process is gone.
pub fn see_stopped(
    parts: &mut Parts<'_>,
    interned: &mut Interned,
    process: ProcessIndex,
    stopped: &Stopped,
    function: Option<Address>,
) -> Result<SeenStack, HostError> {
    let walk = parts.walk(process, stopped, function)?;
    let stack_pointer = stopped.registers()?.rsp + if function.is_some() { 8 } else { 0 };
    let memory = &parts.tree.processes[process].memory;
    Ok(see(parts, interned, memory, Address(stack_pointer), &walk))
}

fn see(
    parts: &Parts<'_>,
    interned: &mut Interned,
    memory: &Memory,
    stack_pointer: Address,
    walk: &Walk,
) -> SeenStack {
    // A return address may lie behind the end of a function that ends with a call.
    let function_of = |word: Address| {
        let before = Address(word.0.wrapping_sub(1));
        let own = parts.names.own(word).or_else(|| parts.names.own(before))?;
        Some(own.entry)
    };
    SeenStack {
        words: Rc::new(scan(memory, stack_pointer, walk, &function_of)),
        stack: interned.stack(walk.stack()),
    }
}
