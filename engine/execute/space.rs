//! How much disk a step has filled: what lies in the folders that it writes to. Looked at twice a second, and more
//! rarely where there is much to look at: never more than a twentieth of the time goes into it.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use crate::clock::Stopwatch;

/// The shortest time between two looks.
const PACE: Duration = Duration::from_millis(500);
/// A look may take one part in so many of the time until the next.
const SHARE: u32 = 20;
/// The unit in which `stat` counts blocks, whatever the file system's own is.
const BLOCK: u64 = 512;

/// What a step may fill, and when it is looked at next.
pub(super) struct Space<'a> {
    folders: &'a [PathBuf],
    limit: Option<u64>,
    next: Duration,
}

impl<'a> Space<'a> {
    pub(super) fn new(folders: &'a [PathBuf], limit: Option<u64>) -> Self {
        Self { folders, limit, next: Duration::ZERO }
    }

    /// How much they hold, where it is time to look and it is more than they may.
    pub(super) fn exceeded(&mut self, now: Duration) -> Option<u64> {
        let limit = self.limit.filter(|_| now >= self.next)?;
        let watch = Stopwatch::start();
        let held = held(self.folders);
        self.next = now + PACE.max(watch.elapsed() * SHARE);
        (held > limit).then_some(held)
    }
}

/// The bytes that these folders take on disk. What comes or goes meanwhile may or may not count.
fn held(folders: &[PathBuf]) -> u64 {
    let mut linked = BTreeSet::new();
    let mut once = |file: &Metadata| file.nlink() < 2 || file.is_dir() || linked.insert((file.dev(), file.ino()));
    let (mut waiting, mut blocks) = (folders.to_vec(), 0);
    while let Some(path) = waiting.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if once(&metadata) {
            blocks += metadata.blocks();
        }
        if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
    }
    blocks * BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_count_once_however_deep_and_holes_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        let empty = held(&[folder.path().into()]);
        fs::write(deep.join("file"), vec![7; 1 << 20]).unwrap();
        fs::hard_link(deep.join("file"), folder.path().join("again")).unwrap();
        fs::File::create(deep.join("hole")).unwrap().set_len(1 << 30).unwrap();
        std::os::unix::fs::symlink("/", deep.join("root")).unwrap();
        let filled = held(&[folder.path().into(), folder.path().join("nowhere")]) - empty;
        assert!((1 << 20..2 << 20).contains(&filled), "{filled}");
    }

    #[test]
    fn it_is_looked_at_in_its_pace_and_only_where_there_is_a_limit() {
        let folder = [tempfile::tempdir().unwrap().keep()];
        fs::write(folder[0].join("file"), vec![7; 1 << 20]).unwrap();
        let mut space = Space::new(&folder, Some(4096));
        assert!(space.exceeded(Duration::ZERO).is_some_and(|held| held >= 1 << 20));
        assert_eq!(space.exceeded(PACE / 2), None, "too early");
        assert!(space.exceeded(PACE * 100).is_some());
        assert_eq!(Space::new(&folder, None).exceeded(Duration::ZERO), None);
        assert_eq!(Space::new(&folder, Some(1 << 30)).exceeded(Duration::ZERO), None);
        fs::remove_dir_all(&folder[0]).unwrap();
    }
}
