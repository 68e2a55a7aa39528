//! A folder as a sorted list of entries, and its canonical text, whose digest is the tree's. No times, no owners.
//!
//! One line an entry, after the line `plumb-tree 1`:
//!
//! ```text
//! f DIGEST SIZE NAME          a file
//! x DIGEST SIZE NAME          an executable file
//! d DIGEST SIZE FILES NAME    a folder: the digest of its own text, its bytes and files in all
//! l NAME<tab>TARGET           a symlink
//! ```
//!
//! Names and targets have `\`, newline, tab and carriage return escaped. There is one text for one tree: what would
//! not be written again byte for byte is refused.

use std::fmt::Write;

use crate::{Artifact, ArtifactKind, CacheError, Digest};

/// The first line of every tree.
pub(crate) const HEADER: &str = "plumb-tree 1\n";

/// A folder.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree {
    entries: Vec<Entry>,
}

/// One name in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name: one path component, UTF-8.
    pub name: String,
    /// What it is.
    pub node: Node,
}

/// What a name in a folder stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file, an executable file or a folder.
    Artifact(Artifact),
    /// A symlink: relative, `..` only in front, leading to something inside the whole tree.
    Link(String),
}

impl Tree {
    /// The tree of these entries, in any order.
    pub fn new(mut entries: Vec<Entry>) -> Result<Tree, CacheError> {
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        entries.iter().try_for_each(check_entry)?;
        match entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            Some(pair) => Err(bad(&pair[0].name, "the name is there twice")),
            None => Ok(Tree { entries }),
        }
    }

    /// The entries, sorted by name.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry of this name.
    pub fn find(&self, name: &str) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok()?;
        self.entries.get(at)
    }

    /// Everything in it but symlinks.
    pub fn artifacts(&self) -> impl Iterator<Item = (&str, &Artifact)> {
        self.entries.iter().filter_map(|entry| match &entry.node {
            Node::Artifact(artifact) => Some((entry.name.as_str(), artifact)),
            Node::Link(_) => None,
        })
    }

    /// The artifact that this tree is: the digest of its text, its bytes and files in all.
    pub fn artifact(&self) -> Artifact {
        let sum = |of: fn(&Artifact) -> u64| self.artifacts().fold(0u64, |sum, (_, a)| sum.saturating_add(of(a)));
        Artifact {
            digest: Digest::of(self.encode().as_bytes()),
            kind: ArtifactKind::Tree,
            size: sum(|artifact| artifact.size),
            files: sum(|artifact| artifact.files),
        }
    }

    /// The canonical text.
    pub fn encode(&self) -> String {
        let mut text = String::from(HEADER);
        for Entry { name, node } in &self.entries {
            let name = escape(name);
            let written = match node {
                Node::Link(target) => writeln!(text, "l {name}\t{}", escape(target)),
                Node::Artifact(Artifact { digest, kind, size, files }) => match kind {
                    ArtifactKind::File => writeln!(text, "f {digest} {size} {name}"),
                    ArtifactKind::Executable => writeln!(text, "x {digest} {size} {name}"),
                    ArtifactKind::Tree => writeln!(text, "d {digest} {size} {files} {name}"),
                },
            };
            written.expect("writing to a string does not fail");
        }
        text
    }

    /// The tree of a canonical text; of any other text an error.
    pub fn decode(text: &str) -> Result<Tree, CacheError> {
        let refused = |line: &str| bad(line, "it is not a line of a tree");
        let body = text.strip_prefix(HEADER).ok_or_else(|| bad("", "its header is not that of a tree"))?;
        let entries = body
            .split_terminator('\n')
            .map(|line| decode_line(line).ok_or_else(|| refused(line)))
            .collect::<Result<Vec<Entry>, CacheError>>()?;
        let tree = Tree::new(entries)?;
        match tree.encode() == text {
            true => Ok(tree),
            false => Err(bad("", "its text is not the canonical one")),
        }
    }
}

fn decode_line(line: &str) -> Option<Entry> {
    let (tag, rest) = line.split_once(' ')?;
    if tag == "l" {
        let (name, target) = rest.split_once('\t')?;
        return Some(Entry { name: unescape(name)?, node: Node::Link(unescape(target)?) });
    }
    let (digest, rest) = rest.split_once(' ')?;
    let (size, rest) = rest.split_once(' ')?;
    let (kind, files, name) = match tag {
        "f" => (ArtifactKind::File, 1, rest),
        "x" => (ArtifactKind::Executable, 1, rest),
        "d" => {
            let (files, name) = rest.split_once(' ')?;
            (ArtifactKind::Tree, files.parse().ok()?, name)
        }
        _ => return None,
    };
    let artifact = Artifact { digest: digest.parse().ok()?, kind, size: size.parse().ok()?, files };
    Some(Entry { name: unescape(name)?, node: Node::Artifact(artifact) })
}

fn check_entry(entry: &Entry) -> Result<(), CacheError> {
    let name = &entry.name;
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(bad(name, "it is not the name of a file"));
    }
    match &entry.node {
        Node::Link(target) if link_height(target).is_none() => Err(bad(name, &format!("it leads to `{target}`"))),
        _ => Ok(()),
    }
}

/// How many folders a symlink climbs before it goes down, or `None` if it is not of the form we keep: relative, and
/// `..` only in front. (A `..` behind a name could climb out through another symlink.)
pub(crate) fn link_height(target: &str) -> Option<usize> {
    if target.is_empty() || target.starts_with('/') || target.contains('\0') {
        return None;
    }
    let parts: Vec<&str> = target.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let height = parts.iter().take_while(|part| **part == "..").count();
    (!parts[height..].contains(&"..")).then_some(height)
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r")
}

fn unescape(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        plain.push(match char {
            '\\' => match chars.next()? {
                '\\' => '\\',
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                _ => return None,
            },
            char => char,
        });
    }
    Some(plain)
}

fn bad(path: &str, why: &str) -> CacheError {
    CacheError::BadTree { path: path.to_owned(), why: why.to_owned() }
}
