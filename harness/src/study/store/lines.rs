//! Append-only files of one JSON record a line.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// A file to which records are appended, each in one write, so that a crash
/// tears at most the last line.
#[derive(Debug)]
pub struct LineFile {
    path: PathBuf,
    file: File,
    /// Length up to which every line is whole.
    length: u64,
}

impl LineFile {
    /// Opens the file for appending, or creates it. A torn last line, left by a
    /// crash in the middle of a write, is cut off.
    ///
    /// # Errors
    /// The file cannot be opened, read or cut.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|source| StoreError::io("open", path, source))?;
        let whole = whole_length(&mut file)
            .and_then(|whole| {
                if file.metadata()?.len() != whole {
                    file.set_len(whole)?;
                }
                file.seek(SeekFrom::Start(whole))?;
                Ok(whole)
            })
            .map_err(|source| StoreError::io("prepare", path, source))?;
        Ok(Self {
            path: path.to_owned(),
            file,
            length: whole,
        })
    }

    /// Appends one record and hands it to the kernel before returning.
    ///
    /// # Errors
    /// The record cannot be written, for example because the disk is full. What
    /// was written of it is taken back, so that the same record can be appended
    /// again once there is room.
    pub fn append<T: Serialize>(&mut self, record: &T) -> Result<(), StoreError> {
        let mut line = serde_json::to_vec(record).map_err(|source| StoreError::Record {
            path: self.path.clone(),
            source,
        })?;
        line.push(b'\n');
        match self.file.write_all(&line) {
            Ok(()) => {
                self.length += u64::try_from(line.len()).unwrap_or(0);
                Ok(())
            }
            Err(source) => {
                // Shrinking needs no space; should it fail all the same, the
                // torn line is cut off when the run is resumed.
                let _ = self.file.set_len(self.length);
                let _ = self.file.seek(SeekFrom::Start(self.length));
                Err(StoreError::io("append to", &self.path, source))
            }
        }
    }

    /// Waits until the records are on the disk.
    ///
    /// # Errors
    /// The disk did not take them.
    pub fn sync(&self) -> Result<(), StoreError> {
        self.file
            .sync_data()
            .map_err(|source| StoreError::io("flush", &self.path, source))
    }
}

/// Length of the file up to and including its last line end.
fn whole_length(file: &mut File) -> std::io::Result<u64> {
    const BLOCK: u64 = 1 << 16;
    let mut end = file.metadata()?.len();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        Read::by_ref(file)
            .take(end - start)
            .read_to_end(&mut block)?;
        if let Some(last) = block.iter().rposition(|byte| *byte == b'\n') {
            return Ok(start + u64::try_from(last + 1).unwrap_or(0));
        }
        end = start;
    }
    Ok(0)
}

/// Lines that are read ahead, so that all processors take part in reading them.
const AHEAD: usize = 256;

/// The records of a line file, read some at a time: observations of a long study
/// do not fit in memory together. A torn last line is left out.
pub struct Records<T> {
    path: PathBuf,
    reader: BufReader<File>,
    line: usize,
    /// The lines that are read, from 0; all if none.
    only: Option<HashSet<usize>>,
    ahead: std::vec::IntoIter<Result<T, StoreError>>,
}

impl<T: DeserializeOwned + Send> Records<T> {
    /// Opens the file.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(|source| StoreError::io("open", path, source))?;
        Ok(Self {
            path: path.to_owned(),
            reader: BufReader::new(file),
            line: 0,
            only: None,
            ahead: Vec::new().into_iter(),
        })
    }

    /// Reads only some of the lines, counted from 0.
    #[must_use]
    pub fn only(mut self, lines: HashSet<usize>) -> Self {
        self.only = Some(lines);
        self
    }

    fn read_ahead(&mut self) -> Vec<Result<T, StoreError>> {
        let mut lines = Vec::new();
        let mut failed = None;
        while lines.len() < AHEAD {
            let mut text = Vec::new();
            match self.reader.read_until(b'\n', &mut text) {
                Ok(_) if text.last() == Some(&b'\n') => {
                    let line = self.line;
                    self.line += 1;
                    if self.only.as_ref().is_none_or(|only| only.contains(&line)) {
                        lines.push((self.line, text));
                    }
                }
                Ok(_) => break,
                Err(source) => {
                    failed = Some(Err(StoreError::io("read", &self.path, source)));
                    break;
                }
            }
        }
        let path = &self.path;
        let read = lines.par_iter().map(|(line, text)| {
            serde_json::from_slice(text).map_err(|source| StoreError::Damaged {
                path: path.clone(),
                line: *line,
                source,
            })
        });
        let mut records: Vec<_> = read.collect();
        records.extend(failed);
        records
    }
}

impl<T: DeserializeOwned + Send> Iterator for Records<T> {
    type Item = Result<T, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ahead.len() == 0 {
            self.ahead = self.read_ahead().into_iter();
        }
        self.ahead.next()
    }
}
