//! The client of storage that speaks S3, and its credentials.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use modcdn_core::units::Period;
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsCredential};
use object_store::{BackoffConfig, Certificate, ClientOptions, CredentialProvider, RetryConfig};
use parking_lot::Mutex;

use crate::config::S3;
use crate::disk;

/// Servers close idle connections after 20 seconds and more.
const IDLE: Period = Period::secs(15);

/// The first pause between two tries; it grows to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Period = Period::millis(50);
const LONGEST_PAUSE: Period = Period::secs(1);

/// # Errors
/// If credentials or certificates can't be read, or don't fit together.
pub(super) fn build(settings: &S3) -> io::Result<AmazonS3> {
    let mut builder = match &settings.credentials {
        None => AmazonS3Builder::from_env(),
        Some(path) => {
            let file = CredentialsFile::open(path, &settings.profile)?;
            AmazonS3Builder::new().with_credentials(Arc::new(file))
        }
    };
    if let Some(endpoint) = &settings.endpoint {
        builder = builder.with_endpoint(endpoint_of(settings, endpoint));
    }
    builder
        .with_bucket_name(&settings.bucket)
        .with_region(&settings.region)
        .with_virtual_hosted_style_request(!settings.path_style)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: FIRST_PAUSE.get(),
                max_backoff: LONGEST_PAUSE.get(),
                base: 2.0,
            },
            max_retries: settings.retries,
            retry_timeout: settings.upload_timeout.get(),
        })
        .with_client_options(options(settings)?)
        .build()
        .map_err(io::Error::other)
}

/// The builder wants the bucket in the host of an endpoint that isn't asked in path style.
fn endpoint_of(settings: &S3, endpoint: &str) -> String {
    let endpoint = endpoint.trim_end_matches('/');
    match endpoint.split_once("://") {
        Some((scheme, host)) if !settings.path_style => {
            format!("{scheme}://{}.{host}", settings.bucket)
        }
        _ => endpoint.to_owned(),
    }
}

/// Deadlines of whole calls are ours: the client knows no bodies that take minutes.
fn options(settings: &S3) -> io::Result<ClientOptions> {
    let mut options = ClientOptions::new()
        .with_allow_http(settings.allow_http)
        .with_connect_timeout(settings.connect_timeout.get())
        .with_timeout_disabled()
        .with_pool_idle_timeout(IDLE.get());
    if let Some(path) = &settings.ca {
        let pem = fs::read(path).map_err(|error| of_file(path, &error))?;
        let bundle = Certificate::from_pem_bundle(&pem).map_err(|error| of_file(path, &error))?;
        for certificate in bundle {
            options = options.with_root_certificate(certificate);
        }
    }
    Ok(options)
}

fn of_file(path: &Path, error: &dyn std::fmt::Display) -> io::Error {
    io::Error::other(format!("{}: {error}", path.display()))
}

/// Credentials as the tools of Amazon keep them, read again when the file changes. While it can't
/// be read, the last ones are used.
#[derive(Debug)]
struct CredentialsFile {
    path: PathBuf,
    profile: String,
    known: Mutex<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    changed: SystemTime,
    credential: Arc<AwsCredential>,
}

impl CredentialsFile {
    fn open(path: &Path, profile: &str) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            profile: profile.to_owned(),
            known: Mutex::new(load(path, profile)?),
        })
    }
}

#[async_trait]
impl CredentialProvider for CredentialsFile {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let known = self.known.lock().clone();
        let (path, profile) = (self.path.clone(), self.profile.clone());
        let newer = disk::blocking(move || {
            let changed = fs::metadata(&path)?.modified()?;
            if changed == known.changed {
                return Ok(known);
            }
            load(&path, &profile)
        })
        .await;
        match newer {
            Ok(newer) => *self.known.lock() = newer,
            Err(error) => tracing::warn!(%error, "using the last credentials of the file"),
        }
        Ok(self.known.lock().credential.clone())
    }
}

fn load(path: &Path, profile: &str) -> io::Result<Known> {
    let read = || {
        let changed = fs::metadata(path)?.modified()?;
        Ok::<_, io::Error>((changed, fs::read_to_string(path)?))
    };
    let (changed, text) = read().map_err(|error| of_file(path, &error))?;
    let credential = parse(&text, profile).ok_or_else(|| {
        let wanted = format!("no aws_access_key_id and aws_secret_access_key under [{profile}]");
        of_file(path, &wanted)
    })?;
    Ok(Known {
        changed,
        credential: Arc::new(credential),
    })
}

fn parse(text: &str, profile: &str) -> Option<AwsCredential> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|line| {
        line.strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
            .is_some_and(|name| name.trim() == profile)
    })?;
    let (mut key_id, mut secret_key, mut token) = (None, None, None);
    for line in lines.take_while(|line| !line.starts_with('[')) {
        let Some((name, value)) = line.split_once('=') else {
            continue;
        };
        let value = Some(value.trim().to_owned());
        match name.trim() {
            "aws_access_key_id" => key_id = value,
            "aws_secret_access_key" => secret_key = value,
            "aws_session_token" => token = value,
            _ => {}
        }
    }
    Some(AwsCredential {
        key_id: key_id?,
        secret_key: secret_key?,
        token,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# keys\n[other]\naws_access_key_id = no\n\n[ default ]\n\
                        aws_access_key_id = id\naws_secret_access_key=se=cret\n[last]\n\
                        aws_access_key_id=a\naws_secret_access_key=b\naws_session_token=c\n";

    #[test]
    fn a_profile_is_found_in_a_file_of_credentials() {
        let default = parse(FILE, "default").unwrap();
        assert_eq!((&*default.key_id, &*default.secret_key), ("id", "se=cret"));
        assert_eq!(default.token, None);
        assert_eq!(parse(FILE, "last").unwrap().token.unwrap(), "c");
        assert!(parse(FILE, "other").is_none() && parse(FILE, "missing").is_none());
    }

    #[tokio::test]
    async fn a_file_that_changed_is_read_again_and_a_broken_one_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        fs::write(&path, FILE).unwrap();
        let file = CredentialsFile::open(&path, "default").unwrap();
        let later = |text: &str, seconds| {
            fs::write(&path, text).unwrap();
            let changed = SystemTime::now() + std::time::Duration::from_secs(seconds);
            fs::File::open(&path)
                .unwrap()
                .set_modified(changed)
                .unwrap();
        };
        later(&FILE.replace("= id", "= new"), 10);
        assert_eq!(file.get_credential().await.unwrap().key_id, "new");
        later("nothing", 20);
        assert_eq!(file.get_credential().await.unwrap().key_id, "new");
    }

    #[test]
    fn a_bucket_stands_in_the_host_or_in_the_path() {
        let mut settings = S3 {
            bucket: "b".to_owned(),
            ..S3::default()
        };
        let url = "https://s3.example:9000/";
        assert_eq!(endpoint_of(&settings, url), "https://b.s3.example:9000");
        settings.path_style = true;
        assert_eq!(endpoint_of(&settings, url), "https://s3.example:9000");
    }
}
