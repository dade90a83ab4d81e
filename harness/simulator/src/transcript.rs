//! What the client received, by exchange and connection, and how long the logs were
//! after each exchange.

use core::mem::size_of;

use crate::world::Declined;

/// Bytes of it.
pub const CAPACITY: usize = 2 << 20;
/// Most exchanges of session and probe.
pub const MOST_EXCHANGES: usize = 1024;
/// Most logs of a subject.
pub const MOST_LOGS: usize = 4;

/// Marks in a transcript for what is no text.
pub const END_OF_FILE: &[u8] = b"<EOF>\n";
/// The connection was torn down.
pub const RESET: &[u8] = b"<RESET>\n";
/// Nothing accepted the connection.
pub const REFUSED: &[u8] = b"<REFUSED>\n";

/// Received bytes: records of exchange, connection and length, each followed by so
/// many bytes.
#[repr(C)]
pub struct Transcript {
    /// Bytes used.
    pub length: u64,
    /// Where the last record begins.
    last: u64,
    /// Exchanges that ended.
    pub ended: u32,
    /// Keeps what follows aligned.
    pub unused: u32,
    /// Lengths of the logs after each exchange; before the first, when it began.
    pub logs: [[u32; MOST_LOGS]; MOST_EXCHANGES + 2],
    /// The records.
    pub bytes: [u8; CAPACITY],
}

/// Bytes of a record's head: exchange, connection, length.
pub const HEAD: usize = 12;

impl Transcript {
    /// Appends bytes received.
    ///
    /// # Errors
    /// When there are too many.
    pub fn record(&mut self, exchange: u32, connection: u32, bytes: &[u8]) -> Result<(), Declined> {
        if bytes.is_empty() {
            return Ok(());
        }
        let continues = self.length > 0
            && self.word(self.last) == exchange
            && self.word(self.last + 4) == connection;
        let start = if continues {
            self.length
        } else {
            self.length + HEAD as u64
        };
        let end = start as usize + bytes.len();
        if end > CAPACITY {
            return Err(Declined("the replies of the session are too long"));
        }
        if !continues {
            self.last = self.length;
            self.set_word(self.last, exchange);
            self.set_word(self.last + 4, connection);
            self.set_word(self.last + 8, 0);
        }
        self.bytes[start as usize..end].copy_from_slice(bytes);
        let length = self.word(self.last + 8) + bytes.len() as u32;
        self.set_word(self.last + 8, length);
        self.length = end as u64;
        Ok(())
    }

    /// Tells which bytes are in use and may change: offset and length. Records before
    /// the last are only added to.
    pub fn parts(&self, tell: &mut dyn FnMut(usize, usize)) {
        let logs = core::mem::offset_of!(Self, logs);
        let ended = (self.ended as usize + 2).min(MOST_EXCHANGES + 2);
        tell(0, logs + ended * size_of::<[u32; MOST_LOGS]>());
        if self.length > 0 {
            tell(
                core::mem::offset_of!(Self, bytes) + self.last as usize,
                HEAD,
            );
        }
    }

    fn word(&self, at: u64) -> u32 {
        let at = at as usize;
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.bytes[at..at + 4]);
        u32::from_le_bytes(bytes)
    }

    fn set_word(&mut self, at: u64, word: u32) {
        let at = at as usize;
        self.bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
}
