//! The promises F1 to F4 and F9 at a whole edge, over real sockets: clients speak HTTP/2 to it, and
//! it to an origin that fails as it is told.
//!
//! Edges run in threads of this process, and end with it.

mod dns;
mod edge;
mod origin;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use futures::future::join_all;
use modcdn_core::units::{ByteSize, Period};

use dns::{Dns, Says};
use edge::{Cut, Edge};
use origin::{Fault, Origin, zip};

const ZIP: &str = "/example.com/m/@v/v1.0.0.zip";
const INFO: &str = "/example.com/m/@v/v1.0.0.info";

/// Everything that stops a body in its midst, and what the promise says of it: nothing is noticed.
async fn continues_after(fault: Fault) {
    let origin = Origin::start("127.0.0.1:0").await;
    let edge = Edge::start(&origin.url(), |config| {
        config.origin.stall_timeout = Period::millis(300);
    });
    origin.will(fault);
    let body = edge.client().await.get(ZIP).await.unwrap();
    assert!(body == zip(ZIP), "{fault:?}: other bytes");
    assert!(origin.requests() >= 2, "{fault:?}: nothing was continued");
    let taken = edge.metric("modcdn_edge_fill_bytes_total");
    assert!(
        taken as f64 <= 1.05 * body.len() as f64,
        "{fault:?}: {taken} bytes taken"
    );
    let asked = origin.requests();
    assert!(edge.client().await.get(ZIP).await.unwrap() == body);
    assert_eq!(origin.requests(), asked, "{fault:?}: a hit");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_body_that_stalls_is_continued() {
    continues_after(Fault::Stall).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_body_whose_stream_is_reset_is_continued() {
    continues_after(Fault::Reset).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_body_whose_connection_dies_is_continued() {
    continues_after(Fault::Die).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_body_that_ends_too_early_is_continued() {
    continues_after(Fault::Short).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_body_of_unknown_length_that_ends_too_early_is_continued() {
    continues_after(Fault::ShortUndescribed).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_connection_that_goes_away_in_the_midst_of_a_body_is_no_matter() {
    let origin = Origin::start("127.0.0.1:0").await;
    let edge = Edge::start(&origin.url(), |_| {});
    origin.will(Fault::GoAway);
    assert!(edge.client().await.get(ZIP).await.unwrap() == zip(ZIP));
    assert!(edge.client().await.get(INFO).await.unwrap() == zip(INFO));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_request_that_is_refused_is_sent_again() {
    let origin = Origin::start("127.0.0.1:0").await;
    let edge = Edge::start(&origin.url(), |_| {});
    origin.will(Fault::Refuse);
    assert!(edge.client().await.get(ZIP).await.unwrap() == zip(ZIP));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_a_body_is_continued_at_another_address() {
    let one = Origin::start("127.0.0.1:0").await;
    let port = one.address.port();
    let two = Origin::start(&format!("127.0.0.2:{port}")).await;
    let addresses = vec![Ipv4Addr::new(127, 0, 0, 1), Ipv4Addr::new(127, 0, 0, 2)];
    let dns = Dns::start(Says::Addresses(addresses, 60));
    let edge = Edge::start(&format!("http://origin.example:{port}"), |config| {
        config.origin.resolvers = vec![dns.address];
    });
    one.will(Fault::Close);
    assert!(edge.client().await.get(ZIP).await.unwrap() == zip(ZIP));
    assert_eq!((one.requests(), two.requests()), (1, 1));
    let taken = edge.metric("modcdn_edge_fill_bytes_total");
    assert!(taken as f64 <= 1.05 * zip(ZIP).len() as f64, "{taken}");
    assert!(dns.asked() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f3_an_origin_that_moves_is_followed() {
    let one = Origin::start("127.0.0.1:0").await;
    let port = one.address.port();
    let dns = Dns::start(Says::Addresses(vec![Ipv4Addr::new(127, 0, 0, 1)], 1));
    let edge = Edge::start(&format!("http://origin.example:{port}"), |config| {
        config.origin.resolvers = vec![dns.address];
    });
    assert!(edge.client().await.get(INFO).await.unwrap() == zip(INFO));
    one.will(Fault::Close);
    let two = Origin::start(&format!("127.0.0.2:{port}")).await;
    dns.now_says(Says::Addresses(vec![Ipv4Addr::new(127, 0, 0, 2)], 60));
    assert!(edge.client().await.get(ZIP).await.unwrap() == zip(ZIP));
    assert!(two.requests() > 0);
    // A DNS that breaks, or forgets the name, changes nothing.
    for says in [Says::Failure, Says::NoSuchName] {
        dns.now_says(says);
        let path = format!("/example.com/m/@v/v1.0.{}.zip", dns.asked());
        assert!(edge.client().await.get(&path).await.unwrap() == zip(&path));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f4_wrong_bytes_are_never_complete_and_never_a_hit() {
    let origin = Origin::start("127.0.0.1:0").await;
    let edge = Edge::start(&origin.url(), |config| {
        config.fill.failed_memory = Period::millis(1);
    });
    for (n, fault) in [Fault::WrongDigest, Fault::WrongTrailer]
        .into_iter()
        .enumerate()
    {
        let path = format!("/example.com/wrong/@v/v1.{n}.0.zip");
        origin.will(fault);
        let cut = edge.client().await.get(&path).await.unwrap_err();
        assert!(
            matches!(cut, Cut::Off(len) if len < zip(&path).len()),
            "{fault:?}: {cut:?}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
        let body = edge.client().await.get(&path).await.unwrap();
        assert!(body == zip(&path), "{fault:?}: right when the origin is");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f4_wrong_bytes_over_http_1_are_cut_off_before_their_length() {
    let origin = Origin::start("127.0.0.1:0").await;
    let edge = Edge::start(&origin.url(), |_| {});
    origin.will(Fault::WrongDigest);
    let (announced, came) = edge.over_http_1(ZIP).await;
    assert!(came < announced, "{came} of {announced} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f4_more_bytes_than_announced_are_never_passed_on() {
    let origin = Origin::start("127.0.0.1:0").await;
    let edge = Edge::start(&origin.url(), |_| {});
    origin.will(Fault::Long);
    // As much as was announced is there, and its digest is right.
    assert!(edge.client().await.get(ZIP).await.unwrap() == zip(ZIP));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f2_an_origin_that_never_answers_is_given_up_and_then_left_alone() {
    let origin = Origin::start("127.0.0.1:0").await;
    let edge = Edge::start(&origin.url(), |config| {
        config.origin.first_byte_timeout = Period::millis(300);
        config.origin.breaker.pause = Period::secs(8);
        config.origin.breaker.pause_max = Period::secs(8);
    });
    origin.be(Some(Fault::Silent));
    let client = edge.client().await;
    let paths = (0..40).map(|n| format!("/example.com/m/@v/v1.0.{n}.info"));
    let refused = join_all(paths.map(|path| client.status(path))).await;
    assert!(
        refused.iter().all(|status| [503, 504].contains(status)),
        "{refused:?}"
    );
    let asked = origin.requests();
    let since = Instant::now();
    for n in 100..140 {
        let path = format!("/example.com/m/@v/v1.0.{n}.info");
        assert_eq!(client.status(path).await, 503, "refused at once");
    }
    assert!(since.elapsed() < Duration::from_secs(2), "nobody waited");
    assert_eq!(origin.requests(), asked, "nobody asked");
    origin.be(None);
    let recovered = async {
        while client.status(INFO.to_owned()).await != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), recovered)
        .await
        .expect("it recovers by itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f2_a_listener_that_speaks_garbage_or_nothing_is_a_readable_error() {
    for fault in [Fault::Garbage, Fault::BlackHole] {
        let origin = Origin::start("127.0.0.1:0").await;
        origin.be(Some(fault));
        let edge = Edge::start(&origin.url(), |config| {
            config.origin.first_byte_timeout = Period::millis(500);
            config.origin.connect_timeout = Period::millis(500);
        });
        let refused = edge.client().await.get(ZIP).await.unwrap_err();
        let Cut::Refused(status, text) = refused else {
            panic!("{fault:?}: {refused:?}")
        };
        assert!([502, 504].contains(&status), "{fault:?}: {status}");
        assert!(
            text.starts_with("modcdn: example.com/m/@v/v1.0.0.zip: "),
            "{text}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f1_what_is_stored_is_served_when_the_origin_is_gone() {
    let origin = Origin::start("127.0.0.1:0").await;
    let edge = Edge::start(&origin.url(), |_| {});
    let client = edge.client().await;
    assert!(client.get(ZIP).await.unwrap() == zip(ZIP));
    origin.be(Some(Fault::BlackHole));
    origin.kill_connections();
    assert!(client.get(ZIP).await.unwrap() == zip(ZIP));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f2_a_slow_body_reaches_its_readers_as_it_comes() {
    let origin = Origin::start("127.0.0.1:0").await;
    let edge = Edge::start(&origin.url(), |_| {});
    origin.will(Fault::Slow);
    assert!(edge.client().await.get(ZIP).await.unwrap() == zip(ZIP));
    assert_eq!(origin.requests(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f10_slow_clients_of_relays_hold_no_place_that_others_need() {
    let origin = Origin::start("127.0.0.1:0").await;
    let edge = Edge::start(&origin.url(), |config| {
        config.origin.requests = 2;
        config.origin.relays = 20;
        config.origin.queue_wait = Period::millis(300);
        // What they leave unread fills more than one connection's window.
        config.origin.stream_window = ByteSize::mib(1);
        config.origin.connection_window = ByteSize::mib(4);
    });
    let slow = edge.client_with_windows(65_535, 65_535).await;
    let mut unread = Vec::new();
    for n in 0..20 {
        let path = format!("/example.com/slow/@v/v1.0.{n}.zip");
        unread.push(slow.begin(&path).await);
        assert_eq!(unread[n].status(), 200, "{n}");
    }
    assert_eq!(edge.metric("modcdn_edge_origin_relays_running"), 20);
    let refused = slow.begin("/example.com/slow/@v/v1.1.0.zip").await;
    assert_eq!(refused.status(), 503, "there are as many as may be");
    let client = edge.client().await;
    for n in 0..5 {
        let path = format!("/example.com/m/@v/v1.0.{n}.zip");
        assert!(client.get(&path).await.unwrap() == zip(&path), "{n}");
    }
    assert_eq!(edge.metric("modcdn_edge_origin_requests_running"), 0);
    drop((unread, slow));
    let left = async {
        while edge.metric("modcdn_edge_origin_relays_running") > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let patience = Duration::from_secs(20);
    tokio::time::timeout(patience, left)
        .await
        .expect("they leave");
    let again = client.begin("/example.com/slow/@v/v1.1.0.zip").await;
    assert_eq!(again.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f9_ten_thousand_requests_over_h2_are_one_origin_request() {
    let origin = Origin::start("127.0.0.1:0").await;
    let edge = Edge::start(&origin.url(), |_| {});
    let expected = zip(INFO);
    origin.will(Fault::Slow);
    let connections = (0..500).map(|_| async {
        let client = edge.client().await;
        let requests = (0..20).map(|_| client.get(INFO));
        let bodies = join_all(requests).await;
        bodies
            .iter()
            .all(|body| body.as_ref().is_ok_and(|body| *body == expected))
    });
    assert!(join_all(connections).await.into_iter().all(|right| right));
    assert_eq!(origin.requests(), 1);
}
