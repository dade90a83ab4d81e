//! What a manifest says about live state that types do not: lengths of arrays, what
//! a `void *` points to, which member of a union holds.

use serde::{Deserialize, Serialize};

use super::renamed::RenameRule;

/// The number of elements that a pointer or a flexible array has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ArrayRule {
    /// The pointer: `struct table.buckets`, or a variable.
    pub of: String,
    /// Its length.
    pub length: Length,
    /// Whether the old version may lack what it names.
    pub optional: bool,
}

/// What a pointer without a type points to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CastRule {
    /// The pointer: `struct event.data`, or a variable.
    pub of: String,
    /// The type of what it points to: `struct client`.
    pub to: String,
    /// Whether the old version may lack what it names.
    pub optional: bool,
}

/// When a member of a union holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UnionRule {
    /// The union's member: `struct value.u.text`.
    pub of: String,
    /// A member of the same record that tells: `kind`.
    pub when: String,
    /// The values of it under which the union's member holds.
    pub is: Vec<i64>,
    /// Whether the old version may lack what it names.
    pub optional: bool,
}

/// All rules of a pair.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rules {
    /// Lengths of arrays.
    pub arrays: Vec<ArrayRule>,
    /// Types of pointers.
    pub casts: Vec<CastRule>,
    /// Members of unions.
    pub unions: Vec<UnionRule>,
    /// Members with another name; of a pair alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub renamed: Vec<RenameRule>,
}

impl Rules {
    /// These and others; what the others say of the same thing counts.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.arrays.extend(other.arrays);
        self.casts.extend(other.casts);
        self.unions.extend(other.unions);
        self.renamed.extend(other.renamed);
        self
    }
}

/// A length as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Length {
    /// Up to the first null pointer.
    Null,
    /// Operands from left to right, each with the operator before it.
    Computed(Vec<(Operator, Operand)>),
}

/// How an operand joins what stands left of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operator {
    /// `+`, also before the first.
    Plus,
    /// `-`
    Minus,
    /// `*`
    Times,
    /// `<<`
    Shift,
}

/// One operand of a length.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Operand {
    /// A number.
    Number(u64),
    /// A member of the same record, or a variable.
    Name(String),
}

impl Operator {
    /// The result, as unsigned numbers of 64 bits wrap.
    #[must_use]
    pub fn join(self, left: u64, right: u64) -> u64 {
        match self {
            Self::Plus => left.wrapping_add(right),
            Self::Minus => left.saturating_sub(right),
            Self::Times => left.wrapping_mul(right),
            Self::Shift => u32::try_from(right)
                .ok()
                .and_then(|right| left.checked_shl(right))
                .unwrap_or(0),
        }
    }
}

impl Length {
    /// Reads `null`, or operands joined by `+`, `-`, `*` and `<<`, which are taken
    /// from left to right.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim() == "null" {
            return Ok(Self::Null);
        }
        let spaced = ["+", "-", "*", "<<"]
            .iter()
            .fold(text.to_owned(), |text, operator| {
                text.replace(operator, &format!(" {operator} "))
            });
        let mut terms = Vec::new();
        let mut operator = Some(Operator::Plus);
        for word in spaced.split_ascii_whitespace() {
            let next = match word {
                "+" => Some(Operator::Plus),
                "-" => Some(Operator::Minus),
                "*" => Some(Operator::Times),
                "<<" => Some(Operator::Shift),
                _ => None,
            };
            match (next, operator.take()) {
                (Some(next), None) => operator = Some(next),
                (None, Some(before)) => terms.push((before, operand(word)?)),
                (Some(_), Some(_)) => return Err(format!("`{word}` has nothing to its left")),
                (None, None) => return Err(format!("`{word}` follows without an operator")),
            }
        }
        if operator.is_some() {
            return Err("it ends where an operand was due".to_owned());
        }
        Ok(Self::Computed(terms))
    }
}

fn operand(word: &str) -> Result<Operand, String> {
    if word.starts_with(|c: char| c.is_ascii_digit()) {
        return word
            .parse()
            .map(Operand::Number)
            .map_err(|_| format!("`{word}` is no number"));
    }
    let is_name = word
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_.".contains(c));
    if is_name {
        Ok(Operand::Name(word.to_owned()))
    } else {
        Err(format!("`{word}` is neither a number nor a name"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_names_numbers_and_operators() {
        let name = |name: &str| Operand::Name(name.to_owned());
        assert_eq!(Length::parse("null"), Ok(Length::Null));
        assert_eq!(
            Length::parse("1<<power"),
            Ok(Length::Computed(vec![
                (Operator::Plus, Operand::Number(1)),
                (Operator::Shift, name("power")),
            ]))
        );
        assert_eq!(
            Length::parse("head.used + 1"),
            Ok(Length::Computed(vec![
                (Operator::Plus, name("head.used")),
                (Operator::Plus, Operand::Number(1)),
            ]))
        );
        for wrong in ["", "+", "a b", "a +", "a / b", "1x"] {
            assert!(Length::parse(wrong).is_err(), "{wrong}");
        }
    }
}
