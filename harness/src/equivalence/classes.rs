//! Classes of equivalent points of one session.

use std::collections::{BTreeMap, HashMap};

use super::conflict::{Boundary, Conflict, Rules};
use super::steps::{OwnFrame, OwnStack, step};
use super::touched::Touched;
use super::touches::Touches;
use crate::policy::{ChangedRanges, FunctionTable};
use crate::trace::{EventKind, RoleInstance, Scope, Trace};

/// Points of one thread that follow each other and are equivalent, by their places in
/// the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    /// The points, in the order of the trace; the first is the leader.
    pub members: Vec<usize>,
    /// Why the class begins where it does.
    pub boundary: Boundary,
}

impl Class {
    /// The point whose test serves the class.
    #[must_use]
    pub fn leader(&self) -> usize {
        self.members[0]
    }
}

/// All classes of a session, in the order of their leaders.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// The classes.
    pub classes: Vec<Class>,
    of_point: Vec<usize>,
}

/// What classes are computed from.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The old version's trace.
    pub trace: &'a Trace,
    /// Which processes the update reaches.
    pub scope: Scope,
    /// The old program's functions.
    pub functions: &'a FunctionTable,
    /// Those that the update changes.
    pub changed: &'a ChangedRanges,
    /// Who touches state of the update, by references.
    pub touches: &'a Touches,
    /// Which steps touch it, where that was measured: then references are not asked.
    pub touched: Option<&'a Touched>,
    /// The rules in force.
    pub rules: &'a Rules,
}

type Thread<'a> = (&'a RoleInstance, u32);

/// What an update reaches at once: the threads of one process, or all.
type Domain<'a> = Option<&'a RoleInstance>;

impl Classes {
    /// Computes the classes of a session; none if its trace did not record what they
    /// depend on.
    #[must_use]
    pub fn of(input: &Input<'_>) -> Option<Self> {
        let computation = Computation::new(input)?;
        Some(computation.classes())
    }

    /// The class that the point at that place of the trace belongs to.
    #[must_use]
    pub fn of_point(&self, place: usize) -> Option<&Class> {
        self.classes.get(*self.of_point.get(place)?)
    }

    /// How many points the classes have.
    #[must_use]
    pub fn points(&self) -> usize {
        self.of_point.len()
    }

    /// The fewest classes that these points can have: one for each thread, and one more
    /// behind each entry of a changed function.
    #[must_use]
    pub fn fewest(&self) -> usize {
        let unavoidable = [Conflict::Begin, Conflict::Entry];
        let classes = self.classes.iter();
        classes
            .filter(|class| unavoidable.contains(&class.boundary.conflict))
            .count()
    }
}

struct Computation<'a> {
    input: &'a Input<'a>,
    stacks: Vec<OwnStack>,
    /// Places of each thread's points.
    threads: BTreeMap<Thread<'a>, Vec<usize>>,
    events: HashMap<Thread<'a>, Vec<(usize, EventKind)>>,
    /// Before which points an update of a domain would be moved across a conflict of
    /// any of its threads, as how often that holds up to each point.
    marks: HashMap<Domain<'a>, Vec<u32>>,
}

impl<'a> Computation<'a> {
    fn new(input: &'a Input<'a>) -> Option<Self> {
        let Input {
            trace,
            functions,
            changed,
            touches,
            ..
        } = *input;
        let mut events: HashMap<Thread<'_>, Vec<(usize, EventKind)>> = HashMap::new();
        for event in trace.events.as_ref()? {
            let after = usize::try_from(event.after).unwrap_or(usize::MAX);
            let of_thread = events.entry((&event.role, event.thread)).or_default();
            of_thread.push((after, event.kind));
        }
        let mut threads: BTreeMap<Thread<'_>, Vec<usize>> = BTreeMap::new();
        for (place, point) in trace.points.iter().enumerate() {
            let thread = (&point.id.role, point.id.thread);
            threads.entry(thread).or_default().push(place);
        }
        let mut computation = Self {
            input,
            stacks: trace
                .stacks
                .iter()
                .map(|stack| OwnStack::of(stack, functions, changed, touches))
                .collect(),
            threads,
            events,
            marks: HashMap::new(),
        };
        computation.marks = computation.marks();
        Some(computation)
    }

