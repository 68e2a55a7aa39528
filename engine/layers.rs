//! Layers by their addresses: a bucket of S3, of Google Cloud Storage, a container of Azure, a web server that is only
//! read, or a folder that several machines see. Credentials are those of the clouds' own tools, never a part of an
//! address. What is done with a layer is the cache's business.

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::multipart::MultipartStore;
use object_store::prefix::PrefixStore;
use object_store::{ClientConfigKey, ClientOptions, ObjectStore, RetryConfig};
use plumb_cache::{Layer, Place};
use reqwest::Url;

use crate::diagnostic::Diagnostic;
use crate::nearest;
use crate::source::aws;
use crate::source::network::install_tls;

/// What an address may begin with.
const SCHEMES: [&str; 6] = ["s3", "gs", "az", "https", "http", "file"];

const S3_ADVICE: &str = "set `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, or `AWS_PROFILE`; for a bucket that anybody \
                         may read, `AWS_SKIP_SIGNATURE=true`";
const GS_ADVICE: &str = "type `gcloud auth application-default login`, or set `GOOGLE_APPLICATION_CREDENTIALS`; for a \
                         bucket that anybody may read, `GOOGLE_SKIP_SIGNATURE=true`";
const AZ_ADVICE: &str = "set `AZURE_STORAGE_ACCOUNT_NAME` with `AZURE_STORAGE_ACCOUNT_KEY` or `AZURE_STORAGE_SAS_TOKEN`, \
                         or `AZURE_USE_AZURE_CLI=true` after `az login`";
const FOLDER_ADVICE: &str = "make the folder first";

/// A server that takes longer than this to be connected to is not there.
const CONNECT: &str = "5 seconds";
/// How long a request may take is the cache's to say, who sees whether something comes.
const REQUEST: &str = "1 hour";

/// Why a layer cannot be opened, and what to do.
struct Wrong(String, String);

/// The layer of this name at an address.
pub fn open(name: &str, url: &str) -> Result<Layer, Diagnostic> {
    match place(url) {
        Ok(place) => Ok(Layer::at(name, place)),
        Err(Wrong(why, hint)) => {
            let shown = without_secrets(url);
            Err(Diagnostic::new(format!("the layer `{name}` (`{shown}`) cannot be opened: {why}")).hint(hint))
        }
    }
}

/// The same, to be written.
pub fn open_to_write(name: &str, url: &str) -> Result<Layer, Diagnostic> {
    if matches!(url.split_once("://"), Some(("http" | "https", _))) {
        let message =
            format!("the layer `{name}` (`{}`) can only be read: a web server takes nothing", without_secrets(url));
        let hint = "push to where the server has its files from: a folder, or a bucket".to_string();
        return Err(Diagnostic::new(message).hint(hint));
    }
    open(name, url)
}

fn place(url: &str) -> Result<Place, Wrong> {
    install_tls();
    match url.split_once("://") {
        Some(("s3", rest)) => s3(rest),
        Some(("gs", rest)) => gs(rest),
        Some(("az", rest)) => az(rest),
        Some(("http" | "https", _)) => web(url),
        Some(("file", path)) => folder(path),
        None => folder(url),
        Some((scheme, _)) => {
            let hint = nearest::nearest(scheme, SCHEMES).map(|scheme| format!("did you mean `{scheme}://`?"));
            let all = "write `s3://BUCKET/FOLDER`, `gs://…`, `az://…`, `https://…`, or a folder";
            Err(Wrong(format!("`{scheme}://` is no place for a layer"), hint.unwrap_or_else(|| all.into())))
        }
    }
}

/// A folder that is not there is probably a file server that is not mounted: it is not made.
fn folder(path: &str) -> Result<Place, Wrong> {
    let wrong = |why: String| Wrong(why, FOLDER_ADVICE.into());
    if !Path::new(path).is_absolute() {
        return Err(wrong("its path is not absolute".into()));
    }
    Place::folder(Path::new(path)).map_err(|error| wrong(error.to_string()))
}

