//! Where a source lies, parsed once from what the pipeline file says. Looks at nothing and fetches nothing; its text
//! form never shows a credential.

use std::fmt;
use std::path::{Path, PathBuf};

use plumb_cache::Digest;
use reqwest::Url;

use super::glob::Glob;
use super::hub::Address;

/// Where a source lies.
#[derive(Debug, Clone)]
pub enum Place {
    /// A file or folder, absolute.
    Path(PathBuf),
    /// The files that match a pattern.
    Glob(Glob),
    /// An artifact that is in the cache.
    Store(Digest),
    /// A file behind an address of the web.
    Http(Url),
    /// An object of S3, or every object under a prefix.
    S3(Bucket),
    /// A repository of a model hub, or a file or folder in it.
    Hub(Address),
}

/// Objects of one S3 bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// The bucket.
    pub bucket: String,
    /// A key; with a `/` at its end, or empty, everything under it.
    pub key: String,
}

/// An address that is none, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadPlace {
    /// What is wrong.
    pub message: String,
    /// What to write.
    pub hint: Option<String>,
}

impl BadPlace {
    /// With a hint.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }
}

impl Place {
    /// The file or folder to look at for changes; `None` for what does not change on this machine.
    pub fn watched(&self) -> Option<&Path> {
        match self {
            Place::Path(path) => Some(path),
            Place::Glob(glob) => Some(glob.base()),
            Place::Store(_) | Place::Http(_) | Place::S3(_) | Place::Hub(_) => None,
        }
    }

    /// What stands under `path`: a path, or an address, since a parameter may give either.
    pub fn path(text: &str, folder: &Path) -> Result<Place, BadPlace> {
        if text.contains("://") { Place::url(text) } else { Ok(Place::Path(folder.join(text))) }
    }

    /// What stands under `url`.
    pub fn url(text: &str) -> Result<Place, BadPlace> {
        let schemes = "addresses begin with `https://`, `http://`, `s3://` or `hf://`";
        match text.split_once("://") {
            Some(("hf", rest)) => Address::parse(rest).map(Place::Hub),
            Some(("s3", rest)) => bucket(rest).map(Place::S3),
            Some(("http" | "https", _)) => web(text).map(Place::Http),
            Some((scheme, _)) => Err(BadPlace::new(format!("plumb cannot fetch from `{scheme}://`"), schemes)),
            None => {
                Err(BadPlace::new(format!("`{text}` is no address"), format!("{schemes}; a path goes under `path`")))
            }
        }
    }

    /// What stands under `glob`.
    pub fn glob(text: &str, folder: &Path) -> Result<Place, BadPlace> {
        Glob::parse(text, folder).map(Place::Glob)
    }

    /// What stands under `store`: a digest, with or without what it is a digest of.
    pub fn store(text: &str) -> Result<Place, BadPlace> {
        let digest = text.split_once(':').map_or(text, |(_, digest)| digest);
        let hint = "write the `digest` that `plumb open FILE STEP.OUTPUT --json` tells, as `store = \"b3:…\"`";
        match digest.parse() {
            Ok(digest) => Ok(Place::Store(digest)),
            Err(error) => Err(BadPlace::new(format!("`{text}` is no digest: {error}"), hint)),
        }
    }

    /// Whether it has to be asked for over the network.
    pub fn is_remote(&self) -> bool {
        matches!(self, Place::Http(_) | Place::S3(_) | Place::Hub(_))
    }

    /// Its kind, as the lock file writes it.
    pub fn kind(&self) -> &'static str {
        match self {
            Place::Path(path) if path.is_dir() => "folder",
            Place::Path(_) => "file",
            Place::Glob(_) => "glob",
            Place::Store(_) => "store",
            Place::Http(_) => "http",
            Place::S3(_) => "s3",
            Place::Hub(_) => "hub",
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Path(path) => write!(f, "{}", path.display()),
            Place::Glob(glob) => write!(f, "{glob}"),
            Place::Store(digest) => write!(f, "b3:{digest}"),
            Place::Http(url) => f.write_str(&without_secrets(url)),
            Place::S3(bucket) => write!(f, "s3://{}/{}", bucket.bucket, bucket.key),
            Place::Hub(address) => write!(f, "{address}"),
        }
    }
}

/// A place as the file writes it, less what must not be shown.
pub fn shown(place: &Place, written: &str) -> String {
    match place {
        Place::Http(url) => without_secrets(url),
        _ => written.to_owned(),
    }
}

fn bucket(rest: &str) -> Result<Bucket, BadPlace> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.is_empty() {
        return Err(BadPlace::new("the address names no bucket", "write `s3://BUCKET/KEY`, or `s3://BUCKET/FOLDER/`"));
    }
    Ok(Bucket { bucket: bucket.into(), key: key.into() })
}

fn web(text: &str) -> Result<Url, BadPlace> {
    let url = Url::parse(text).map_err(|error| BadPlace { message: format!("no address: {error}"), hint: None })?;
    if !url.username().is_empty() || url.password().is_some() {
        let hint = "put the credential into an environment variable and name it: `secret = \"VARIABLE\"`";
        return Err(BadPlace::new("an address must not carry a user or password", hint));
    }
    Ok(url)
}

/// An address as it may be shown: the values of its query are often signatures and tokens.
pub fn without_secrets(url: &Url) -> String {
    let mut shown = url.clone();
    let _ = shown.set_password(None);
    let _ = shown.set_username("");
    shown.set_fragment(None);
    let names: Vec<String> = url.query_pairs().map(|(name, value)| masked(&name, &value)).collect();
    shown.set_query((!names.is_empty()).then(|| names.join("&")).as_deref());
    shown.into()
}

fn masked(name: &str, value: &str) -> String {
    let lower = name.to_lowercase();
    let secret = ["sig", "token", "key", "credential", "secret", "password", "policy", "auth"];
    if secret.iter().any(|word| lower.contains(word)) { format!("{name}=***") } else { format!("{name}={value}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: expect_test::Expect) {
        let told = match Place::url(text) {
            Ok(place) => format!("{} {place}", place.kind()),
            Err(bad) => format!("{}; {}", bad.message, bad.hint.unwrap_or_default()),
        };
        expect.assert_eq(&told);
    }

    #[test]
    fn addresses_are_shown_without_credentials() {
        check("https://example.org/a.jsonl?v=2", expect_test::expect!["http https://example.org/a.jsonl?v=2"]);
        check(
            "https://example.org/a?X-Amz-Signature=abc&X-Amz-Date=1",
            expect_test::expect!["http https://example.org/a?X-Amz-Signature=***&X-Amz-Date=1"],
        );
        check(
            "https://me:word@example.org/a",
            expect_test::expect![
                "an address must not carry a user or password; put the credential into an environment variable and name it: `secret = \"VARIABLE\"`"
            ],
        );
    }

    #[test]
    fn what_is_no_address_is_told() {
        check(
            "ftp://x/y",
            expect_test::expect![
                "plumb cannot fetch from `ftp://`; addresses begin with `https://`, `http://`, `s3://` or `hf://`"
            ],
        );
        check(
            "data.jsonl",
            expect_test::expect![
                "`data.jsonl` is no address; addresses begin with `https://`, `http://`, `s3://` or `hf://`; a path goes under `path`"
            ],
        );
        check(
            "s3://",
            expect_test::expect!["the address names no bucket; write `s3://BUCKET/KEY`, or `s3://BUCKET/FOLDER/`"],
        );
        check("s3://bucket/data/", expect_test::expect!["s3 s3://bucket/data/"]);
    }
}
