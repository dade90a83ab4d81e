//! Where the variables of active frames are at a stop: evaluates the compiler's
//! location expressions over the registers that unwinding recovered.

use gimli::{
    Encoding, EndianSlice, EvaluationResult, Expression, Format, LittleEndian, Location, Value,
};

use super::memory::Reader;
use super::plan::Plan;
use crate::binary::Address;

/// DWARF numbers of general registers and of the return address.
pub const REGISTERS: usize = 17;

/// Where a word of the process's state is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In memory.
    Memory(u64),
    /// In a register of a thread, by DWARF number; threads by their order.
    Register {
        /// Number of the thread.
        thread: usize,
        /// Number of the register.
        register: usize,
    },
    /// Nowhere: the compiler knows the value and does not keep it.
    Nowhere,
}

/// One frame with its registers, as far as they are known.
#[derive(Clone, Debug)]
pub struct FrameState {
    /// Where it executes, or will go on executing.
    pub address: Address,
    /// Canonical frame address.
    pub cfa: u64,
    /// Whether `address` is where it executes: no call returns to it.
    pub exact: bool,
    /// Values of its registers, and where they are kept; none where a callee may
    /// have overwritten them.
    pub registers: [Option<(u64, Place)>; REGISTERS],
}

/// A variable of an active frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameVariable {
    /// `function.variable`.
    pub name: String,
    /// Number of its type in the plan.
    pub of: usize,
    /// How many of them lie there.
    pub count: u64,
    /// Where it is.
    pub place: Place,
    /// Its value, where it is no memory.
    pub value: u64,
}

/// Variables of active frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrameVariables {
    /// Those whose place is known.
    pub known: Vec<FrameVariable>,
    /// Those that are alive somewhere that is not known (`function.variable`).
    pub unknown: Vec<String>,
}

/// What the frames of all threads hold that leads to changed records.
#[must_use]
pub fn variables(plan: &Plan, threads: &[Vec<FrameState>], reader: &dyn Reader) -> FrameVariables {
    let mut found = FrameVariables::default();
    for frame in threads.iter().flatten() {
        // A call may be the last instruction of its function or block.
        let inside = if frame.exact {
            frame.address.0
        } else {
            frame.address.0.wrapping_sub(1)
        };
        let Some(function) = plan.frame(Address(inside)) else {
            continue;
        };
        let begins = frame.exact && frame.address.0 == function.range.start;
        for root in &function.roots {
            let Some(located) = root
                .places
                .iter()
                .find(|located| located.range.contains(&inside))
            else {
                continue;
            };
            let name = || format!("{}.{}", function.function, root.name);
            let (place, value) = match locate(&located.expression, &function.base, frame, reader) {
                Located::At(place, value) => (place, value),
                Located::Dead => continue,
                Located::Unknown => {
                    found.unknown.push(name());
                    continue;
                }
            };
            // Before its first instruction a function has no variables of its own.
            if let Place::Memory(at) = place
                && begins
                && at < frame.cfa.saturating_sub(8)
            {
                continue;
            }
            found.known.push(FrameVariable {
                name: name(),
                of: root.of,
                count: root.count,
                place,
                value,
            });
        }
    }
    found
}

/// Where a variable is.
enum Located {
    /// There, with this value if it is no memory.
    At(Place, u64),
    /// In a register that the frame does not preserve across the call it waits in:
    /// it is not used again.
    Dead,
    /// In several pieces, or in a way that is not understood.
    Unknown,
}

fn locate(expression: &[u8], base: &[u8], frame: &FrameState, reader: &dyn Reader) -> Located {
    let pieces = match evaluate(expression, base, frame, reader) {
        Ok(pieces) => pieces,
        Err(failure) => return failure,
    };
    match pieces.as_slice() {
        [Location::Address { address }] => Located::At(Place::Memory(*address), 0),
        [Location::Register { register }] => match frame.registers.get(usize::from(register.0)) {
            Some(Some((value, place))) => Located::At(*place, *value),
            _ => Located::Dead,
        },
        [
            Location::Value {
                value: Value::Generic(value),
            },
        ] => Located::At(Place::Nowhere, *value),
        [Location::Empty] | [] => Located::Dead,
        _ => Located::Unknown,
    }
}

type Slice<'a> = EndianSlice<'a, LittleEndian>;

