//! Walks and conversions over images of memory that are made up for tests: lists of
//! `struct node { long value; struct node *next; }`, which becomes
//! `{ struct node *next; long value; long more; }`.

use std::cell::Cell;

use super::convert::{Conversion, Step};
use super::frames::{FrameVariable, FrameVariables, Place};
use super::heap::Heap;
use super::memory::{Mapping, Mappings, Reader};
use super::plan::{Count, Manner, Part, Plan, Record, Root, Value, Walked};
use super::relocate::{Relocation, Source, relocate};
use super::rules::Operator;
use super::walk::{Found, Home, Slot, View, walk};
use crate::binary::Address;

const VARIABLES: u64 = 0x1000;
const HEAP: u64 = 0x10_0000;
const STACK: u64 = 0x20_0000;

/// Memory of three mappings, of a page each.
struct Image {
    words: Vec<(u64, u64)>,
}

impl Image {
    fn mappings() -> Mappings {
        let mapping = |start: u64, heap| Mapping {
            range: start..start + 0x1000,
            writable: true,
            heap,
        };
        Mappings(vec![
            mapping(VARIABLES, false),
            mapping(HEAP, true),
            mapping(STACK, false),
        ])
    }

    /// Lays out blocks of the heap, each of so many usable bytes (24, 40, …);
    /// returns where they start.
    fn allocate(&mut self, sizes: &[u64]) -> Vec<u64> {
        let mut at = HEAP;
        let mut starts = Vec::new();
        for usable in sizes {
            self.words.push((at + 8, (usable + 8) | 1));
            starts.push(at + 16);
            at += usable + 8;
        }
        self.words.push((at + 8, (HEAP + 0x1000 - at) | 1));
        starts
    }

    fn node(&mut self, at: u64, value: u64, next: u64) {
        self.words.push((at, value));
        self.words.push((at + 8, next));
    }

    fn with(mut self, at: u64, word: u64) -> Self {
        self.words.push((at, word));
        self
    }
}

impl Reader for Image {
    fn read(&self, address: u64, buffer: &mut [u8]) -> bool {
        let length = buffer.len() as u64;
        if Self::mappings().holding(address, length).is_none() {
            return false;
        }
        for (byte, at) in buffer.iter_mut().zip(address..) {
            let word = self
                .words
                .iter()
                .rev()
                .find(|(start, _)| (*start..start + 8).contains(&at));
            *byte = word.map_or(0, |(start, word)| {
                word.to_le_bytes()[usize::try_from(at - start).unwrap()]
            });
        }
        true
    }
}

const NODE: usize = 0;
const POINTER: usize = 1;
const TABLE: usize = 2;

fn plan(roots: &[(u64, usize)]) -> Plan {
    let pointer = |offset, of, count| Part {
        offset,
        pointer: true,
        of,
        count,
        when: None,
    };
    let walked = |name: &str, size, conversion, parts| Walked {
        name: name.to_owned(),
        size,
        alignment: 8,
        conversion,
        parts,
        tail: None,
    };
    let length = Count::Computed(vec![(
        Operator::Plus,
        Value::Bits {
            at: 0,
            size: 32,
            signed: false,
        },
    )]);
    Plan {
        records: vec![Record {
            name: "struct node".to_owned(),
            identifier: "node".to_owned(),
            table: None,
        }],
        types: vec![
            walked(
                "struct node",
                16,
                Some(0),
                vec![pointer(8, NODE, Count::Fixed(1))],
            ),
            walked(
                "struct node *",
                8,
                None,
                vec![pointer(0, NODE, Count::Fixed(1))],
            ),
            // struct table { int length; struct node **buckets; struct node *nodes; }
            walked(
                "struct table",
                24,
                None,
                vec![
                    pointer(8, POINTER, length.clone()),
                    pointer(16, NODE, length),
                ],
            ),
        ],
        conversions: vec![Conversion {
            manner: Manner::Own,
            name: "struct node".to_owned(),
            old_size: 16,
            new_size: 24,
            steps: vec![
                Step::Instance {
                    record: 0,
                    from: 0,
                    to: 0,
                },
                Step::Copy {
                    from: 8,
                    to: 0,
                    size: 8,
                },
                Step::Copy {
                    from: 0,
                    to: 8,
                    size: 8,
                },
                Step::Added { to: 128, bits: 64 },
            ],
            tail: None,
        }],
        roots: roots
            .iter()
            .map(|(at, of)| Root {
                name: format!("variable{at:x}"),
                address: Address(*at),
                of: *of,
                count: 1,
            })
            .collect(),
        data: VARIABLES..VARIABLES + 0x100,
        frames: Vec::new(),
        poison: false,
        watched_part: None,
    }
}

