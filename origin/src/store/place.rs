//! Where a body lies: a relative path, that of a GOPROXY tree.

use modcdn_core::goproxy::{Request, SumDbCall};

use super::sum::is_sum;

/// Where the body that answers a request lies; `None` for what may change.
pub(crate) fn place(request: &Request) -> Option<String> {
    let stored = match request {
        Request::Info(..) | Request::Mod(..) | Request::Zip(..) => true,
        Request::SumDb(sumdb) => {
            matches!(sumdb.call, SumDbCall::Tile(_) | SumDbCall::Lookup(..))
        }
        Request::List(_) | Request::Latest(_) | Request::Query(..) => false,
    };
    let place = stored.then(|| request.path().trim_start_matches('/').to_owned())?;
    // A record's name ends in a version, and v0.0.0-0.sha256 is one: such records are not kept.
    Some(place).filter(|place| !is_sum(place))
}

/// The request whose body lies there; `None` for anything else.
pub(crate) fn request(at: &str) -> Option<Request> {
    let request = Request::parse(&format!("/{at}")).ok()?;
    // Only the one spelling: `%`-encodings and the like are other names.
    (place(&request).as_deref() == Some(at)).then_some(request)
}

/// Whether answers to this request are kept in the tree.
pub(crate) fn keeps(request: &Request) -> bool {
    place(request).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_requests_name_each_other() {
        for at in [
            "a.example/!m/@v/v1.0.0.info",
            "a.example/m/@v/v1.0.0.mod",
            "a.example/m/v2/@v/v2.0.0-!r!c.zip",
            "sumdb/sum.example/tile/8/0/000.p/2",
            "sumdb/sum.example/lookup/a.example/m@v0.0.0-20230101000000-0123456789ab",
        ] {
            let request = request(at).unwrap();
            assert_eq!(place(&request).unwrap(), at);
        }
    }

    #[test]
    fn what_is_no_body_has_no_request() {
        for at in [
            "a.example/m/@v/list",
            "a.example/m/@latest",
            "a.example/m/@v/v1.0.0.ziphash",
            "a.example/m/@v/v1.0.0.zip.sha256",
            "a.example/m/@v/v1.0.0.lock",
            "a.example/%6D/@v/v1.0.0.mod",
            "sumdb/sum.example/latest",
            "sumdb/sum.example/lookup/a.example/m@v1.0.0.sha256",
            "sumdb/sum.example/lookup/a.example/m@v0.0.0-20230101000000-0123456789ab.sha256",
            "cache/lock",
        ] {
            assert_eq!(request(at), None, "{at}");
        }
    }
}