    fn classes(&self) -> Classes {
        let mut found: Vec<Class> = Vec::new();
        for (thread, places) in &self.threads {
            let mut before = None;
            for place in places {
                let boundary = match before.replace(*place) {
                    None => Some(Boundary::new(Conflict::Begin, "")),
                    Some(from) => self
                        .own_conflict(*thread, from, *place)
                        .or_else(|| self.others_conflict(*thread, from, *place)),
                };
                match (boundary, found.last_mut()) {
                    (None, Some(class)) => class.members.push(*place),
                    (boundary, _) => found.push(Class {
                        members: vec![*place],
                        boundary: boundary.unwrap_or_else(|| Boundary::new(Conflict::Begin, "")),
                    }),
                }
            }
        }
        found.sort_by_key(Class::leader);
        let mut of_point = vec![0; self.input.trace.points.len()];
        for (number, class) in found.iter().enumerate() {
            for member in &class.members {
                of_point[*member] = number;
            }
        }
        Classes {
            classes: found,
            of_point,
        }
    }

    fn stack(&self, place: usize) -> Option<&OwnStack> {
        let point = self.input.trace.points.get(place)?;
        self.stacks.get(usize::try_from(point.stack).ok()?)
    }

    /// The domain of an update at a point of that process.
    fn domain(&self, role: &'a RoleInstance) -> Domain<'a> {
        match self.input.scope {
            Scope::Process => Some(role),
            Scope::Tree => None,
        }
    }

    /// What conflicts between two points of a thread that follow each other, in that
    /// thread.
    fn own_conflict(&self, thread: Thread<'a>, from: usize, to: usize) -> Option<Boundary> {
        let unresolved = |why: &str| {
            let rule = Conflict::Unresolved;
            self.has(rule).then(|| Boundary::new(rule, why))
        };
        let (Some(before), Some(after)) = (self.stack(from), self.stack(to)) else {
            return unresolved("a point has no stack");
        };
        if let Some(entered) = before.entered().filter(|frame| frame.changed)
            && self.has(Conflict::Entry)
        {
            return Some(Boundary::new(Conflict::Entry, &entered.name));
        }
        let step = match step(before, after) {
            Ok(step) => step,
            Err(why) => return unresolved(why),
        };
        if let Some(ending) = step.ending.iter().skip(1).find(|frame| frame.followed)
            && self.has(Conflict::Return)
        {
            return Some(Boundary::new(Conflict::Return, &ending.name));
        }
        if let Some(entered) = after.entered().filter(|frame| frame.deleted)
            && self.has(Conflict::Deleted)
        {
            return Some(Boundary::new(Conflict::Deleted, &entered.name));
        }
        if let Some(boundary) = self.event_between(thread, from, to) {
            return Some(boundary);
        }
        if let Some(what) = self.touched(from, step.executing)
            && self.has(Conflict::State)
        {
            return Some(Boundary::new(Conflict::State, what));
        }
        let unknown = self.unknown_state()?;
        let rule = Conflict::UnknownState;
        self.has(rule).then(|| Boundary::new(rule, unknown))
    }

    /// What state of the update the step from a point touches, for people.
    fn touched(&self, from: usize, executing: &[OwnFrame]) -> Option<String> {
        if let Some(touched) = self.input.touched {
            return touched.at(from).map(str::to_owned);
        }
        let frame = executing.iter().find(|frame| !frame.touches.is_empty())?;
        Some(format!("{} touches {}", frame.name, frame.touches))
    }

    /// Why it is not known what touches the state of the update.
    fn unknown_state(&self) -> Option<&str> {
        match self.input.touched {
            Some(touched) => touched.unknown.as_deref(),
            None => self.input.touches.unknown.as_deref(),
        }
    }

    fn has(&self, rule: Conflict) -> bool {
        self.input.rules.has(rule)
    }

    fn event_between(&self, thread: Thread<'a>, from: usize, to: usize) -> Option<Boundary> {
        let events = self.events.get(&thread)?;
        let first = events.partition_point(|(after, _)| *after <= from);
        events[first..]
            .iter()
            .take_while(|(after, _)| *after <= to)
            .map(|(_, kind)| Boundary::new(rule_of(*kind), kind.to_string()))
            .find(|boundary| self.has(boundary.conflict))
    }

    /// What conflicts meanwhile in another thread that an update here would reach.
    fn others_conflict(&self, thread: Thread<'a>, from: usize, to: usize) -> Option<Boundary> {
        let marks = self.marks.get(&self.domain(thread.0))?;
        let rule = Conflict::OtherThread;
        let conflicts = self.has(rule) && marks.get(to) > marks.get(from);
        conflicts.then(|| Boundary::new(rule, ""))
    }

    /// For each domain, how many places up to each point have a conflict just before
    /// the point. An exec concerns all: the program's file is the new version's from the
    /// update on.
    fn marks(&self) -> HashMap<Domain<'a>, Vec<u32>> {
        let points = self.input.trace.points.len();
        let mut found: HashMap<Domain<'a>, Vec<bool>> = HashMap::new();
        for (role, _) in self.threads.keys() {
            let domain = self.domain(role);
            found.entry(domain).or_insert_with(|| vec![false; points]);
        }
        let alone = found.len() == self.threads.len();
        for (thread, places) in &self.threads {
            // A thread alone in its domain is asked directly.
            if alone {
                break;
            }
            let marked = found.entry(self.domain(thread.0)).or_default();
            for (begin, end) in self.conflicts(*thread, places) {
                let end = end.min(points.saturating_sub(1));
                (begin + 1..=end).for_each(|place| marked[place] = true);
            }
        }
        for (thread, events) in &self.events {
            for (after, kind) in events {
                let everywhere = *kind == EventKind::Exec;
                let own = self.domain(thread.0);
                for (domain, marked) in &mut found {
                    let concerned = everywhere || (!alone && *domain == own);
                    if concerned && *after < points && self.has(rule_of(*kind)) {
                        marked[*after] = true;
                    }
                }
            }
        }
        let summed = |marked: Vec<bool>| {
            let counts = marked.into_iter().scan(0, |sum, marked| {
                *sum += u32::from(marked);
                Some(*sum)
            });
            counts.collect()
        };
        found
            .into_iter()
            .map(|(domain, marked)| (domain, summed(marked)))
            .collect()
    }

