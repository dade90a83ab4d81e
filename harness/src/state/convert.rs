//! How the bytes of an old instance become those of a new one: members by name and
//! type, to the places that the new version has for them. Pure.

use serde::{Deserialize, Serialize};

use super::plan::Manner;

/// One step of a conversion. Places are in bytes from the start of the instance, in
/// bits for bit-fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The same bytes at another place.
    Copy {
        /// Place in the old instance.
        from: u64,
        /// Place in the new one.
        to: u64,
        /// Size in bytes.
        size: u64,
    },
    /// The same number in as many bits or more.
    Integer {
        /// First bit in the old instance.
        from: u64,
        /// Its size in bits.
        from_bits: u64,
        /// First bit in the new one.
        to: u64,
        /// Its size in bits.
        to_bits: u64,
        /// Whether the old number has a sign.
        signed: bool,
    },
    /// Elements of an array.
    Repeat(Elements),
    /// Here is an instance of a changed record: its number in the plan.
    Instance {
        /// Number of the record.
        record: usize,
        /// Place in the old instance.
        from: u64,
        /// Place in the new one.
        to: u64,
    },
    /// A member that only the new version has.
    Added {
        /// First bit in the new instance.
        to: u64,
        /// Its size in bits.
        bits: u64,
    },
}

/// Elements of an array, each converted alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Elements {
    /// Number of elements that are converted.
    pub count: u64,
    /// First element in the old instance.
    pub from: u64,
    /// Distance of the old elements.
    pub from_stride: u64,
    /// First element in the new one.
    pub to: u64,
    /// Distance of the new elements.
    pub to_stride: u64,
    /// Conversion of one, from its start.
    pub steps: Vec<Step>,
}

/// How instances of one type are converted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversion {
    /// How.
    #[serde(default)]
    pub manner: Manner,
    /// The type for people.
    pub name: String,
    /// Size in bytes in the old version.
    pub old_size: u64,
    /// Size in bytes in the new version.
    pub new_size: u64,
    /// What to do, from the start of the instance.
    pub steps: Vec<Step>,
    /// Elements of a flexible array at the end; their count is not known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<Elements>,
}

impl Conversion {
    /// Size in bytes of `count` new instances that took `old_length` bytes before;
    /// an array at the end of the only one keeps all that there was behind it.
    #[must_use]
    pub fn new_length(&self, count: u64, old_length: u64) -> u64 {
        match &self.tail {
            Some(tail) if count == 1 => {
                let elements = old_length.saturating_sub(tail.from) / tail.from_stride.max(1);
                self.new_size.max(tail.to + elements * tail.to_stride)
            }
            _ => count * self.new_size,
        }
    }

    fn steps_of(&self, count: u64, old_length: u64) -> Step {
        let mut steps = self.steps.clone();
        if let (Some(tail), 1) = (&self.tail, count) {
            steps.push(Step::Repeat(Elements {
                count: old_length.saturating_sub(tail.from) / tail.from_stride.max(1),
                ..tail.clone()
            }));
        }
        Step::Repeat(Elements {
            count,
            from: 0,
            from_stride: self.old_size,
            to: 0,
            to_stride: self.new_size,
            steps,
        })
    }

    /// Converts `count` instances one behind the other from `old` into `new`, which
    /// holds what members without a predecessor get.
    pub fn convert(&self, count: u64, old: &[u8], new: &mut [u8]) {
        let whole = self.steps_of(count, old.len() as u64);
        each(&whole, 0, 0, &mut |step, from, to| {
            take(step, from, to, old, new);
        });
    }

    /// Gives the added members of `count` instances that stay as they are, under a
    /// common layout, the values that `pristine` has for them.
    pub fn initialise(&self, count: u64, live: &mut [u8], pristine: &[u8]) {
        let whole = self.steps_of(count, live.len() as u64);
        each(&whole, 0, 0, &mut |step, _, to| {
            if let Step::Added { to: at, bits } = step {
                let (at, bits) = (8 * to + at, *bits);
                let value = read_bits(pristine, at, bits);
                write_bits(live, at, bits, &value, false);
            }
        });
    }

