//! Where functions keep their parameters and local variables, by address: location
//! expressions and lists as the compiler wrote them.

use std::collections::HashMap;
use std::ops::Range;

use gimli::{AttributeValue, UnitRef, constants as c};
use serde::{Deserialize, Serialize};

use super::Bytes;
use super::graph::TypeId;
use super::signature::UnitTypes;
use crate::binary::Address;

/// A location expression and the addresses at which it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// From the first address to the one behind the last.
    pub range: Range<u64>,
    /// The expression's bytes.
    pub expression: Vec<u8>,
}

/// A parameter or local variable of a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Local {
    /// Its name.
    pub name: String,
    /// Its type.
    pub of: TypeId,
    /// Where it is kept.
    pub places: Vec<Located>,
}

/// What one function keeps in its frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameVariables {
    /// Its name.
    pub function: String,
    /// Addresses of its code.
    pub range: Range<u64>,
    /// The expression that its frame base is computed by.
    pub base: Vec<u8>,
    /// Parameters and variables.
    pub locals: Vec<Local>,
}

/// A scope that the reader is in: a function, a block, an inlined body.
struct Scope {
    depth: isize,
    ranges: Vec<Range<u64>>,
    /// Position of its function.
    function: Option<usize>,
}

/// Functions of a unit with their variables; `known` says of which type an entry is.
pub(super) fn read(
    unit: UnitRef<'_, Bytes<'_>>,
    types: &UnitTypes,
    known: &HashMap<usize, TypeId>,
) -> gimli::Result<Vec<FrameVariables>> {
    let mut functions: Vec<FrameVariables> = Vec::new();
    let mut scopes: Vec<Scope> = Vec::new();
    let mut cursor = unit.entries();
    while let Some(die) = cursor.next_dfs()? {
        let depth = die.depth();
        while scopes.last().is_some_and(|scope| scope.depth >= depth) {
            scopes.pop();
        }
        match die.tag() {
            c::DW_TAG_subprogram | c::DW_TAG_lexical_block | c::DW_TAG_inlined_subroutine => {
                let mut ranges = Vec::new();
                let mut found = unit.die_ranges(die)?;
                while let Some(range) = found.next()? {
                    if range.begin < range.end {
                        ranges.push(range.begin..range.end);
                    }
                }
                let function = if die.tag() == c::DW_TAG_subprogram {
                    let start = ranges.iter().map(|range| range.start).min();
                    let end = ranges.iter().map(|range| range.end).max();
                    start.zip(end).map(|(start, end)| {
                        let index = types.entries.at_offset(die.offset().0);
                        let name = index.and_then(|index| types.entries.name_of(index));
                        functions.push(FrameVariables {
                            function: name.unwrap_or("?").to_owned(),
                            range: start..end,
                            base: expression(die.attr_value(c::DW_AT_frame_base)),
                            locals: Vec::new(),
                        });
                        functions.len() - 1
                    })
                } else {
                    scopes.last().and_then(|scope| scope.function)
                };
                scopes.push(Scope {
                    depth,
                    ranges,
                    function,
                });
            }
            c::DW_TAG_variable | c::DW_TAG_formal_parameter => {
                let Some(scope) = scopes.last() else { continue };
                let Some(function) = scope.function else {
                    continue;
                };
                let Some(index) = types.entries.at_offset(die.offset().0) else {
                    continue;
                };
                let of = types.entries.type_of(index).and_then(|of| types.strip(of));
                let Some(of) = of.and_then(|of| known.get(&of)) else {
                    continue;
                };
                let places = places(unit, die.attr_value(c::DW_AT_location), &scope.ranges)?;
                if !places.is_empty() {
                    functions[function].locals.push(Local {
                        name: types.entries.name_of(index).unwrap_or("?").to_owned(),
                        of: *of,
                        places,
                    });
                }
            }
            _ => {}
        }
    }
    functions.retain(|function| !function.locals.is_empty());
    Ok(functions)
}

fn expression(value: Option<AttributeValue<Bytes<'_>>>) -> Vec<u8> {
    match value {
        Some(AttributeValue::Exprloc(expression)) => expression.0.slice().to_vec(),
        _ => Vec::new(),
    }
}

fn places<'a>(
    unit: UnitRef<'_, Bytes<'a>>,
    value: Option<AttributeValue<Bytes<'a>>>,
    scope: &[Range<u64>],
) -> gimli::Result<Vec<Located>> {
    let Some(value) = value else {
        return Ok(Vec::new());
    };
    if let AttributeValue::Exprloc(expression) = value {
        let expression = expression.0.slice();
        // A fixed address is a variable of the program, not of the frame.
        if expression.first() == Some(&c::DW_OP_addr.0) {
            return Ok(Vec::new());
        }
        let at = |range: &Range<u64>| Located {
            range: range.clone(),
            expression: expression.to_vec(),
        };
        return Ok(scope.iter().map(at).collect());
    }
    let mut found = Vec::new();
    if let Some(mut list) = unit.attr_locations(value)? {
        while let Some(entry) = list.next()? {
            found.push(Located {
                range: entry.range.begin..entry.range.end,
                expression: entry.data.0.slice().to_vec(),
            });
        }
    }
    Ok(found)
}

impl FrameVariables {
    /// Whether code at `address` belongs to the function.
    #[must_use]
    pub fn covers(&self, address: Address) -> bool {
        self.range.contains(&address.0)
    }
}