fn evaluate<'a>(
    expression: &'a [u8],
    base: &'a [u8],
    frame: &FrameState,
    reader: &dyn Reader,
) -> Result<Vec<Location<Slice<'a>>>, Located> {
    let encoding = Encoding {
        address_size: 8,
        format: Format::Dwarf32,
        version: 5,
    };
    let expression = Expression(EndianSlice::new(expression, LittleEndian));
    let mut evaluation = expression.evaluation(encoding);
    let mut result = evaluation.evaluate().map_err(|_| Located::Unknown)?;
    loop {
        let resumed = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresMemory { address, .. } => {
                let word = reader.word(address).ok_or(Located::Dead)?;
                evaluation.resume_with_memory(Value::Generic(word))
            }
            EvaluationResult::RequiresRegister { register, .. } => {
                let known = frame.registers.get(usize::from(register.0));
                let Some(Some((value, _))) = known else {
                    return Err(Located::Dead);
                };
                evaluation.resume_with_register(Value::Generic(*value))
            }
            EvaluationResult::RequiresFrameBase => {
                let pieces = if base.is_empty() {
                    return Err(Located::Unknown);
                } else {
                    evaluate(base, &[], frame, reader)?
                };
                let at = match pieces.as_slice() {
                    [Location::Address { address }] => *address,
                    [Location::Register { register }] => {
                        let known = frame.registers.get(usize::from(register.0));
                        known.copied().flatten().ok_or(Located::Unknown)?.0
                    }
                    _ => return Err(Located::Unknown),
                };
                evaluation.resume_with_frame_base(at)
            }
            EvaluationResult::RequiresCallFrameCfa => {
                evaluation.resume_with_call_frame_cfa(frame.cfa)
            }
            // What a parameter was when the function was entered is no place: the
            // compiler gives it where nothing keeps the value any more.
            EvaluationResult::RequiresEntryValue(_) => return Err(Located::Dead),
            _ => return Err(Located::Unknown),
        };
        result = resumed.map_err(|_| Located::Unknown)?;
    }
    let pieces = evaluation.result();
    Ok(pieces.into_iter().map(|piece| piece.location).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::binary::dwarf::locals::Located;
    use crate::state::plan::{FrameRoot, FrameRoots};

    struct Nothing;

    impl Reader for Nothing {
        fn read(&self, _: u64, _: &mut [u8]) -> bool {
            false
        }
    }

    fn plan(expression: &[u8]) -> Plan {
        Plan {
            frames: vec![FrameRoots {
                function: "f".to_owned(),
                range: 0x100..0x200,
                base: vec![gimli::constants::DW_OP_call_frame_cfa.0],
                roots: vec![FrameRoot {
                    name: "x".to_owned(),
                    of: 0,
                    count: 1,
                    places: vec![Located {
                        range: 0x100..0x180,
                        expression: expression.to_vec(),
                    }],
                }],
            }],
            ..Plan::default()
        }
    }

    fn frame(address: u64, exact: bool) -> FrameState {
        let mut registers = [None; REGISTERS];
        registers[3] = Some((77, Place::Memory(0x7000)));
        FrameState {
            address: Address(address),
            cfa: 0x8000,
            exact,
            registers,
        }
    }

    fn find(expression: &[u8], address: u64, exact: bool) -> Vec<(Place, u64)> {
        let threads = [vec![frame(address, exact)]];
        let found = variables(&plan(expression), &threads, &Nothing);
        assert_eq!(found.unknown, Vec::<String>::new());
        let known = found.known.into_iter();
        known
            .map(|variable| (variable.place, variable.value))
            .collect()
    }

    #[test]
    fn a_variable_in_the_frame_lies_below_its_address_once_the_frame_stands() {
        let fbreg = [gimli::constants::DW_OP_fbreg.0, 0x60]; // -32
        assert_eq!(find(&fbreg, 0x120, false), [(Place::Memory(0x7fe0), 0)]);
        assert_eq!(find(&fbreg, 0x100, true), []);
        assert_eq!(find(&fbreg, 0x181, false), []);
        assert_eq!(find(&fbreg, 0x180, false), [(Place::Memory(0x7fe0), 0)]);
    }

    #[test]
    fn a_preserved_register_is_where_a_callee_saved_it() {
        let rbx = [gimli::constants::DW_OP_reg3.0];
        assert_eq!(find(&rbx, 0x120, false), [(Place::Memory(0x7000), 77)]);
        let rax = [gimli::constants::DW_OP_reg0.0];
        assert_eq!(find(&rax, 0x120, false), []);
    }
}