fn s3(rest: &str) -> Result<Place, Wrong> {
    let (bucket, prefix) = bucket(rest, "s3://BUCKET/FOLDER")?;
    let builder = aws::with_shared_credentials(AmazonS3Builder::from_env());
    let any_key = builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId).is_some();
    let unsigned = builder.get_config_value(&AmazonS3ConfigKey::SkipSignature).is_some_and(|skip| skip == "true");
    let elsewhere = env::vars_os().any(|(name, _)| {
        let name = name.to_string_lossy();
        name == "AWS_WEB_IDENTITY_TOKEN_FILE" || name.starts_with("AWS_CONTAINER_CREDENTIALS_")
    });
    let no_machine = env::var("AWS_EC2_METADATA_DISABLED").is_ok_and(|value| value == "true");
    if no_machine && !any_key && !unsigned && !elsewhere {
        return Err(Wrong("no credentials were found".into(), S3_ADVICE.into()));
    }
    let built = builder
        .with_bucket_name(bucket)
        .with_retry(retry())
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), REQUEST)
        .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT)
        .with_allow_http(aws::endpoint_is_plain())
        .build();
    under(built, prefix, S3_ADVICE)
}

fn gs(rest: &str) -> Result<Place, Wrong> {
    let (bucket, prefix) = bucket(rest, "gs://BUCKET/FOLDER")?;
    let mut builder = GoogleCloudStorageBuilder::from_env();
    // An emulator, as Google's own libraries are told of one.
    if let Some(host) = env::var("STORAGE_EMULATOR_HOST").ok().filter(|host| !host.is_empty()) {
        let url = if host.contains("://") { host } else { format!("http://{host}") };
        builder =
            builder.with_config(GoogleConfigKey::BaseUrl, url.trim_end_matches('/')).with_bearer_token("emulator");
    }
    let plain = builder.get_config_value(&GoogleConfigKey::BaseUrl).is_some_and(|url| url.starts_with("http://"));
    let built = builder
        .with_bucket_name(bucket)
        .with_retry(retry())
        .with_config(GoogleConfigKey::Client(ClientConfigKey::Timeout), REQUEST)
        .with_config(GoogleConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT)
        .with_config(GoogleConfigKey::Client(ClientConfigKey::AllowHttp), plain.to_string())
        .build();
    under(built, prefix, GS_ADVICE)
}

fn az(rest: &str) -> Result<Place, Wrong> {
    let (container, prefix) = bucket(rest, "az://CONTAINER/FOLDER")?;
    let builder = MicrosoftAzureBuilder::from_env();
    let plain = builder.get_config_value(&AzureConfigKey::Endpoint).is_some_and(|url| url.starts_with("http://"));
    let built = builder
        .with_container_name(container)
        .with_retry(retry())
        .with_config(AzureConfigKey::Client(ClientConfigKey::Timeout), REQUEST)
        .with_config(AzureConfigKey::Client(ClientConfigKey::ConnectTimeout), CONNECT)
        .with_allow_http(plain)
        .build();
    under(built, prefix, AZ_ADVICE)
}

/// What comes from a web server is checked like everything else, so that it may come without TLS.
fn web(url: &str) -> Result<Place, Wrong> {
    let wrong = |why: &str| Wrong(why.to_owned(), "write `https://HOST/FOLDER`".into());
    let parsed = Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(wrong("a password has no place in an address"));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(wrong("it must be the address of a folder, without `?` and `#`"));
    }
    let options = ClientOptions::new()
        .with_config(ClientConfigKey::Timeout, REQUEST)
        .with_config(ClientConfigKey::ConnectTimeout, CONNECT)
        .with_allow_http(true);
    let built = HttpBuilder::new().with_url(url.trim_end_matches('/')).with_client_options(options).with_retry(retry());
    let server = built.build().map_err(|error| wrong(&error.to_string()))?;
    Ok(Place::new(Arc::new(server)).read_only())
}

/// `bucket/folder` taken apart.
fn bucket<'u>(rest: &'u str, form: &str) -> Result<(&'u str, &'u str), Wrong> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    match bucket.is_empty() || bucket.contains(['@', '?', '#', ':']) {
        true => Err(Wrong("it names no bucket".into(), format!("write `{form}`"))),
        false => Ok((bucket, prefix.trim_matches('/'))),
    }
}

fn under<T>(built: object_store::Result<T>, prefix: &str, advice: &'static str) -> Result<Place, Wrong>
where
    T: ObjectStore + MultipartStore,
{
    let store = built.map_err(|error| Wrong(error.to_string(), advice.into()))?;
    let place = match prefix {
        "" => Place::resuming(store),
        prefix => Place::resuming(PrefixStore::new(store, prefix)),
    };
    Ok(place.advising(advice))
}

/// For a hiccup; whether it is worth more is the cache's to say.
fn retry() -> RetryConfig {
    RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(5), ..RetryConfig::default() }
}

/// An address as it may be shown.
fn without_secrets(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}
