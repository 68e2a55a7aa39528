//! Archives: tar files of plain files, of which there is exactly one for each content. What is read must be, byte for
//! byte, what would be written: a header has no field that says two things, so a link, a device, a path that leads out,
//! a date or a byte between two files is refused like a broken disk. Written here and not by a library, since a
//! library's reader takes all that tar has ever meant.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::CacheError;

const BLOCK: usize = 512;

/// So many bytes are read at once.
const CHUNK: usize = 1 << 20;

/// A longer size is written in another way than octal digits: 8 GiB.
const OCTAL: u64 = 1 << 33;

/// Writes an archive.
pub(super) struct Writer<W> {
    to: W,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(to: W) -> Writer<W> {
        Writer { to }
    }

    /// Adds a file whose bytes `write` brings; the length of what came.
    pub(super) fn add(
        &mut self,
        name: &str,
        size: u64,
        write: impl FnOnce(&mut dyn Write) -> io::Result<u64>,
    ) -> io::Result<()> {
        let header = header(name, size).ok_or(ErrorKind::InvalidFilename)?;
        self.to.write_all(&header)?;
        if write(&mut self.to)? != size {
            return Err(ErrorKind::InvalidData.into());
        }
        self.to.write_all(&[0; BLOCK][..padding(size)])
    }

    pub(super) fn add_text(&mut self, name: &str, text: &[u8]) -> io::Result<()> {
        self.add(name, text.len() as u64, |to| to.write_all(text).map(|()| text.len() as u64))
    }

    pub(super) fn finish(mut self) -> io::Result<W> {
        self.to.write_all(&[0; 2 * BLOCK])?;
        self.to.flush().map(|()| self.to)
    }
}

/// A file in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    /// Where its bytes begin.
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// Reads an archive from its beginning to its end, each member before the next.
pub(super) struct Reader {
    path: PathBuf,
    from: BufReader<File>,
    at: u64,
    length: u64,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Reader, CacheError> {
        let failed = |source| CacheError::system("reading", path, source);
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok(Reader { path: path.to_owned(), from: BufReader::with_capacity(CHUNK, file), at: 0, length })
    }

    /// The next member; `None` at the end, which is the end of the file too.
    pub(super) fn next(&mut self) -> Result<Option<Member>, CacheError> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        if block == [0; BLOCK] {
            self.fill(&mut block)?;
            return match block == [0; BLOCK] && self.at == self.length {
                true => Ok(None),
                false => Err(self.bad("something follows its end".into())),
            };
        }
        let name = name_of(&block).ok_or_else(|| self.bad("it is no archive of a bundle".into()))?;
        if let Some(kind) = special(block[156]) {
            return Err(self.bad(format!("`{name}` is {kind}, and a bundle holds files only")));
        }
        let size = size_of(&block).filter(|size| header(&name, *size) == Some(block));
        let size = size.ok_or_else(|| self.bad(format!("the header of `{name}` is not as a bundle has it")))?;
        match size <= self.length - self.at {
            true => Ok(Some(Member { name, offset: self.at, size })),
            false => Err(self.bad(format!("`{name}` is said to have {size} bytes, and the file ends before"))),
        }
    }

    /// The bytes of the member that came last, piece by piece.
    pub(super) fn body(&mut self, member: &Member, mut each: impl FnMut(&[u8])) -> Result<(), CacheError> {
        let mut chunk = vec![0; CHUNK.min(usize::try_from(member.size).unwrap_or(CHUNK))];
        let mut left = member.size;
        while left > 0 {
            let length = chunk.len().min(usize::try_from(left).unwrap_or(CHUNK));
            self.fill(&mut chunk[..length])?;
            each(&chunk[..length]);
            left -= length as u64;
        }
        let mut padded = [0; BLOCK];
        let padded = &mut padded[..padding(member.size)];
        self.fill(padded)?;
        match padded.iter().all(|byte| *byte == 0) {
            true => Ok(()),
            false => Err(self.bad(format!("something follows `{}`", member.name))),
        }
    }

    /// The whole of a small member, which must have such a name, and its name.
    pub(super) fn text(
        &mut self,
        is_named: impl Fn(&str) -> bool,
        longest: u64,
    ) -> Result<(String, Vec<u8>), CacheError> {
        let other = "it is no archive of a bundle";
        let member = self.next()?.filter(|member| is_named(&member.name)).ok_or_else(|| self.bad(other.into()))?;
        if member.size > longest {
            return Err(self.bad(format!("`{}` has {} bytes", member.name, member.size)));
        }
        let mut text = Vec::new();
        self.body(&member, |bytes| text.extend_from_slice(bytes))?;
        Ok((member.name, text))
    }

    pub(super) fn bad(&self, why: String) -> CacheError {
        CacheError::BadBundle { path: self.path.clone(), why }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), CacheError> {
        match self.from.read_exact(bytes) {
            Ok(()) => {
                self.at += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(self.bad("its end is missing".into())),
            Err(source) => Err(CacheError::system("reading", &self.path, source)),
        }
    }
}

