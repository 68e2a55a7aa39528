//! An object of S3, or every object under a prefix as a folder. What is there is listed at each look; an object whose
//! ETag is known is not downloaded again. Credentials are those of the AWS tools: variables, then `~/.aws`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path as Key;
use object_store::signer::Signer as _;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, RetryConfig};
use plumb_cache::{Artifact, Fetched, Store};
use reqwest::Method;

use super::Known;
use super::aws;
use super::checksum;
use super::download::{self, Progress, hold, length, on_disk};
use super::folder;
use super::glob::Include;
use super::in_cache;
use super::network::{self, Failure, FetchError, Patience};
use super::place::Bucket;
use crate::clock;

/// Objects as a source.
pub struct Objects<'a> {
    /// Which.
    pub place: &'a Bucket,
    /// Of a prefix, which names under it.
    pub include: &'a Include,
}

/// What a look at the bucket found.
enum Found {
    One(ObjectMeta),
    /// By the name under the prefix.
    Many(BTreeMap<String, ObjectMeta>),
}

impl Objects<'_> {
    /// What is there now; its bytes are in the cache afterwards.
    pub fn look(&self, store: &Store, progress: Progress<'_>) -> Result<Known, FetchError> {
        network::wait(self.fetch(store, progress))?
    }

    async fn fetch(&self, store: &Store, mut progress: Progress<'_>) -> Result<Known, FetchError> {
        let s3 = connect(&self.place.bucket)?;
        let found = self.find(&s3).await?;
        let missing = |object: &&ObjectMeta| self.known(store, object).is_none();
        progress.total = Some(found.objects().filter(missing).map(|object| object.size).sum());
        let mut downloaded = false;
        let changed_at = found.objects().map(|object| object.last_modified).max().map(|at| clock::at(at.into()));
        let mut get = async |object: &ObjectMeta| match self.known(store, object) {
            Some(artifact) => Ok(artifact),
            None => {
                downloaded = true;
                self.get(&s3, object, store, &mut progress).await
            }
        };
        let known = match &found {
            Found::One(object) => {
                let artifact = get(object).await?;
                Known { version: object.e_tag.as_ref().map(|etag| format!("etag:{etag}")), ..Known::of(artifact) }
            }
            Found::Many(objects) => {
                let mut files = BTreeMap::new();
                for (name, object) in objects {
                    files.insert(name.clone(), get(object).await?);
                }
                Known::of(folder::store(store, &files).map_err(in_cache)?)
            }
        };
        if downloaded {
            progress.finish();
        }
        Ok(Known { changed_at, ..known })
    }

    async fn find(&self, s3: &AmazonS3) -> Result<Found, FetchError> {
        let Bucket { bucket, key } = self.place;
        if !key.is_empty() && !key.ends_with('/') {
            match s3.head(&self.key(key)?).await {
                Ok(object) => return Ok(Found::One(object)),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        let prefix = self.key(key)?;
        let listed: Vec<ObjectMeta> =
            s3.list(Some(&prefix)).try_collect().await.map_err(|error| self.failed(&error))?;
        let name = |object: &ObjectMeta| {
            let parts: Vec<String> =
                object.location.prefix_match(&prefix)?.map(|part| part.as_ref().to_owned()).collect();
            Some(parts.join("/")).filter(|name| !name.is_empty() && self.include.wants(name))
        };
        let found = listed.into_iter().filter_map(|object| Some((name(&object)?, object)));
        let found: BTreeMap<String, ObjectMeta> = found.collect();
        match found.is_empty() {
            true => Err(FetchError::wrong(format!("nothing is at `s3://{bucket}/{key}`"))
                .hint(format!("see what is there: `aws s3 ls s3://{bucket}/{key}`"))),
            false => Ok(Found::Many(found)),
        }
    }

    fn key(&self, key: &str) -> Result<Key, FetchError> {
        Key::parse(key.trim_end_matches('/')).map_err(|error| FetchError::wrong(format!("`{key}` is no key: {error}")))
    }

    fn name(&self, object: &ObjectMeta) -> String {
        let etag = object.e_tag.as_deref().unwrap_or_default();
        format!("s3://{}/{} {etag} {}", self.place.bucket, object.location, object.size)
    }

    fn known(&self, store: &Store, object: &ObjectMeta) -> Option<Artifact> {
        object.e_tag.as_ref()?;
        store.recall(&self.name(object)).map(|known| known.artifact).filter(|artifact| store.present(artifact))
    }

    async fn get(
        &self,
        s3: &AmazonS3,
        object: &ObjectMeta,
        store: &Store,
        progress: &mut Progress<'_>,
    ) -> Result<Artifact, FetchError> {
        let name = self.name(object);
        let partial = store.partial(&name).map_err(in_cache)?;
        let _held = hold(&partial.with_extension("lock"))?;
        if let Some(artifact) = self.known(store, object) {
            return Ok(artifact);
        }
        let earlier = progress.done;
        self.whole(s3, object, &partial, progress).await?;
        if !is_its_etag(s3, object, &partial).await? {
            // A part from an earlier time may have been bad: once more from the start.
            download::remove(&partial)?;
            progress.done = earlier;
            self.whole(s3, object, &partial, progress).await?;
            if !is_its_etag(s3, object, &partial).await? {
                download::remove(&partial)?;
                return Err(self.not_its_etag(object));
            }
        }
        let artifact = store.take_in(&partial).map_err(in_cache)?;
        let about = format!("s3://{}/{}", self.place.bucket, object.location);
        let version = object.e_tag.clone().unwrap_or_default();
        store.remember(&name, &Fetched { about, version, artifact }).map_err(in_cache)?;
        Ok(artifact)
    }

    async fn whole(
        &self,
        s3: &AmazonS3,
        object: &ObjectMeta,
        partial: &Path,
        progress: &mut Progress<'_>,
    ) -> Result<(), FetchError> {
        let mut patience = Patience::default();
        let earlier = progress.done;
        loop {
            let before = length(partial);
            let Err(error) = self.attempt(s3, object, partial, progress).await else { return Ok(()) };
            if length(partial) > before {
                patience.renew();
            }
            progress.done = earlier;
            patience.after(error).await?;
        }
    }

    fn not_its_etag(&self, object: &ObjectMeta) -> FetchError {
        let (bucket, etag) = (&self.place.bucket, object.e_tag.as_deref().unwrap_or_default());
        let message =
            format!("`s3://{bucket}/{}` came with bytes that are not those of its ETag {etag}", object.location);
        FetchError::wrong(message).hint("a proxy may have changed it: check `AWS_ENDPOINT_URL` and `HTTPS_PROXY`")
    }

    /// `If-Match` makes an object that changes meanwhile an error, never a mixture.
    async fn attempt(
        &self,
        s3: &AmazonS3,
        object: &ObjectMeta,
        partial: &Path,
        progress: &mut Progress<'_>,
    ) -> Result<(), FetchError> {
        let disk = |error: std::io::Error| on_disk("write", partial, &error);
        let have = length(partial);
        if have > object.size {
            download::remove(partial)?;
        }
        progress.add(have);
        if have == object.size && have > 0 {
            return Ok(());
        }
        let range = (have > 0).then_some(GetRange::Offset(have));
        let options = GetOptions { range, if_match: object.e_tag.clone(), ..GetOptions::default() };
        let opened = s3.get_opts(&object.location, options).await.map_err(|error| self.failed(&error))?;
        let mut file = OpenOptions::new().create(true).append(true).open(partial).map_err(disk)?;
        let mut stream = opened.into_stream();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|error| self.failed(&error))?;
            file.write_all(&chunk).map_err(disk)?;
            progress.add(chunk.len() as u64);
        }
        finished(partial, &file, object.size)
    }

    fn failed(&self, error: &object_store::Error) -> FetchError {
        use object_store::Error;
        let Bucket { bucket, key } = self.place;
        let told = format!("`s3://{bucket}/{key}` cannot be read: {}", first_line(&error.to_string()));
        let (kind, hint) = match error {
            Error::NotFound { .. } => (Failure::Refused(404), "check the bucket and the key".to_owned()),
            Error::Unauthenticated { .. } | Error::PermissionDenied { .. } => (
                Failure::Refused(403),
                "set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or `AWS_PROFILE`; for a public bucket, \
                 `AWS_SKIP_SIGNATURE=true`"
                    .into(),
            ),
            Error::Precondition { .. } => (Failure::Wrong, "the object changed meanwhile: run again".into()),
            _ => (
                Failure::Line,
                "check `AWS_REGION` and `AWS_ENDPOINT_URL`, and the credentials (`AWS_ACCESS_KEY_ID` or `AWS_PROFILE`; \
                 for a public bucket, `AWS_SKIP_SIGNATURE=true`)"
                    .into(),
            ),
        };
        FetchError::new(told, kind).hint(hint)
    }
}

