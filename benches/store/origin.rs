//! An origin in the process, whose bodies follow from their paths.

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use modcdn_core::digest::Sha256;
use modcdn_core::headers::REPR_DIGEST;
use modcdn_edge::origin::{Origin, OriginBody, OriginError, OriginRequest, OriginResponse};

/// Bodies longer than this get a file.
pub(crate) const PACKED: u64 = 1024;

/// The path of a key: a third each are `.info`, `.mod` and `.zip`.
pub(crate) fn path(key: usize) -> String {
    let (module, kind) = (key / 3, ["info", "mod", "zip"][key % 3]);
    let organisation = module % 997;
    format!("/example.com/organisation-{organisation}/repository-{module:06}/v2/@v/v2.14.3.{kind}")
}

/// The body of a path: 90 bytes, 600 bytes, or just so long that it gets a file.
pub(crate) fn body(path: &str) -> Bytes {
    let len = match path.rsplit('.').next() {
        Some("info") => 90,
        Some("mod") => 600,
        _ => 1100,
    };
    path.bytes().cycle().take(len).collect()
}

/// The origin.
pub(crate) struct Made;

#[async_trait]
impl Origin for Made {
    async fn send(&self, request: OriginRequest) -> Result<OriginResponse, OriginError> {
        let body = body(&request.path);
        let digest = Sha256::of(&body);
        let text = HeaderValue::from_static;
        let headers = HeaderMap::from_iter([
            (CACHE_CONTROL, text("public, max-age=31536000, immutable")),
            (CONTENT_TYPE, text("application/octet-stream")),
            (CONTENT_LENGTH, body.len().into()),
            (ETAG, digest.etag()),
            (REPR_DIGEST, digest.repr_digest()),
        ]);
        Ok(OriginResponse {
            status: StatusCode::OK,
            headers,
            body: Box::new(Rest(Some(body))),
        })
    }
}

struct Rest(Option<Bytes>);

#[async_trait]
impl OriginBody for Rest {
    async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        Ok(self.0.take())
    }

    async fn trailers(&mut self) -> Result<Option<HeaderMap>, OriginError> {
        Ok(None)
    }
}