fn find(plan: &Plan, image: &Image, frames: &[FrameVariable]) -> Found {
    let mappings = Image::mappings();
    let heap = Heap::read(image, &mappings);
    let view = View {
        reader: image,
        mappings: &mappings,
        heap: &heap,
    };
    let frames = FrameVariables {
        known: frames.to_vec(),
        unknown: Vec::new(),
    };
    walk(plan, view, &frames)
}

fn addresses(found: &Found) -> Vec<(u64, u64)> {
    found.blocks.iter().map(|b| (b.address, b.count)).collect()
}

/// New instances lie in the middle of the stack's mapping.
fn convert(plan: &Plan, found: &Found, image: &Image) -> Relocation {
    let next = Cell::new(STACK + 0x800);
    relocate(plan, found, &[], image, &mut |size| {
        let at = next.get();
        next.set(at + size);
        Some(at)
    })
}

fn words(bytes: &[u8]) -> Vec<u64> {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    bytes.chunks(8).map(word).collect()
}

fn frame(place: Place, value: u64) -> FrameVariable {
    FrameVariable {
        name: "f.x".to_owned(),
        of: POINTER,
        count: 1,
        place,
        value,
    }
}

#[test]
fn a_cycle_is_found_once_and_follows_where_it_moves() {
    let mut image = Image { words: Vec::new() };
    let at = image.allocate(&[24, 24, 24]);
    image.node(at[0], 10, at[1]);
    image.node(at[1], 20, at[2]);
    image.node(at[2], 30, at[0]);
    let image = image.with(VARIABLES, at[1]).with(VARIABLES + 8, at[1]);
    let plan = plan(&[(VARIABLES, POINTER), (VARIABLES + 8, POINTER)]);
    let found = find(&plan, &image, &[]);
    assert_eq!(addresses(&found), [(at[0], 1), (at[1], 1), (at[2], 1)]);
    assert_eq!(found.problems, Vec::<String>::new());
    // 24 bytes are there: all stay where they are.
    let done = convert(&plan, &found, &image);
    assert_eq!((done.moved, done.redirected), (0, 0));
    assert_eq!(words(&done.writes[&at[1]]), [at[2], 20, 0]);
    assert_eq!(done.pairs.len(), 3);
    assert_eq!(done.pairs[1].old, Source::Copy(16));
    assert_eq!(words(&done.copies)[2..4], [20, at[2]]);
}

#[test]
fn what_does_not_fit_moves_and_every_pointer_to_it_too() {
    let mut plan = plan(&[(VARIABLES, POINTER)]);
    plan.conversions[0].new_size = 32;
    let mut image = Image { words: Vec::new() };
    let at = image.allocate(&[24, 40]);
    image.node(at[0], 10, at[1]);
    image.node(at[1], 20, at[0]);
    let image = image.with(VARIABLES, at[1]).with(STACK, at[0]);
    let frames = [
        frame(Place::Memory(STACK), 0),
        frame(
            Place::Register {
                thread: 0,
                register: 3,
            },
            at[0],
        ),
    ];
    let found = find(&plan, &image, &frames);
    let done = convert(&plan, &found, &image);
    let new = STACK + 0x800;
    assert_eq!(done.moved, 1);
    assert_eq!(words(&done.writes[&new]), [at[1], 10, 0, 0]);
    assert_eq!(words(&done.writes[&at[1]]), [new, 20, 0, 0]);
    assert_eq!(words(&done.writes[&STACK]), [new]);
    assert_eq!(done.registers, [(0, 3, new)]);
    assert!(!done.writes.contains_key(&VARIABLES) && !done.writes.contains_key(&at[0]));
    assert_eq!(done.pairs[0].old, Source::Address(at[0]));
}

#[test]
fn arrays_have_the_length_that_a_rule_names() {
    let mut image = Image { words: Vec::new() };
    let at = image.allocate(&[24, 40, 24]);
    // Two buckets, and two nodes side by side.
    let image = image
        .with(VARIABLES, 2)
        .with(VARIABLES + 8, at[0])
        .with(VARIABLES + 16, at[1])
        .with(at[0], at[2])
        .with(at[0] + 8, at[1] + 16);
    let plan = plan(&[(VARIABLES, TABLE)]);
    let found = find(&plan, &image, &[]);
    assert_eq!(addresses(&found), [(at[1], 2), (at[2], 1)]);
    let done = convert(&plan, &found, &image);
    let new = STACK + 0x800;
    // The array of two takes 48 bytes: it moves, and the pointer into it follows.
    assert_eq!(done.moved, 2);
    assert_eq!(words(&done.writes[&(at[0] + 8)]), [new + 24]);
    assert_eq!(words(&done.writes[&(VARIABLES + 16)]), [new]);
}