impl Found {
    fn objects(&self) -> Box<dyn Iterator<Item = &ObjectMeta> + '_> {
        match self {
            Found::One(object) => Box::new(std::iter::once(object)),
            Found::Many(objects) => Box::new(objects.values()),
        }
    }
}

/// What the SDK's own retries gave up on is tried again here, from where it was cut.
fn connect(bucket: &str) -> Result<AmazonS3, FetchError> {
    network::install_tls();
    let retry = RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() };
    let builder = aws::with_shared_credentials(AmazonS3Builder::from_env());
    let built = builder.with_bucket_name(bucket).with_retry(retry).with_allow_http(aws::endpoint_is_plain()).build();
    built.map_err(|error| {
        FetchError::wrong(format!("`s3://{bucket}` cannot be opened: {error}")).hint("check the `AWS_…` variables")
    })
}

/// Whether the bytes are those that the server's ETag promises, as far as it promises any: one in parts does not, nor
/// does that of an object which the server keeps under a key of its own or of the asker.
async fn is_its_etag(s3: &AmazonS3, object: &ObjectMeta, partial: &Path) -> Result<bool, FetchError> {
    let Some(etag) = &object.e_tag else { return Ok(true) };
    match checksum::matches_md5(partial, etag)? {
        Some(false) => Ok(is_encrypted(s3, &object.location).await),
        _ => Ok(true),
    }
}

/// Whether the server says so. What cannot be asked for is not.
async fn is_encrypted(s3: &AmazonS3, location: &Key) -> bool {
    let Ok(url) = s3.signed_url(Method::HEAD, location, Duration::from_secs(60)).await else { return false };
    let Ok(client) = network::client() else { return false };
    let Ok(told) = client.head(url).send().await else { return false };
    let header = |name: &str| told.headers().get(name).and_then(|value| value.to_str().ok());
    header("x-amz-server-side-encryption").is_some_and(|how| how.starts_with("aws:kms"))
        || header("x-amz-server-side-encryption-customer-algorithm").is_some()
}

fn finished(partial: &Path, file: &File, size: u64) -> Result<(), FetchError> {
    file.sync_data().map_err(|error| on_disk("write", partial, &error))?;
    match length(partial) {
        found if found == size => Ok(()),
        found => Err(FetchError::new(format!("an object of {size} bytes came with {found}"), Failure::Line)),
    }
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or(text)
}
