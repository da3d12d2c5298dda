//! Lines that are appended to a file together, for the audit log and the access log.

use std::{
    io::{self, ErrorKind, Write},
    mem,
};

/// Whole lines that are written together. If the disk becomes full during a write, the file then contains only the
/// beginning of these lines.
#[derive(Debug, Default)]
pub(crate) struct LineBatch {
    bytes: Vec<u8>,
    written: usize,
    /// The number of records or requests that the lines describe.
    entries: u64,
}

impl LineBatch {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Returns how many bytes have been written. If this number is not 0, the file may end in the middle of a line.
    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// Returns the bytes. The caller must append one line to them. The line describes `entries` records or requests.
    pub(crate) fn line_of(&mut self, entries: u64) -> &mut Vec<u8> {
        self.entries += entries;
        &mut self.bytes
    }

    /// Writes the bytes. After an error, the next call continues at the first byte that was not written.
    pub(crate) fn write_to(&mut self, to: &mut impl Write) -> io::Result<()> {
        while self.written < self.bytes.len() {
            match to.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(len) => self.written += len,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Continues in a new file. Lines that are completely in the old file are not written again. A line that is only
    /// partly in the old file is written again from its beginning.
    pub(crate) fn begin_in_new_file(&mut self) {
        let begun = &self.bytes[..self.written];
        let whole = begun.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        self.bytes.drain(..whole);
        self.written = 0;
    }

    /// Empties the batch. Returns how many records or requests its lines described.
    pub(crate) fn clear(&mut self) -> u64 {
        self.bytes.clear();
        self.written = 0;
        mem::take(&mut self.entries)
    }
}