    /// Calls `visit(record, from, to)` for every instance of a changed record among
    /// `count` instances in `old_length` bytes.
    pub fn instances(&self, count: u64, old_length: u64, visit: &mut dyn FnMut(usize, u64, u64)) {
        let whole = self.steps_of(count, old_length);
        each(&whole, 0, 0, &mut |step, base_from, base_to| {
            if let Step::Instance { record, from, to } = step {
                visit(*record, base_from + from, base_to + to);
            }
        });
    }

    /// Where what lay at `offset` in `old_length` bytes of `count` instances lies in
    /// the new ones; none if it went.
    #[must_use]
    pub fn moved(&self, count: u64, old_length: u64, offset: u64) -> Option<u64> {
        let mut found = None;
        // An instance that starts there is meant before a member that does.
        let mut copied = None;
        let whole = self.steps_of(count, old_length);
        each(&whole, 0, 0, &mut |step, base_from, base_to| match step {
            Step::Instance { from, to, .. } if base_from + from == offset => {
                found.get_or_insert(base_to + to);
            }
            Step::Copy { from, to, size } => {
                let start = base_from + from;
                if (start..start + size).contains(&offset) {
                    copied.get_or_insert(base_to + to + (offset - start));
                }
            }
            Step::Integer { from, to, .. } if 8 * base_from + from == 8 * offset => {
                copied.get_or_insert(base_to + to / 8);
            }
            _ => {}
        });
        found.or(copied)
    }
}

/// Calls `visit` for every step with the start of its instance in old and new bytes.
fn each(step: &Step, from: u64, to: u64, visit: &mut dyn FnMut(&Step, u64, u64)) {
    match step {
        Step::Repeat(elements) => {
            for number in 0..elements.count {
                let from = from + elements.from + number * elements.from_stride;
                let to = to + elements.to + number * elements.to_stride;
                for inner in &elements.steps {
                    each(inner, from, to, visit);
                }
            }
        }
        other => visit(other, from, to),
    }
}

fn take(step: &Step, base_from: u64, base_to: u64, old: &[u8], new: &mut [u8]) {
    match *step {
        Step::Copy { from, to, size } => {
            let place = |base: u64, at: u64, length: usize| {
                let start = usize::try_from(base + at).unwrap_or(usize::MAX).min(length);
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                start..start.saturating_add(size).min(length)
            };
            let source = &old[place(base_from, from, old.len())];
            let target = place(base_to, to, new.len());
            let size = source.len().min(target.len());
            new[target.start..target.start + size].copy_from_slice(&source[..size]);
        }
        Step::Integer {
            from,
            from_bits,
            to,
            to_bits,
            signed,
        } => {
            let value = read_bits(old, 8 * base_from + from, from_bits);
            let extension = signed && value.last() == Some(&true);
            write_bits(new, 8 * base_to + to, to_bits, &value, extension);
        }
        Step::Repeat(_) | Step::Instance { .. } | Step::Added { .. } => {}
    }
}

/// Bits `at..at + bits`, lowest first; what lies outside is 0.
fn read_bits(bytes: &[u8], at: u64, bits: u64) -> Vec<bool> {
    let bit = |at: u64| {
        let byte = usize::try_from(at / 8).ok().and_then(|i| bytes.get(i));
        byte.is_some_and(|byte| byte >> (at % 8) & 1 == 1)
    };
    (at..at + bits).map(bit).collect()
}

