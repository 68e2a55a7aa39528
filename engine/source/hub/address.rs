//! `hf://owner/name@revision/path`: what it names. Knows neither the network nor the disk.

use std::fmt;

use super::super::place::BadPlace;

const FORM: &str =
    "write `hf://OWNER/NAME@REVISION`, `hf://OWNER/NAME@REVISION/PATH` or `hf://datasets/OWNER/NAME@REVISION`";

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A model.
    Model,
    /// A data set.
    Dataset,
}

/// A repository of a hub at a revision, or a file or folder in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Model or data set.
    pub kind: Kind,
    /// `owner/name`; old models have no owner.
    pub name: String,
    /// A branch, a tag, `refs/pr/1` or a commit.
    pub revision: String,
    /// A path in it; empty for all of it.
    pub path: String,
}

impl Address {
    /// What follows `hf://`.
    pub fn parse(text: &str) -> Result<Address, BadPlace> {
        let (kind, rest) = match text.split_once('/') {
            Some(("datasets", rest)) => (Kind::Dataset, rest),
            Some(("models", rest)) => (Kind::Model, rest),
            Some(("spaces", _)) => return Err(BadPlace::new("spaces are not sources", FORM)),
            _ => (Kind::Model, text),
        };
        let (name, revision, path) = match rest.split_once('@') {
            Some((name, rest)) => {
                let (revision, path) = split_revision(rest);
                (name, revision, path)
            }
            None => {
                let end = rest.match_indices('/').nth(1).map_or(rest.len(), |(at, _)| at);
                (&rest[..end], "main".to_owned(), rest[end..].trim_start_matches('/'))
            }
        };
        let letters = |part: &str| {
            let plain = part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
            plain && !part.is_empty() && !part.starts_with('.')
        };
        let path = path.trim_end_matches('/');
        let stays = path.is_empty() || path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        let revision_stays = revision.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if name.split('/').count() > 2 || !name.split('/').all(letters) || !revision_stays || !stays {
            return Err(BadPlace::new(format!("`hf://{text}` names no repository"), FORM));
        }
        Ok(Address { kind, name: name.into(), revision, path: path.into() })
    }

    /// Kind and name, as the hub's addresses write them: `models/owner/name`.
    pub fn repository(&self) -> String {
        match self.kind {
            Kind::Model => format!("models/{}", self.name),
            Kind::Dataset => format!("datasets/{}", self.name),
        }
    }

    /// The folder in a hub cache: `models--owner--name`.
    pub fn cache_name(&self) -> String {
        self.repository().replace('/', "--")
    }

    /// The command that fetches it with the hub's own tool.
    pub fn download_command(&self, revision: &str) -> String {
        let kind = if self.kind == Kind::Dataset { " --repo-type dataset" } else { "" };
        let revision = if revision == "main" { String::new() } else { format!(" --revision {revision}") };
        format!("hf download {}{kind}{revision}", self.name)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.kind == Kind::Dataset { "datasets/" } else { "" };
        write!(f, "hf://{kind}{}@{}", self.name, self.revision)?;
        if self.path.is_empty() { Ok(()) } else { write!(f, "/{}", self.path) }
    }
}

/// `refs/pr/1` and `refs/convert/parquet` are revisions that hold slashes; others have theirs as `%2F`.
fn split_revision(text: &str) -> (String, &str) {
    let parts = if text.starts_with("refs/pr/") || text.starts_with("refs/convert/") { 3 } else { 1 };
    let end = text.match_indices('/').nth(parts - 1).map_or(text.len(), |(at, _)| at);
    (text[..end].replace("%2F", "/").replace("%2f", "/"), text[end..].trim_start_matches('/'))
}

/// Whether a revision is a commit, which names its files for ever.
pub fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let told = match Address::parse(text) {
            Ok(address) => format!("{} {} {:?}", address.cache_name(), address.revision, address.path),
            Err(bad) => bad.message,
        };
        assert_eq!(told, expected);
    }

    #[test]
    fn an_address_names_repository_revision_and_path() {
        check("org/m@main", "models--org--m main \"\"");
        check("org/m", "models--org--m main \"\"");
        check("org/m/sub/f.json", "models--org--m main \"sub/f.json\"");
        check("gpt2@v1/config.json", "models--gpt2 v1 \"config.json\"");
        check("datasets/org/d@refs/pr/3/a/b", "datasets--org--d refs/pr/3 \"a/b\"");
        check("org/m@feature%2Fx", "models--org--m feature/x \"\"");
    }

    #[test]
    fn what_names_no_repository_is_refused() {
        for text in
            ["", "a/b/../c", "a b/c@main", "org/m@", "org/m@main/../x", "a/b/c@main", "../x@main", "org/m@../.."]
        {
            check(text, &format!("`hf://{text}` names no repository"));
        }
    }
}
