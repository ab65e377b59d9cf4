use std::fs;
use std::process::Command;

use super::*;
use crate::git::workshop::tests::workshop;

/// A repository on this machine, and a shelf for its mirror.
struct Rig {
    dir: tempfile::TempDir,
    shelf: Shelf,
    workshop: Arc<Workshop>,
    remote: RemoteUrl,
}

fn rig(limits: &str) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    fs::create_dir(&source).unwrap();
    let workshop = workshop(dir.path(), &format!("{{protocols: [file], {limits}}}"));
    let rig = Rig {
        shelf: Shelf::open(workshop.clone()).unwrap(),
        workshop,
        remote: format!("file://{}", source.display()).parse().unwrap(),
        dir,
    };
    rig.git(&["init", "-q", "-b", "main"]);
    rig
}

impl Rig {
    /// Runs git in the source; what it prints.
    fn git(&self, arguments: &[&str]) -> String {
        let ran = Command::new("git")
            .args(["-c", "user.name=A", "-c", "user.email=a@b"])
            .args(arguments)
            .current_dir(self.dir.path().join("source"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_COMMITTER_DATE", "1573265971 -0800")
            .output()
            .expect("this test needs git on PATH");
        assert!(
            ran.status.success(),
            "{}",
            String::from_utf8_lossy(&ran.stderr)
        );
        String::from_utf8(ran.stdout).unwrap().trim().to_owned()
    }

    fn commit(&self, text: &str) -> Commit {
        let file = self.dir.path().join("source/file");
        fs::write(file, text).unwrap();
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", text]);
        Commit::new(&self.git(&["rev-parse", "HEAD"])).unwrap()
    }

    async fn mirror(&self) -> Mirror {
        self.shelf.mirror(&self.remote, As::Anybody).await
    }
}

async fn refs(mirror: &Mirror) -> Arc<Refs> {
    mirror.refs(Instant::now()).await.unwrap()
}

fn packs(mirror: &Mirror) -> usize {
    let folder = mirror.dir().join("objects/pack");
    let names = fs::read_dir(folder).unwrap().flatten();
    let packs = names.filter(|e| e.file_name().to_string_lossy().ends_with(".pack"));
    packs.count()
}

#[tokio::test]
async fn a_commit_is_fetched_alone_until_its_history_is_asked_for() {
    let rig = rig("");
    let first = rig.commit("one");
    rig.git(&["tag", "v1.0.0"]);
    let second = rig.commit("two");
    let mirror = rig.mirror().await;
    let known = refs(&mirror).await;
    let time = mirror.time(&known, &second).await.unwrap();
    assert_eq!(time, Stamp::from_unix(1_573_265_971));
    assert!(mirror.dir().join("shallow").exists());
    let files = mirror
        .files(&second, &["file", "none", "file/x"], 100)
        .await
        .unwrap();
    assert_eq!(files, [Some(Bytes::from_static(b"two")), None, None]);

    assert_eq!(
        mirror.tags_before(&known, &second).await.unwrap(),
        ["v1.0.0"]
    );
    assert!(mirror.descends(&known, &second, &first).await.unwrap());
    assert!(!mirror.descends(&known, &first, &second).await.unwrap());
    assert!(!mirror.dir().join("shallow").exists() && mirror.whole_file().exists());
    // From then on history is there at once.
    let third = rig.commit("three");
    let known = refs(&mirror).await;
    mirror.time(&known, &third).await.unwrap();
    assert!(!mirror.dir().join("shallow").exists());
    let begins = &first.as_str()[..10];
    assert_eq!(mirror.find(&known, begins).await.unwrap(), Some(first));
    assert_eq!(mirror.find(&known, "0123456789").await.unwrap(), None);
}

#[tokio::test]
async fn many_packs_become_one_and_nothing_is_lost() {
    let rig = rig("");
    let mut commits = Vec::new();
    let mirror = rig.mirror().await;
    for number in 0..5 {
        let commit = rig.commit(&number.to_string());
        mirror.time(&*refs(&mirror).await, &commit).await.unwrap();
        commits.push(commit);
    }
    assert_eq!(packs(&mirror), 5);
    rig.shelf.tend().await;
    assert_eq!(packs(&mirror), 1);
    for (number, commit) in commits.iter().enumerate() {
        let files = mirror.files(commit, &["file"], 100).await.unwrap();
        assert_eq!(files, [Some(Bytes::from(number.to_string()))]);
    }
}

#[tokio::test]
async fn a_mirror_in_use_makes_no_room() {
    let rig = rig("limits: {mirror: 1KiB, mirrors: 1KiB}");
    rig.commit("one");
    let mirror = rig.mirror().await;
    shelf::make(&mirror, false).await.unwrap();
    fs::write(mirror.dir().join("objects/more"), [0; 2048]).unwrap();
    rig.workshop.grew();
    mirror.slot.is_untidy(false);
    rig.shelf.tend().await;
    assert!(mirror.is_made());
    let dir = mirror.dir().to_owned();
    drop(mirror);
    rig.workshop.grew();
    rig.shelf.tend().await;
    assert!(!dir.exists());
    assert!(!rig.mirror().await.is_made());
}

#[tokio::test]
async fn what_a_dead_process_left_is_in_nobodys_way() {
    let rig = rig("");
    let first = rig.commit("one");
    let mirror = rig.mirror().await;
    mirror.time(&*refs(&mirror).await, &first).await.unwrap();
    let dir = mirror.dir().to_owned();
    drop(mirror);
    let left = [
        "shallow.lock",
        "objects/pack/tmp_pack_x",
        "refs/modcdn/x.lock",
    ];
    for name in left {
        fs::write(dir.join(name), "").unwrap();
    }
    fs::create_dir(rig.workshop.dir.join(".gone-x")).unwrap();
    let shelf = Shelf::open(rig.workshop.clone()).unwrap();
    assert!(!rig.workshop.dir.join(".gone-x").exists());
    let second = rig.commit("two");
    let mirror = shelf.mirror(&rig.remote, As::Anybody).await;
    mirror.time(&*refs(&mirror).await, &second).await.unwrap();
    for name in left {
        assert!(!dir.join(name).exists(), "{name}");
    }
}

#[tokio::test]
async fn who_waited_for_a_failure_shares_it_and_who_comes_later_asks_again() {
    let rig = rig("");
    let gone = rig.dir.path().join("source");
    let aside = rig.dir.path().join("aside");
    rig.commit("one");
    fs::rename(&gone, &aside).unwrap();
    let mirror = rig.mirror().await;
    let now = Instant::now();
    let both = tokio::join!(mirror.refs(now), mirror.refs(now));
    assert!(both.0.is_err() && both.1.is_err());
    fs::rename(&aside, &gone).unwrap();
    assert!(mirror.refs(now).await.is_ok());
}

#[tokio::test]
async fn a_commit_that_moved_away_is_not_taken_for_absent() {
    let rig = rig("");
    rig.commit("one");
    let mirror = rig.mirror().await;
    let known = refs(&mirror).await;
    let old = known.head().unwrap().clone();
    rig.git(&["commit", "-q", "--amend", "--allow-empty", "-m", "other"]);
    let fault = mirror.time(&known, &old).await.unwrap_err();
    assert!(matches!(fault, Fault::Moved(_)), "{fault:?}");
}

#[tokio::test]
async fn private_and_public_mirrors_are_two() {
    let rig = rig("");
    let private = rig.shelf.mirror(&rig.remote, As::Itself).await;
    assert_ne!(private.dir(), rig.mirror().await.dir());
}
