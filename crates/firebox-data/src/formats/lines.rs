//! Lines of text files, as a stream.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;

use crate::dataset::Fingerprint;
use crate::dataset::{Records, Shards};
use crate::error::{Error, ErrorKind};
use crate::formats::text_file::{GZIP, LONGEST_MARK, cut_line_end, mark};

/// Text files as shards whose records are lines: JSON Lines, CSV without quoted line ends, plain text.
///
/// Lines come without their end, `\n` or `\r\n`, and the first without a byte order mark; a `\r` elsewhere
/// stays. They must be UTF-8. A position in a file is found by seeking, so that it must not be packed.
///
/// ```
/// use firebox_data::formats::Lines;
/// use firebox_data::{Loader, Scalar};
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("numbers.txt");
/// std::fs::write(&path, "1\n2\n3\n")?;
/// let builder = Loader::stream(Lines::new([path])).batch_size(3);
/// let loader = builder.build(Scalar::new(), |line: String, _, slot| Ok(*slot = line.parse::<i64>()?))?;
/// assert_eq!(*loader.epoch(0).next().unwrap()?, [1, 2, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Lines {
    files: Vec<PathBuf>,
}

impl Lines {
    /// The lines of these files, which are opened when they are needed.
    pub fn new(files: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Lines { files: files.into_iter().map(Into::into).collect() }
    }
}

impl Shards for Lines {
    type Record = String;
    type Error = Error;

    fn shards(&self) -> usize {
        self.files.len()
    }

    fn open(&self, shard: usize, offset: u64) -> Result<Box<dyn Records<String, Error>>, Error> {
        let Some(path) = self.files.get(shard).cloned() else {
            let expected = format_args!("a number below {}", self.files.len());
            return Err(Error::out_of_range("shard", expected, shard));
        };
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::Io, "cannot be read").at_path(&path).caused_by(error)
        };
        let mut file = BufReader::new(File::open(&path).map_err(failed)?);
        let offset = match offset {
            0 => {
                let mut head = Vec::new();
                file.by_ref().take(LONGEST_MARK as u64).read_to_end(&mut head).map_err(failed)?;
                if head.starts_with(&GZIP) {
                    let text =
                        "expected lines of text, got a file packed with gzip, in which no line can be found";
                    return Err(Error::new(ErrorKind::Format, text).at_path(path));
                }
                mark(&head).map_err(|error| error.at_path(&path))? as u64
            }
            // Places stay those in the file: whoever goes on in its middle is behind the mark.
            offset => offset,
        };
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        Ok(Box::new(LineReader { path, file, offset, broken: false }))
    }

    fn is_seekable(&self) -> bool {
        true
    }

    fn describe(&self) -> String {
        let names = self.files.iter().flat_map(|file| file.as_os_str().as_encoded_bytes());
        let names = firebox_core::seed::fingerprint(names.map(|&byte| u64::from(byte)));
        format!("lines of {} files ({names:016x})", self.files.len())
    }

    /// With the names and sizes of the files. One that can't be found is told by its name alone: reading it
    /// is an error.
    fn fingerprint(&self) -> Fingerprint {
        self.files.iter().fold(Fingerprint::uncounted("lines"), |fingerprint, file| {
            let bytes = std::fs::metadata(file).map_or(0, |file| file.len());
            fingerprint.with_file(file.file_name().unwrap_or(file.as_os_str()), bytes)
        })
    }
}

struct LineReader {
    path: PathBuf,
    file: BufReader<File>,
    /// Of the next line.
    offset: u64,
    /// True if the file itself failed: there is no next line to be found then.
    broken: bool,
}

impl Iterator for LineReader {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Result<String, Error>> {
        if self.broken {
            return None;
        }
        let mut line = Vec::new();
        match self.file.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(bytes) => {
                let start = self.offset;
                self.offset += bytes as u64;
                cut_line_end(&mut line);
                Some(String::from_utf8(line).map_err(|error| {
                    let text = format!("the line at byte {start} is not UTF-8");
                    Error::new(ErrorKind::Format, text).at_path(&self.path).caused_by(error.utf8_error())
                }))
            }
            Err(error) => {
                self.broken = true;
                let text = format!("cannot be read at byte {}", self.offset);
                Some(Err(Error::new(ErrorKind::Io, text).at_path(&self.path).caused_by(error)))
            }
        }
    }
}

impl Records<String, Error> for LineReader {
    fn offset(&self) -> Option<u64> {
        Some(self.offset)
    }
}