/// What fills the last block of so many bytes.
fn padding(size: u64) -> usize {
    (size.next_multiple_of(BLOCK as u64) - size) as usize
}

/// The header of a read-only plain file of nobody and of no time, as POSIX has it; `None` for a name that is too long.
fn header(name: &str, size: u64) -> Option<[u8; BLOCK]> {
    let mut header = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| header[at..at + text.len()].copy_from_slice(text);
    if name.is_empty() || name.len() >= 100 || name.contains('\0') {
        return None;
    }
    put(0, name.as_bytes());
    for (at, text) in [(100, "0000444"), (108, "0000000"), (116, "0000000"), (136, "00000000000"), (156, "0")] {
        put(at, text.as_bytes());
    }
    put(257, b"ustar\x0000");
    put(329, b"0000000");
    put(337, b"0000000");
    match size < OCTAL {
        true => put(124, format!("{size:011o}").as_bytes()),
        false => {
            put(124, &[0x80]);
            put(128, &size.to_be_bytes());
        }
    }
    put(148, b"        ");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Some(header)
}

fn name_of(header: &[u8; BLOCK]) -> Option<String> {
    let end = header[..100].iter().position(|byte| *byte == 0)?;
    let name = std::str::from_utf8(&header[..end]).ok()?;
    (!name.is_empty() && !name.contains(char::is_control)).then(|| name.to_owned())
}

fn size_of(header: &[u8; BLOCK]) -> Option<u64> {
    match header[124] {
        0x80 => header[128..136].try_into().ok().map(u64::from_be_bytes).filter(|size| *size >= OCTAL),
        _ => u64::from_str_radix(std::str::from_utf8(&header[124..135]).ok()?, 8).ok(),
    }
}

fn special(flag: u8) -> Option<&'static str> {
    Some(match flag {
        b'1' => "a hard link",
        b'2' => "a link",
        b'3' | b'4' => "a device",
        b'5' => "a folder",
        b'6' => "a fifo",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beyond_octal_digits_are_written_and_read() {
        for size in [0, 1, OCTAL - 1, OCTAL, 1 << 45, u64::MAX] {
            assert_eq!(size_of(&header("a", size).unwrap()), Some(size));
        }
    }

    #[test]
    fn the_systems_tar_reads_what_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tar");
        let mut writer = Writer::new(File::create(&path).unwrap());
        writer.add_text("one/a", b"first").unwrap();
        writer.add_text("two", &[7; 513]).unwrap();
        writer.finish().unwrap();
        let told = std::process::Command::new("tar").arg("-tvf").arg(&path).output().unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        let words: Vec<&str> = told.split_whitespace().collect();
        assert_eq!([words[0], words[2], words[5]], ["-r--r--r--", "5", "one/a"], "{told}");
        assert_eq!([words[8], words[11]], ["513", "two"], "{told}");
    }
}
