//! What a tree in a folder does.

use modcdn_core::refusal::Reason;
use prometheus::Registry;

use super::*;

struct Case {
    dir: tempfile::TempDir,
    tree: Arc<Tree>,
}

impl Case {
    async fn adopt(&self, path: &str, body: Unsummed, h1: Option<H1>) -> Option<Stored> {
        self.tree.adopt(&request(path), body, h1).await.unwrap()
    }
}

fn open(dir: &Path) -> Arc<Tree> {
    let store = Store {
        dir: dir.to_owned(),
        durable: false,
        ..Store::default()
    };
    let (limits, metrics) = (Limits::default(), Metrics::new(&Registry::new()));
    let budget = Budget::of(&limits, &metrics);
    Tree::open(&store, &limits, &Archive::default(), budget, &metrics).unwrap()
}

fn case() -> Case {
    let dir = tempfile::tempdir().unwrap();
    let tree = open(dir.path());
    Case { dir, tree }
}

fn request(path: &str) -> Request {
    Request::parse(path).unwrap()
}

fn found(look: Look) -> Stored {
    match look {
        Look::Found(stored) => stored,
        other => panic!("{other:?}"),
    }
}

fn unsummed(look: Look) -> Unsummed {
    match look {
        Look::Unsummed(body) => body,
        other => panic!("{other:?}"),
    }
}

const MOD: &str = "/a.example/!m/@v/v1.0.0.mod";
const ZIP: &str = "/a.example/!m/@v/v1.0.0.zip";

#[tokio::test]
async fn a_stored_body_is_there_after_a_restart() {
    let case = case();
    let body = Bytes::from_static(b"module a.example/M\n");
    case.tree.put(&request(MOD), body.clone()).await.unwrap();
    let stored = found(open(case.dir.path()).look(&request(MOD)).await);
    assert_eq!(stored.sum, Sum::of(&body));
    assert!(matches!(stored.body, StoredBody::Small(bytes) if bytes == body));
    assert_eq!(
        fs::read(case.dir.path().join(&MOD[1..])).unwrap(),
        body,
        "the tree is a GOPROXY tree"
    );
}

#[tokio::test]
async fn the_list_names_what_has_a_mod() {
    let case = case();
    for version in ["v1.10.0", "v1.2.0", "v1.0.0-!r!c"] {
        let path = format!("/a.example/m/@v/{version}.mod");
        let body = Bytes::from_static(b"module a.example/m\n");
        case.tree.put(&request(&path), body).await.unwrap();
    }
    let list = fs::read_to_string(case.dir.path().join("a.example/m/@v/list")).unwrap();
    assert_eq!(list, "v1.0.0-RC\nv1.2.0\nv1.10.0\n");
}

#[tokio::test]
async fn a_flipped_byte_in_a_small_body_makes_it_absent() {
    let case = case();
    let body = Bytes::from_static(b"module a.example/M\n");
    case.tree.put(&request(MOD), body).await.unwrap();
    fs::write(case.dir.path().join(&MOD[1..]), b"nodule a.example/M\n").unwrap();
    assert!(matches!(case.tree.look(&request(MOD)).await, Look::Absent));
    assert!(!case.dir.path().join(&MOD[1..]).exists());
    let kept = fs::read_dir(case.dir.path().join(".quarantine")).unwrap();
    assert_eq!(kept.count(), 2, "the body and its reason");
}

#[tokio::test]
async fn a_tree_of_the_go_command_is_taken_over() {
    let case = case();
    let path = case.dir.path().join(&ZIP[1..]);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let body = vec![1; 100_000];
    fs::write(&path, &body).unwrap();
    let h1 = H1::of_mod(b"");
    let unsummed = unsummed(case.tree.look(&request(ZIP)).await);
    let adopted = case.adopt(ZIP, unsummed, Some(h1)).await.unwrap();
    assert_eq!(adopted.sum, Sum::of(&body));
    let stored = found(open(case.dir.path()).look(&request(ZIP)).await);
    assert_eq!((stored.sum, stored.sum.h1), (adopted.sum, Some(h1)));
    let ziphash = path.with_extension("ziphash");
    assert_eq!(fs::read_to_string(ziphash).unwrap(), h1.to_string());
}