/// Writes `bits` bits: those of `value`, then `extension`.
fn write_bits(bytes: &mut [u8], at: u64, bits: u64, value: &[bool], extension: bool) {
    let padded = value.iter().copied().chain(std::iter::repeat(extension));
    for (at, one) in (at..at + bits).zip(padded) {
        let Some(byte) = usize::try_from(at / 8).ok().and_then(|i| bytes.get_mut(i)) else {
            return;
        };
        let mask = 1 << (at % 8);
        if one {
            *byte |= mask;
        } else {
            *byte &= !mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swap() -> Conversion {
        // { int a; int b; } becomes { int b; long a; int c; }
        Conversion {
            manner: Manner::Own,
            name: "struct s".to_owned(),
            old_size: 8,
            new_size: 24,
            steps: vec![
                Step::Instance {
                    record: 0,
                    from: 0,
                    to: 0,
                },
                Step::Integer {
                    from: 0,
                    from_bits: 32,
                    to: 64,
                    to_bits: 64,
                    signed: true,
                },
                Step::Copy {
                    from: 4,
                    to: 0,
                    size: 4,
                },
                Step::Added { to: 128, bits: 32 },
            ],
            tail: None,
        }
    }

    #[test]
    fn members_move_widen_and_appear_in_every_element() {
        let old: Vec<u8> = [-2_i32, 7, 3, 9]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        let mut new = vec![0; 48];
        new[16] = 5;
        swap().convert(2, &old, &mut new);
        let long = |at: usize| i64::from_le_bytes(new[at..at + 8].try_into().unwrap());
        let int = |at: usize| i32::from_le_bytes(new[at..at + 4].try_into().unwrap());
        assert_eq!((int(0), long(8), int(16)), (7, -2, 5));
        assert_eq!((int(24), long(32), int(40)), (9, 3, 0));
    }

    #[test]
    fn pointers_into_an_instance_follow_their_member() {
        let swap = swap();
        assert_eq!(swap.moved(2, 16, 0), Some(0));
        assert_eq!(swap.moved(2, 16, 4), Some(0));
        assert_eq!(swap.moved(2, 16, 8), Some(24));
        assert_eq!(swap.moved(2, 16, 12), Some(24));
        assert_eq!(swap.moved(2, 16, 6), Some(2));
    }

    #[test]
    fn bit_fields_keep_their_values() {
        let bits = Conversion {
            old_size: 1,
            new_size: 4,
            steps: vec![
                Step::Integer {
                    from: 0,
                    from_bits: 3,
                    to: 9,
                    to_bits: 5,
                    signed: true,
                },
                Step::Integer {
                    from: 3,
                    from_bits: 2,
                    to: 0,
                    to_bits: 2,
                    signed: false,
                },
            ],
            ..Conversion::default()
        };
        let mut new = [0xff; 4];
        bits.convert(1, &[0b0001_0101], &mut new);
        // -3 in five bits is 11101; 2 in two bits is 10.
        assert_eq!(new, [0b1111_1110, 0b1111_1011, 0xff, 0xff]);
    }

    #[test]
    fn a_common_layout_only_gains_its_added_members() {
        let mut live = [1; 24];
        let pristine: Vec<u8> = (100..124).collect();
        swap().initialise(1, &mut live, &pristine);
        assert_eq!(live[..16], [1; 16]);
        assert_eq!(live[16..20], [116, 117, 118, 119]);
        assert_eq!(live[20..], [1; 4]);
    }

    #[test]
    fn what_a_flexible_array_holds_goes_along() {
        let flexible = Conversion {
            old_size: 4,
            new_size: 8,
            steps: vec![Step::Copy {
                from: 0,
                to: 0,
                size: 4,
            }],
            tail: Some(Elements {
                count: 0,
                from: 4,
                from_stride: 1,
                to: 8,
                to_stride: 1,
                steps: vec![Step::Copy {
                    from: 0,
                    to: 0,
                    size: 1,
                }],
            }),
            ..Conversion::default()
        };
        let old = *b"abcdkey";
        let length = flexible.new_length(1, old.len() as u64);
        assert_eq!(length, 11);
        let mut new = vec![0; 11];
        flexible.convert(1, &old, &mut new);
        assert_eq!(new, *b"abcd\0\0\0\0key");
    }
}
