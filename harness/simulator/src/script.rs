//! A session script as flat tables, which the client in the server's process walks.

use crate::pattern::Token;

/// A part of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Span {
    /// First element.
    pub start: u32,
    /// Number of elements.
    pub length: u32,
}

impl Span {
    /// The elements.
    #[must_use]
    pub fn of<T>(self, table: &[T]) -> &[T] {
        let start = self.start as usize;
        table
            .get(start..start + self.length as usize)
            .unwrap_or(&[])
    }
}

/// What a directive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Open a connection to the port `number`.
    Open,
    /// Open one to the port in variables `a`, `b`: `a * 256 + b`.
    OpenPair,
    /// Open one to the port in variable `a`.
    OpenVariable,
    /// Send the parts.
    Send,
    /// Wait for a line that matches one of the alternatives.
    AwaitLine,
    /// Wait for `number` lines.
    AwaitLines,
    /// Wait for `number` bytes.
    AwaitBytes,
    /// Wait for the end of the stream.
    AwaitEnd,
    /// Close the sending direction.
    Finish,
    /// Close.
    Close,
    /// Close abruptly.
    Reset,
    /// Send the signal `number` to the server if it has the role, as `a` says.
    Signal,
    /// Replace the file named by `first` with the content `second`.
    Write,
    /// Remove the file named by `first`.
    Remove,
    /// The exchange is over.
    EndExchange,
}

/// One directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Step {
    /// What it is.
    pub kind: Kind,
    /// Position of its connection.
    pub connection: u32,
    /// A number: port, lines, bytes or signal.
    pub number: u32,
    /// Positions of variables, or a flag.
    pub a: u32,
    /// The second variable.
    pub b: u32,
    /// Parts, alternatives or a path in the bytes.
    pub first: Span,
    /// A content in the bytes.
    pub second: Span,
}

/// A piece of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Part {
    /// Whether it is the variable at position `bytes.start`.
    pub is_variable: u32,
    /// Where it lies in the bytes.
    pub bytes: Span,
}

/// A script.
#[derive(Clone, Copy, Debug, Default)]
pub struct Script<'a> {
    /// Its directives.
    pub steps: &'a [Step],
    /// Parts of texts to send.
    pub parts: &'a [Part],
    /// Alternatives of patterns, each a span of tokens.
    pub alternatives: &'a [Span],
    /// Elements of patterns.
    pub tokens: &'a [Token],
    /// All fixed text.
    pub bytes: &'a [u8],
}

/// Where a script's tables lie in the server's process.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Placed {
    /// Address and number of the directives.
    pub steps: [u64; 2],
    /// Of the parts.
    pub parts: [u64; 2],
    /// Of the alternatives.
    pub alternatives: [u64; 2],
    /// Of the tokens.
    pub tokens: [u64; 2],
    /// Of the bytes.
    pub bytes: [u64; 2],
}

impl Placed {
    /// The tables.
    ///
    /// # Safety
    /// They must lie there and stay.
    #[must_use]
    pub unsafe fn script(&self) -> Script<'static> {
        unsafe fn table<T>([address, count]: [u64; 2]) -> &'static [T] {
            if count == 0 {
                return &[];
            }
            // SAFETY: the harness placed them, aligned.
            unsafe { core::slice::from_raw_parts(address as *const T, count as usize) }
        }
        // SAFETY: as above.
        unsafe {
            Script {
                steps: table(self.steps),
                parts: table(self.parts),
                alternatives: table(self.alternatives),
                tokens: table(self.tokens),
                bytes: table(self.bytes),
            }
        }
    }
}
