//! Whether a call comes from who knows a secret. Pure, in constant time, over the body as it came.
//!
//! | source | proof |
//! |---|---|
//! | our own calls | `Authorization: Bearer TOKEN` |
//! | GitHub | `X-Hub-Signature-256: sha256=HEX`, HMAC-SHA256 of the body |
//! | Gitea, Forgejo | `X-Gitea-Signature: HEX` or `X-Forgejo-Signature: HEX`, the same |
//! | GitLab | `X-Gitlab-Token: SECRET`, or with a signing token `webhook-signature: v1,BASE64`, HMAC-SHA256 of `ID.TIME.BODY` (Standard Webhooks) |
//!
//! Who sends a signature must have a right one: it never counts that another proof is right. A call
//! that is sent again proves as much as before, and does no more: the same answers are refreshed. So no
//! clocks are compared.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use modcdn_core::bearer::Tokens;
use modcdn_core::digest::Sha256;

use super::Source;

/// A secret has at least this many characters.
const MIN_SECRET: usize = 16;

/// How a signing token of GitLab begins.
const SIGNING: &str = "whsec_";

const GITEA: [HeaderName; 2] = [
    HeaderName::from_static("x-gitea-signature"),
    HeaderName::from_static("x-forgejo-signature"),
];
const GITHUB: HeaderName = HeaderName::from_static("x-hub-signature-256");
const GITLAB_TOKEN: HeaderName = HeaderName::from_static("x-gitlab-token");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const SIGNED_ID: HeaderName = HeaderName::from_static("webhook-id");
const SIGNED_TIME: HeaderName = HeaderName::from_static("webhook-timestamp");

/// What is known to those who may call. Never shown.
pub(super) enum Secrets {
    Tokens(Tokens),
    Keys(Vec<Key>),
}

/// One secret.
pub(super) struct Key {
    /// For signatures.
    hmac: hmac::Key,
    /// For secrets that are sent; a signing token never is.
    digest: Option<Sha256>,
}

/// By what proof a call is to be judged. Gitea sends GitHub's signature too, so it comes first, and
/// perhaps a token, which comes last; `known` says whose secrets there are.
pub(super) fn claimed(headers: &HeaderMap, known: impl Fn(Source) -> bool) -> Option<Source> {
    let has = |name: &HeaderName| headers.contains_key(name);
    let claims = [
        (Source::Gitea, GITEA.iter().any(has)),
        (Source::Gitlab, has(&GITLAB_TOKEN) || has(&SIGNATURE)),
        (Source::Github, has(&GITHUB)),
        (Source::Token, has(&AUTHORIZATION)),
    ];
    let claimed = claims.into_iter().filter(|(_, claimed)| *claimed);
    let mut sources = claimed.map(|(source, _)| source);
    sources.find(|source| known(*source))
}

impl Secrets {
    /// Reads a file's text: one secret a line; blank lines and those with `#` don't count.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(source: Source, text: &str) -> Result<Self, String> {
        if source == Source::Token {
            return Tokens::parse(text)
                .map(Self::Tokens)
                .map_err(|error| error.to_string());
        }
        let lines = text.lines().map(str::trim).zip(1..);
        let secrets = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        let keys: Result<Vec<Key>, String> = secrets
            .map(|(secret, number)| {
                Key::parse(source, secret).map_err(|why| format!("line {number}: {why}"))
            })
            .collect();
        match keys? {
            keys if keys.is_empty() => Err("no secret in it".to_owned()),
            keys => Ok(Self::Keys(keys)),
        }
    }

    /// Whether the header alone proves it. `None`: the body is needed.
    pub(super) fn without_body(&self, source: Source, headers: &HeaderMap) -> Option<bool> {
        match (self, source) {
            (Self::Tokens(tokens), _) => {
                let shown = one(headers, &AUTHORIZATION);
                Some(shown.is_some_and(|shown| tokens.admit(shown).is_some()))
            }
            (Self::Keys(keys), Source::Gitlab) if !headers.contains_key(SIGNATURE) => {
                let shown = one(headers, &GITLAB_TOKEN).map(Sha256::of);
                Some(shown.is_some_and(|shown| some_key(keys, |key| key.is(&shown))))
            }
            (Self::Keys(_), _) => None,
        }
    }

    /// Whether the body was signed with one of the secrets.
    pub(super) fn with_body(&self, source: Source, headers: &HeaderMap, body: &[u8]) -> bool {
        let Self::Keys(keys) = self else {
            return false;
        };
        match source {
            Source::Token => false,
            Source::Gitlab => is_signed(keys, headers, body),
            Source::Github => one(headers, &GITHUB)
                .and_then(|value| value.strip_prefix(b"sha256="))
                .and_then(from_hex)
                .is_some_and(|tag| some_key(keys, |key| key.signed(&[body], &tag))),
            Source::Gitea => GITEA
                .iter()
                .find_map(|name| one(headers, name))
                .and_then(from_hex)
                .is_some_and(|tag| some_key(keys, |key| key.signed(&[body], &tag))),
        }
    }
}

