//! Matches one line of text against a compiled pattern, without allocating.

/// Most variables one session may capture.
pub const MAX_VARIABLES: usize = 16;

/// Variables of a session, by position.
pub type Variables = [u32; MAX_VARIABLES];

/// One element of a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Token {
    /// What kind of element.
    pub kind: TokenKind,
    /// The byte, or the position of the variable.
    pub value: u8,
}

/// Kinds of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TokenKind {
    /// This byte.
    Byte,
    /// Any bytes, also none.
    Any,
    /// One or more decimal digits, stored in this variable.
    Number,
}

/// Matches greedily from left to right, going back to the last `*` on a mismatch:
/// a later `*` never needs an earlier one to take more.
#[must_use]
pub fn matches(tokens: &[Token], line: &[u8], variables: &mut Variables) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let advanced = match tokens.get(token) {
            None if at == line.len() => return true,
            None => None,
            Some(Token {
                kind: TokenKind::Any,
                ..
            }) => {
                retry = Some((token + 1, at));
                Some(0)
            }
            Some(Token {
                kind: TokenKind::Byte,
                value,
            }) => (line.get(at) == Some(value)).then_some(1),
            Some(Token {
                kind: TokenKind::Number,
                value,
            }) => number(line.get(at..).unwrap_or(&[])).map(|(found, length)| {
                if let Some(variable) = variables.get_mut(usize::from(*value)) {
                    *variable = found;
                }
                length
            }),
        };
        if let Some(length) = advanced {
            token += 1;
            at += length;
        } else {
            match retry {
                Some((after_any, from)) if from < line.len() => {
                    retry = Some((after_any, from + 1));
                    (token, at) = (after_any, from + 1);
                }
                _ => return false,
            }
        }
    }
}

fn number(text: &[u8]) -> Option<(u32, usize)> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let mut value = 0_u32;
    for digit in &text[..digits] {
        value = value
            .checked_mul(10)?
            .checked_add(u32::from(digit - b'0'))?;
    }
    Some((value, digits))
}
