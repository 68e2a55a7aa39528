//! Keeps the log of a step that talks without end from filling the disk: of a log that grew too long, the beginning
//! and the end stay.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

/// A log may grow this long before its middle goes.
const LONGEST: u64 = 64 << 20;
/// What stays of the beginning, and of the end.
const KEPT: u64 = 8 << 20;

/// Takes the middle out of a log that is too long. The step goes on appending meanwhile: what it writes in that moment
/// may be lost, which is the price of letting it write into the file itself.
pub(super) fn shorten(log: &Path) {
    // A log that cannot be shortened is too long, and nothing worse.
    if let Err(error) = shorten_to(log, LONGEST, KEPT) {
        tracing::debug!("shorten the log `{}`: {error}", log.display());
    }
}

fn shorten_to(log: &Path, longest: u64, kept: u64) -> std::io::Result<()> {
    if std::fs::metadata(log)?.len() <= longest {
        return Ok(());
    }
    let mut file = File::options().read(true).append(true).open(log)?;
    let length = file.seek(SeekFrom::End(0))?;
    file.seek(SeekFrom::Start(length - kept))?;
    let mut end = Vec::new();
    Read::by_ref(&mut file).take(kept).read_to_end(&mut end)?;
    file.set_len(kept)?;
    let note = format!("\n[plumb: {} bytes of this log were left out here]\n", length - 2 * kept);
    file.write_all(note.as_bytes())?;
    file.write_all(&end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shortened(text: &str) -> String {
        let log = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(log.path(), text).unwrap();
        shorten_to(log.path(), 10, 4).unwrap();
        std::fs::read_to_string(log.path()).unwrap()
    }

    #[test]
    fn a_log_that_is_not_too_long_stays_as_it_is() {
        assert_eq!(shortened("0123456789"), "0123456789");
    }

    #[test]
    fn of_a_longer_one_the_beginning_and_the_end_stay() {
        assert_eq!(shortened("0123456789a"), "0123\n[plumb: 3 bytes of this log were left out here]\n789a");
    }
}