    /// The stretches between points of the trace in which a thread conflicts. What is
    /// entered is entered at once; the rest may happen at any time up to the next point.
    fn conflicts(&self, thread: Thread<'a>, places: &[usize]) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        for (number, from) in places.iter().enumerate() {
            let enters_changed = self
                .stack(*from)
                .and_then(OwnStack::entered)
                .is_some_and(|frame| frame.changed);
            if enters_changed && self.has(Conflict::Entry) {
                found.push((*from, from + 1));
            }
            let end = match places.get(number + 1) {
                Some(to) => self.later_conflict(thread, *from, *to).then_some(*to),
                // Nobody saw how it went on.
                None => self.may_conflict(*from).then_some(usize::MAX),
            };
            found.extend(end.map(|end| (*from, end)));
        }
        found
    }

    /// Whether something but the entry at `from` conflicts before `to`.
    fn later_conflict(&self, thread: Thread<'a>, from: usize, to: usize) -> bool {
        let (Some(before), Some(after)) = (self.stack(from), self.stack(to)) else {
            return true;
        };
        let conflicts = match step(before, after) {
            Ok(step) => {
                (self.has(Conflict::State) && self.touched(from, step.executing).is_some())
                    || (self.has(Conflict::Return) && step.ending.iter().any(|f| f.followed))
            }
            Err(_) => self.has(Conflict::Unresolved),
        };
        conflicts
            || (self.has(Conflict::Deleted) && after.entered().is_some_and(|f| f.deleted))
            || (self.has(Conflict::UnknownState) && self.unknown_state().is_some())
            || self.event_between(thread, from, to).is_some()
    }

    /// Whether anything of the stack at a thread's last point may conflict.
    fn may_conflict(&self, place: usize) -> bool {
        self.stack(place).is_none_or(|stack| {
            !stack.complete
                || self.unknown_state().is_some()
                || self.touched(place, &stack.frames).is_some()
                || stack.frames.iter().any(|frame| frame.followed)
        })
    }
}

const fn rule_of(kind: EventKind) -> Conflict {
    match kind {
        EventKind::Fork => Conflict::Fork,
        EventKind::Exec => Conflict::Exec,
        EventKind::Signal | EventKind::SignalReturn => Conflict::Signal,
    }
}