#[test]
fn pointers_that_lead_nowhere_are_told_and_not_followed() {
    let image = Image { words: Vec::new() }
        .with(VARIABLES, 0x77_0000)
        .with(VARIABLES + 8, VARIABLES + 0x104);
    let plan = plan(&[(VARIABLES, POINTER), (VARIABLES + 8, POINTER)]);
    let found = find(&plan, &image, &[]);
    assert_eq!(addresses(&found), []);
    assert_eq!(
        found.problems,
        [
            "struct node at 0x770000, reached from variable1000 is not mapped",
            "struct node at 0x1104, reached from variable1008 is not aligned",
        ]
    );
}

#[test]
fn an_instance_that_does_not_fit_its_allocation_is_not_converted() {
    let mut image = Image { words: Vec::new() };
    let at = image.allocate(&[24, 24]);
    let image = image
        .with(VARIABLES, 3)
        .with(VARIABLES + 16, at[0])
        .with(VARIABLES + 24, at[1] + 16);
    let plan = plan(&[(VARIABLES, TABLE), (VARIABLES + 24, POINTER)]);
    let found = find(&plan, &image, &[]);
    assert_eq!(addresses(&found), []);
    assert_eq!(found.problems.len(), 2, "{:?}", found.problems);
    assert!(
        found
            .problems
            .iter()
            .all(|p| p.contains("larger than its allocation"))
    );
}

#[test]
fn what_a_frame_has_not_written_yet_is_believed_only_where_the_allocator_agrees() {
    let mut image = Image { words: Vec::new() };
    let at = image.allocate(&[24, 40]);
    let image = image
        .with(STACK, at[0])
        .with(STACK + 8, at[1] + 8)
        .with(STACK + 16, VARIABLES + 0x100);
    let variables = [0, 8, 16].map(|offset| frame(Place::Memory(STACK + offset), 0));
    let found = find(&plan(&[]), &image, &variables);
    assert_eq!(addresses(&found), [(at[0], 1)]);
    assert_eq!(found.blocks[0].home, Home::Heap);
    let slot = Slot {
        place: Place::Memory(STACK),
        value: at[0],
    };
    assert_eq!(found.slots, [slot]);
}

#[test]
fn two_views_of_one_place_are_a_conflict() {
    let mut image = Image { words: Vec::new() };
    let at = image.allocate(&[40]);
    let image = image.with(VARIABLES, at[0]).with(VARIABLES + 8, at[0] + 8);
    let plan = plan(&[(VARIABLES, POINTER), (VARIABLES + 8, POINTER)]);
    let found = find(&plan, &image, &[]);
    assert_eq!(addresses(&found), []);
    assert!(
        found
            .problems
            .iter()
            .any(|p| p.contains("both are not converted")),
        "{:?}",
        found.problems
    );
}

#[test]
fn the_end_of_a_list_that_is_no_element_is_left_alone() {
    let mut image = Image { words: Vec::new() };
    let at = image.allocate(&[24]);
    // The list's last element points to its head, as if that were one.
    image.node(at[0], 10, VARIABLES);
    let image = image.with(VARIABLES, at[0]).with(VARIABLES + 8, 77);
    let found = find(&plan(&[(VARIABLES, POINTER)]), &image, &[]);
    assert_eq!(addresses(&found), [(at[0], 1)]);
    assert_eq!(
        found.problems,
        ["struct node at 0x1000, reached from variable1000 is no such variable"]
    );
}

#[test]
fn under_a_common_layout_everything_stays_and_only_added_members_are_written() {
    let mut plan = plan(&[(VARIABLES, POINTER)]);
    for conversion in &mut plan.conversions {
        conversion.manner = Manner::Common;
    }
    plan.types[NODE].size = 24;
    let conversion = &mut plan.conversions[0];
    (conversion.old_size, conversion.new_size) = (24, 24);
    conversion.steps = vec![
        Step::Instance {
            record: 0,
            from: 0,
            to: 0,
        },
        Step::Copy {
            from: 8,
            to: 8,
            size: 8,
        },
        Step::Added { to: 128, bits: 64 },
    ];
    let mut image = Image { words: Vec::new() };
    let at = image.allocate(&[24]);
    image.node(at[0], 10, 0);
    let image = image.with(VARIABLES, at[0]).with(at[0] + 16, 99);
    let found = find(&plan, &image, &[]);
    let done = convert(&plan, &found, &image);
    assert_eq!((done.moved, done.redirected, done.pairs.len()), (0, 0, 1));
    // `value` went, and an old frame may still use it.
    assert_eq!(words(&done.writes[&at[0]]), [10, 0, 0]);
}