/// Standard Webhooks: one of several signatures may be right.
fn is_signed(keys: &[Key], headers: &HeaderMap, body: &[u8]) -> bool {
    let (Some(id), Some(time), Some(signatures)) = (
        one(headers, &SIGNED_ID),
        one(headers, &SIGNED_TIME),
        one(headers, &SIGNATURE),
    ) else {
        return false;
    };
    let tags = signatures.split(|byte| *byte == b' ');
    let tags = tags.filter_map(|one| BASE64_STANDARD.decode(one.strip_prefix(b"v1,")?).ok());
    let parts = [id, b".", time, b".", body];
    // A header's length bounds their number.
    tags.filter(|tag| some_key(keys, |key| key.signed(&parts, tag)))
        .count()
        > 0
}

/// All are looked at: how long it takes says nothing of which it was.
fn some_key(keys: &[Key], is_right: impl FnMut(&&Key) -> bool) -> bool {
    keys.iter().filter(is_right).count() > 0
}

impl Key {
    fn parse(source: Source, secret: &str) -> Result<Self, String> {
        if secret.len() < MIN_SECRET {
            return Err(format!("a secret has at least {MIN_SECRET} characters"));
        }
        let of = |bytes: &[u8]| hmac::Key::new(hmac::HMAC_SHA256, bytes);
        match secret.strip_prefix(SIGNING) {
            Some(encoded) if source == Source::Gitlab => {
                let bytes = BASE64_STANDARD.decode(encoded);
                let bytes = bytes.map_err(|_| "a signing token is whsec_ and base64")?;
                Ok(Self {
                    hmac: of(&bytes),
                    digest: None,
                })
            }
            _ => Ok(Self {
                hmac: of(secret.as_bytes()),
                digest: Some(Sha256::of(secret.as_bytes())),
            }),
        }
    }

    fn is(&self, shown: &Sha256) -> bool {
        self.digest.as_ref().is_some_and(|digest| {
            verify_slices_are_equal(digest.as_bytes(), shown.as_bytes()).is_ok()
        })
    }

    fn signed(&self, parts: &[&[u8]], tag: &[u8]) -> bool {
        let mut context = hmac::Context::with_key(&self.hmac);
        for part in parts {
            context.update(part);
        }
        verify_slices_are_equal(context.sign().as_ref(), tag).is_ok()
    }
}

/// A field that was sent once.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.as_bytes())
}

fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let pairs = text.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "It's a Secret to Everybody";
    const BODY: &[u8] = b"Hello, World!";
    /// The example in GitHub's documentation of webhooks.
    const SIGNED: &str = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    /// Whether these secrets prove a call with these fields.
    fn proves(source: Source, secrets: &str, fields: &[(&'static str, &str)], body: &[u8]) -> bool {
        let secrets = Secrets::parse(source, secrets).unwrap();
        let headers = headers(fields);
        let without = secrets.without_body(source, &headers);
        without.unwrap_or_else(|| secrets.with_body(source, &headers, body))
    }

    #[test]
    fn a_signature_over_the_body_is_that_of_githubs_documentation() {
        let github = format!("sha256={SIGNED}");
        let upper = format!("sha256={}", SIGNED.to_uppercase());
        for (source, field, value) in [
            (Source::Github, "x-hub-signature-256", &github),
            (Source::Github, "x-hub-signature-256", &upper),
            (Source::Gitea, "x-gitea-signature", &SIGNED.to_owned()),
            (Source::Gitea, "x-forgejo-signature", &SIGNED.to_owned()),
        ] {
            let fields = [(field, value.as_str())];
            assert!(proves(source, SECRET, &fields, BODY), "{field} {value}");
            let two = format!("# old\nanother secret of us\n{SECRET}\n");
            assert!(proves(source, &two, &fields, BODY));
            assert!(!proves(source, SECRET, &fields, b"Hello, World?"));
            assert!(!proves(source, "another secret of us", &fields, BODY));
            let twice = [fields[0], fields[0]];
            assert!(!proves(source, SECRET, &twice, BODY));
        }
        for wrong in ["", "sha256=", "sha1=00", SIGNED, &github[..20], "sha256=zz"] {
            let fields = [("x-hub-signature-256", wrong)];
            assert!(!proves(Source::Github, SECRET, &fields, BODY), "{wrong}");
        }
    }

    #[test]
    fn gitlabs_secret_is_sent_and_its_signing_token_signs() {
        let token = [("x-gitlab-token", SECRET)];
        assert!(proves(Source::Gitlab, SECRET, &token, BODY));
        assert!(!proves(
            Source::Gitlab,
            SECRET,
            &[("x-gitlab-token", "wrong")],
            BODY
        ));
        // The example of the Standard Webhooks specification's libraries.
        let signing = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let body = br#"{"test": 2432232314}"#;
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let signed = |signature| {
            [
                ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("webhook-timestamp", "1614265330"),
                ("webhook-signature", signature),
            ]
        };
        assert!(proves(Source::Gitlab, signing, &signed(signature), body));
        let several = format!("v1,AAAA v2,x {signature}");
        assert!(proves(Source::Gitlab, signing, &signed(&several), body));
        assert!(!proves(Source::Gitlab, signing, &signed(signature), BODY));
        assert!(!proves(Source::Gitlab, signing, &signed("v1,AAAA"), body));
        assert!(!proves(
            Source::Gitlab,
            signing,
            &signed(signature)[1..],
            body
        ));
        // A signature that is wrong isn't made good by a secret that is right, and a signing token
        // that is sent is no secret.
        let both = format!("{signing}\n{SECRET}");
        let mut fields = signed("v1,AAAA").to_vec();
        fields.push(("x-gitlab-token", SECRET));
        assert!(!proves(Source::Gitlab, &both, &fields, body));
        assert!(!proves(
            Source::Gitlab,
            signing,
            &[("x-gitlab-token", signing)],
            body
        ));
    }

    #[test]
    fn a_bearer_token_is_one_of_the_file() {
        let token = "0123456789abcdef";
        let shown = format!("Bearer {token}");
        let proven =
            |secrets, shown| proves(Source::Token, secrets, &[("authorization", shown)], BODY);
        assert!(proven(token, &shown));
        assert!(!proven("fedcba9876543210", &shown));
        assert!(!proven(token, "Basic 0123456789abcdef"));
    }

    #[test]
    fn a_file_without_usable_secrets_is_refused() {
        for (source, text, said) in [
            (Source::Github, "", "no secret"),
            (Source::Github, "# x\n\n", "no secret"),
            (Source::Github, "a secret long enough\nshort", "line 2"),
            (Source::Gitlab, "whsec_!!!!!!!!!!!!!!!!", "base64"),
            (Source::Token, "no token of ours!", "line 1"),
        ] {
            let error = Secrets::parse(source, text).err().unwrap();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_proof_is_chosen_by_what_is_sent_and_what_is_known() {
        let all = headers(&[
            ("authorization", "x"),
            ("x-hub-signature-256", "x"),
            ("x-gitea-signature", "x"),
        ]);
        assert_eq!(claimed(&all, |_| true), Some(Source::Gitea));
        let without_gitea = |source| source != Source::Gitea;
        assert_eq!(claimed(&all, without_gitea), Some(Source::Github));
        assert_eq!(
            claimed(&all, |source| source == Source::Token),
            Some(Source::Token)
        );
        assert_eq!(claimed(&all, |_| false), None);
        assert_eq!(claimed(&HeaderMap::new(), |_| true), None);
    }

    proptest! {
        #[test]
        fn no_header_panics_and_none_is_right_by_chance(
            value in "[ -~]{0,80}",
            body in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            for source in Source::ALL {
                let fields = [
                    ("authorization", value.as_str()),
                    ("x-hub-signature-256", value.as_str()),
                    ("x-gitea-signature", value.as_str()),
                    ("x-gitlab-token", value.as_str()),
                    ("webhook-id", value.as_str()),
                    ("webhook-timestamp", value.as_str()),
                    ("webhook-signature", value.as_str()),
                ];
                prop_assert!(!proves(source, "0123456789abcdef0123456789abcdef", &fields, &body));
            }
        }
    }
}
