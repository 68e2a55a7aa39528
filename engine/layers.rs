//! Layers by their addresses: a bucket of S3, or a folder that several machines see. Credentials are those of the cloud's
//! own tools. What is done with a layer is the cache's business.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, RetryConfig};
use plumb_cache::Layer;

use crate::diagnostic::Diagnostic;
use crate::source::aws;
use crate::source::network::install_tls;

/// The layer of this name at an address.
pub fn open(name: &str, url: &str) -> Result<Layer, Diagnostic> {
    let wrong = |why: String, hint: &str| {
        Diagnostic::new(format!("the layer `{name}` (`{url}`) cannot be opened: {why}")).hint(hint.to_owned())
    };
    let objects = match url.split_once("://") {
        Some(("s3", rest)) => s3(rest).map_err(|why| wrong(why, "check the `AWS_…` variables"))?,
        Some(("file", path)) => folder(path).map_err(|why| wrong(why, "make the folder first"))?,
        None => folder(url).map_err(|why| wrong(why, "make the folder first"))?,
        Some((scheme, _)) => {
            return Err(wrong(
                format!("`{scheme}://` is no place for a layer"),
                "write `s3://BUCKET/FOLDER`, or a folder",
            ));
        }
    };
    Ok(Layer::new(name, objects))
}

/// A folder that is not there is probably a file server that is not mounted: it is not made.
fn folder(path: &str) -> Result<Arc<dyn ObjectStore>, String> {
    if !Path::new(path).is_absolute() {
        return Err("its path is not absolute".into());
    }
    let folder = LocalFileSystem::new_with_prefix(path).map_err(|error| error.to_string())?;
    Ok(Arc::new(folder))
}

fn s3(rest: &str) -> Result<Arc<dyn ObjectStore>, String> {
    install_tls();
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let retry = RetryConfig { max_retries: 3, retry_timeout: Duration::from_secs(30), ..RetryConfig::default() };
    let builder = aws::with_shared_credentials(AmazonS3Builder::from_env());
    let built = builder.with_bucket_name(bucket).with_retry(retry).with_allow_http(aws::endpoint_is_plain()).build();
    let bucket = built.map_err(|error| error.to_string())?;
    match prefix.trim_matches('/') {
        "" => Ok(Arc::new(bucket)),
        prefix => Ok(Arc::new(PrefixStore::new(bucket, prefix))),
    }
}
