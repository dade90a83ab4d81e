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
    /// common layout, the values that `pristine` has for them, and numbers that got
    /// another type, and with it another place, the value that they had.
    pub fn initialise(&self, count: u64, live: &mut [u8], pristine: &[u8]) {
        let whole = self.steps_of(count, live.len() as u64);
        let old = live.to_vec();
        each(&whole, 0, 0, &mut |step, base_from, base_to| match step {
            Step::Added { to: at, bits } => {
                let (at, bits) = (8 * base_to + at, *bits);
                let value = read_bits(pristine, at, bits);
                write_bits(live, at, bits, &value, false);
            }
            Step::Integer { from, to, .. } if from != to => {
                take(step, base_from, base_to, &old, live);
            }
            _ => {}
        });
    }

    /// Gives every member that the new version has, in `count` instances under a common
    /// layout, the value that `pristine` has for it; what only the old version has stays.
    pub fn renew(&self, count: u64, live: &mut [u8], pristine: &[u8]) {
        let whole = self.steps_of(count, live.len() as u64);
        each(&whole, 0, 0, &mut |step, _, base| {
            let (at, bits) = match *step {
                Step::Copy { to, size, .. } => {
                    let copy = Step::Copy { from: to, to, size };
                    return take(&copy, base, base, pristine, live);
                }
                Step::Integer { to, to_bits, .. } => (to, to_bits),
                Step::Added { to, bits } => (to, bits),
                Step::Repeat(_) | Step::Instance { .. } => return,
            };
            let at = 8 * base + at;
            write_bits(live, at, bits, &read_bits(pristine, at, bits), false);
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
mod tests;