#[tokio::test]
async fn a_zip_without_h1_was_never_proven() {
    let case = case();
    let temp = case.tree.spool_name();
    fs::write(&temp, b"a zip").unwrap();
    let sum = Sum::of(b"a zip");
    case.tree.commit(&request(ZIP), &temp, sum).await.unwrap();
    unsummed(case.tree.look(&request(ZIP)).await);
}

#[tokio::test]
async fn a_zip_that_is_not_the_one_the_go_command_recorded_is_not_taken_over() {
    let case = case();
    let path = case.dir.path().join(&ZIP[1..]);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"a zip").unwrap();
    let recorded = H1::of_mod(b"another").to_string();
    fs::write(path.with_extension("ziphash"), recorded).unwrap();
    let body = unsummed(case.tree.look(&request(ZIP)).await);
    let adopted = case.adopt(ZIP, body, Some(H1::of_mod(b""))).await;
    assert!(adopted.is_none() && !path.exists());
}

#[tokio::test]
async fn what_was_set_aside_is_absent() {
    let case = case();
    let path = case.dir.path().join(&ZIP[1..]);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, b"no zip").unwrap();
    let refusal = Refusal::new(Reason::ZipRules, "m@v.zip", "no zip");
    let body = unsummed(case.tree.look(&request(ZIP)).await);
    case.tree.set_aside(body, &refusal).await;
    assert!(matches!(case.tree.look(&request(ZIP)).await, Look::Absent) && !path.exists());
    // Where nothing can be moved, it stays, and is absent all the same.
    fs::remove_dir_all(case.dir.path().join(".quarantine")).unwrap();
    fs::write(case.dir.path().join(".quarantine"), b"in the way").unwrap();
    fs::write(&path, b"no zip").unwrap();
    let body = unsummed(case.tree.look(&request(ZIP)).await);
    case.tree.set_aside(body, &refusal).await;
    assert!(matches!(case.tree.look(&request(ZIP)).await, Look::Absent) && path.exists());
    fs::write(&path, b"another").unwrap();
    unsummed(case.tree.look(&request(ZIP)).await);
}

#[tokio::test]
async fn an_unfit_file_is_not_taken_over() {
    let case = case();
    let info = "/a.example/!m/@v/v1.0.0.info";
    let path = case.dir.path().join(&info[1..]);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    for unfit in ["", r#"{"Version":"v1.0.1"}"#] {
        fs::write(&path, unfit).unwrap();
        let body = unsummed(case.tree.look(&request(info)).await);
        assert!(case.adopt(info, body, None).await.is_none());
    }
}

#[tokio::test]
async fn parts_of_a_corrupt_body_are_not_sent() {
    let case = case();
    let temp = case.tree.spool_name();
    let mut body = vec![1; 100_000];
    fs::write(&temp, &body).unwrap();
    let h1 = Some(H1::of_mod(b""));
    let sum = Sum {
        h1,
        ..Sum::of(&body)
    };
    case.tree.commit(&request(ZIP), &temp, sum).await.unwrap();
    body[50_000] = 2;
    fs::write(case.dir.path().join(&ZIP[1..]), &body).unwrap();
    let tree = open(case.dir.path());
    let stored = found(tree.look(&request(ZIP)).await);
    let StoredBody::Large(body) = stored.body else {
        panic!("small")
    };
    let right = tree.check_parts(&request(ZIP), &body, sum).await.unwrap();
    assert!(!right && matches!(tree.look(&request(ZIP)).await, Look::Absent));
}

#[test]
fn the_spool_is_emptied_at_start() {
    let case = case();
    let left = case.tree.spool_name();
    fs::write(&left, b"half").unwrap();
    open(case.dir.path());
    assert!(!left.exists());
}
