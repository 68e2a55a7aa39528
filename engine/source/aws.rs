//! What the AWS tools keep on this machine: the shared credentials file and the choice of an endpoint. Reads, and shows
//! nothing.

use std::fs;
use std::path::PathBuf;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

/// Whether the endpoint that the environment names is a plain `http` one, as of a server on this machine.
pub fn endpoint_is_plain() -> bool {
    let names = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    let endpoint = names.iter().find_map(|name| std::env::var(name).ok());
    endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"))
}

/// Adds the credentials of `~/.aws/credentials` and the region of `~/.aws/config`, where the environment has none.
pub fn with_shared_credentials(mut builder: AmazonS3Builder) -> AmazonS3Builder {
    let profile = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".into());
    if builder.get_config_value(&AmazonS3ConfigKey::Region).is_none()
        && let Some(config) = read("AWS_CONFIG_FILE", "config")
    {
        let heading = if profile == "default" { profile.clone() } else { format!("profile {profile}") };
        if let Some(region) = value(&config, &heading, "region") {
            builder = builder.with_region(region);
        }
    }
    if builder.get_config_value(&AmazonS3ConfigKey::AccessKeyId).is_some() {
        return builder;
    }
    let Some(text) = read("AWS_SHARED_CREDENTIALS_FILE", "credentials") else { return builder };
    let of = |key: &str| value(&text, &profile, key);
    if let (Some(id), Some(secret)) = (of("aws_access_key_id"), of("aws_secret_access_key")) {
        builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        if let Some(token) = of("aws_session_token") {
            builder = builder.with_token(token);
        }
    }
    builder
}

fn read(variable: &str, name: &str) -> Option<String> {
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".aws").join(name));
    fs::read_to_string(std::env::var_os(variable).map(PathBuf::from).or_else(home)?).ok()
}

/// The value of a key under `[heading]` of an INI text.
fn value(text: &str, heading: &str, key: &str) -> Option<String> {
    let lines = text.lines().map(str::trim);
    let mut inside = lines
        .skip_while(|line| line.strip_prefix('[').and_then(|l| l.strip_suffix(']')).map(str::trim) != Some(heading));
    inside.next()?;
    let mut pairs = inside.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once('='));
    pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_read_and_no_other() {
        let text = "[default]\naws_access_key_id = one\n\n[lab]\naws_access_key_id=two\n";
        assert_eq!(value(text, "lab", "aws_access_key_id").as_deref(), Some("two"));
        assert_eq!(value(text, "default", "aws_access_key_id").as_deref(), Some("one"));
        assert_eq!(value(text, "default", "aws_secret_access_key"), None);
        assert_eq!(value(text, "none", "aws_access_key_id"), None);
    }
}
