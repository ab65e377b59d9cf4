//! `store.s3`: bodies in a bucket instead of a folder.

use std::path::PathBuf;

use modcdn_core::units::{ByteSize, Period};
use serde::{Deserialize, Serialize};

/// Storage that speaks S3, and how it is talked to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3 {
    /// The bucket. It must be there already.
    pub bucket: String,
    /// What all keys begin with: `modules` makes `modules/<module>/@v/…`.
    pub prefix: String,
    /// The server's URL; none: Amazon's, by region.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// A file of credentials, read again whenever it changes; none: the environment
    /// (`AWS_ACCESS_KEY_ID` …, a web identity, the metadata service of the machine).
    pub credentials: Option<PathBuf>,
    /// The profile of that file.
    pub profile: String,
    /// PEM certificates trusted beside the system's.
    pub ca: Option<PathBuf>,
    /// `ENDPOINT/BUCKET/KEY` instead of `BUCKET.ENDPOINT/KEY`.
    pub path_style: bool,
    /// Whether the endpoint may be `http://`.
    pub allow_http: bool,
    /// Bodies longer than this are uploaded in parts of this size.
    pub part_size: ByteSize,
    /// What all uploads together hold in memory.
    pub upload_memory: ByteSize,
    /// Connecting, TLS included.
    pub connect_timeout: Period,
    /// From a request to the head of its answer, tries included.
    pub answer_timeout: Period,
    /// Between two pieces of a body.
    pub stall_timeout: Period,
    /// One part, or one small body, up to the server's word that it has it; tries included.
    pub upload_timeout: Period,
    /// How often a request that failed is sent again.
    pub retries: usize,
}

impl S3 {
    /// See [`S3::region`].
    pub const REGION: &str = "us-east-1";
    /// See [`S3::profile`].
    pub const PROFILE: &str = "default";
    /// See [`S3::part_size`]. S3 takes no more than 10,000 parts, and none under 5 MiB but the last.
    pub const PART_SIZE: ByteSize = ByteSize::mib(5);
    /// See [`S3::upload_memory`].
    pub const UPLOAD_MEMORY: ByteSize = ByteSize::mib(10);
    /// See [`S3::connect_timeout`].
    pub const CONNECT_TIMEOUT: Period = Period::secs(3);
    /// See [`S3::answer_timeout`]. Shorter than an edge waits for its origin, so that it is told.
    pub const ANSWER_TIMEOUT: Period = Period::secs(4);
    /// See [`S3::stall_timeout`].
    pub const STALL_TIMEOUT: Period = Period::secs(15);
    /// See [`S3::upload_timeout`].
    pub const UPLOAD_TIMEOUT: Period = Period::secs(60);
    /// See [`S3::retries`].
    pub const RETRIES: usize = 3;

    pub(super) fn check(&self, require: &mut impl FnMut(bool, &str, &str)) {
        require(!self.bucket.is_empty(), "store.s3.bucket", "needs a bucket");
        let elements = || self.prefix.split('/');
        let plain = |element: &str| !matches!(element, "" | "." | "..") && element.is_ascii();
        require(
            self.prefix.is_empty() || elements().all(plain),
            "store.s3.prefix",
            "must be ASCII without `/` at either end, and without empty, `.` or `..` elements",
        );
        let least = ByteSize::mib(5);
        require(
            (least..=ByteSize::gib(1)).contains(&self.part_size),
            "store.s3.part_size",
            "must be between 5MiB and 1GiB",
        );
        require(
            self.upload_memory >= self.part_size,
            "store.s3.upload_memory",
            "must hold at least one part of store.s3.part_size",
        );
        self.check_endpoint(require);
        for (key, period) in [
            ("connect_timeout", self.connect_timeout),
            ("answer_timeout", self.answer_timeout),
            ("stall_timeout", self.stall_timeout),
            ("upload_timeout", self.upload_timeout),
        ] {
            let key = format!("store.s3.{key}");
            require(
                !period.is_zero(),
                &key,
                "must be above zero: every wait has an end",
            );
        }
    }

    fn check_endpoint(&self, require: &mut impl FnMut(bool, &str, &str)) {
        let Some(endpoint) = &self.endpoint else {
            return;
        };
        let plain = endpoint.starts_with("http://");
        require(
            plain || endpoint.starts_with("https://"),
            "store.s3.endpoint",
            "must be an http:// or https:// URL",
        );
        require(
            !plain || self.allow_http,
            "store.s3.endpoint",
            "is plain http: say allow_http if that is meant",
        );
    }
}

impl Default for S3 {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            prefix: String::new(),
            endpoint: None,
            region: Self::REGION.to_owned(),
            credentials: None,
            profile: Self::PROFILE.to_owned(),
            ca: None,
            path_style: false,
            allow_http: false,
            part_size: Self::PART_SIZE,
            upload_memory: Self::UPLOAD_MEMORY,
            connect_timeout: Self::CONNECT_TIMEOUT,
            answer_timeout: Self::ANSWER_TIMEOUT,
            stall_timeout: Self::STALL_TIMEOUT,
            upload_timeout: Self::UPLOAD_TIMEOUT,
            retries: Self::RETRIES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The commented block of the example, uncommented.
    fn example() -> String {
        let example = include_str!("../../../config/origin.yaml");
        let block = example
            .lines()
            .skip_while(|line| *line != "  #   s3:")
            .skip(1);
        let block = block.map_while(|line| line.strip_prefix("  #     "));
        let continued = |line: &&str| !line.starts_with(' ');
        block
            .filter(continued)
            .map(|line| format!("{line}\n"))
            .collect()
    }

    #[test]
    fn the_example_names_every_key_with_its_default() {
        let text = example();
        let parsed: S3 = serde_yaml::from_str(&text).unwrap();
        let expected = S3 {
            bucket: "modules".to_owned(),
            ..S3::default()
        };
        assert_eq!(parsed, expected);
        let keys = |value: serde_yaml::Value| {
            let keys = value.as_mapping().unwrap().keys().cloned();
            keys.map(|key| key.as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        };
        let named = keys(serde_yaml::from_str(&text).unwrap());
        assert_eq!(named, keys(serde_yaml::to_value(S3::default()).unwrap()));
    }
}
