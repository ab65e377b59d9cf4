//! What every run of git here has in common: where its configuration is, and how its end is told.
//!
//! The folder of the mirrors holds `.home`: an empty HOME, and two configuration files. Only the one
//! for private modules names credentials: what anybody may ask for is fetched as anybody.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use modcdn_core::durable;
use modcdn_core::refusal::Reason;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::credentials::password_files;
use super::diagnose;
use super::fault::Fault;
use super::gitconfig;
use super::program::{Cut, Ended, Output, Program, Run};
use super::remote::RemoteUrl;
use crate::archive;
use crate::config::{Config, Git};
use crate::metrics::Metrics;
use crate::secret::SecretFile;
use crate::upstream::SetupError;

/// Certificates of the system's authorities, where Linux distributions keep them.
const SYSTEM_BUNDLES: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The command for `ssh://` where there is nobody to talk to.
pub(super) const NO_SSH: &str = "false";

/// More than a credential helper has to say, in bytes.
pub(super) const SMALL: u64 = 64 << 10;

/// The first git that reads `GIT_CONFIG_GLOBAL`.
const LEAST: (u32, u32) = (2, 32);

/// See the module.
pub(crate) struct Workshop {
    pub(crate) config: Git,
    /// What a zip may be.
    pub(crate) archives: archive::Limits,
    /// Where mirrors are.
    pub(crate) dir: PathBuf,
    /// Zips being made at once.
    zips: Semaphore,
    /// Whether some mirror grew.
    grown: AtomicBool,
    program: Program,
    /// Those that the credentials name, by their paths.
    pub(super) passwords: HashMap<PathBuf, Arc<SecretFile>>,
    pub(super) home: PathBuf,
    metrics: Metrics,
}

/// Who a repository is talked to as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum As {
    /// Anybody: without credentials.
    Anybody,
    /// The origin itself: with credentials, for private modules.
    Itself,
}

/// A conversation with a repository's server.
pub(crate) struct Talk<'a> {
    pub(crate) remote: &'a RemoteUrl,
    pub(crate) who: As,
    pub(crate) repository: Option<PathBuf>,
    pub(crate) limit: Duration,
    /// What it may print, in bytes.
    pub(crate) printed: u64,
}

impl Workshop {
    /// Makes the folders and writes the configuration. Slow: for the blocking pool.
    ///
    /// # Errors
    /// If the folder can't be written to, or a file named by the configuration can't be read.
    pub(crate) fn open(config: &Config, metrics: Metrics) -> Result<Arc<Self>, SetupError> {
        let git = &config.git;
        check_version(&git.program)?;
        let dir = git.dir.clone();
        let dir = dir.unwrap_or_else(|| config.store.dir.join(".git-mirrors"));
        let unusable = |error: io::Error| SetupError::file(&dir, &error);
        let dir = std::path::absolute(&dir).map_err(unusable)?;
        let home = dir.join(".home");
        fs::create_dir_all(&home).map_err(unusable)?;
        // The URL of a proxy may hold a password.
        let ours_only = Permissions::from_mode(0o700);
        fs::set_permissions(&home, ours_only).map_err(unusable)?;
        let bundle = bundle(&home, &config.upstreams.ca)?;
        for (who, credentials) in [(As::Anybody, &[][..]), (As::Itself, &git.credentials)] {
            let text = gitconfig::text(git, &config.upstreams, credentials, bundle.as_deref());
            durable::write(&config_file(&home, who), text.as_bytes()).map_err(unusable)?;
        }
        Ok(Arc::new(Self {
            program: Program::new(config, home.clone()),
            config: git.clone(),
            zips: Semaphore::new(git.limits.zips),
            // What an earlier process left may be too much.
            grown: AtomicBool::new(true),
            archives: config.archive.limits(config.limits.max_zip),
            passwords: password_files(&git.credentials),
            dir,
            home,
            metrics,
        }))
    }

    /// Talks to a repository's server.
    ///
    /// # Errors
    /// What went wrong, as far as can be told.
    pub(crate) async fn talk(&self, talk: Talk<'_>, arguments: &[&str]) -> Result<Bytes, Fault> {
        let Talk { remote, who, .. } = talk;
        self.allows(remote)?;
        let credential = self.credential(remote, who).await?;
        let identity = credential.and_then(|credential| credential.identity.as_deref());
        let most = self.config.limits.mirror.as_u64();
        let growth = talk.repository.clone().map(|dir| (dir, most));
        let run = Run {
            arguments: arguments.iter().map(OsString::from).collect(),
            repository: talk.repository,
            config: config_file(&self.home, who),
            ssh: gitconfig::ssh(&self.config, identity),
            input: Bytes::new(),
            output: Output::Memory(talk.printed),
            limit: talk.limit,
            file_limit: most,
            growth,
        };
        let command = arguments.first().copied().unwrap_or_default();
        match self.counted(command, run).await {
            Ok(ended) if ended.success => Ok(ended.output),
            Ok(ended) => {
                // Where mirrors are is nobody's business.
                let dir = self.dir.display().to_string();
                let complaint = ended.complaint.replace(&dir, "...");
                Err(diagnose::remote(&remote.told(), &complaint))
            }
            Err(cut) => Err(cut_off(&cut, &remote.told())),
        }
    }

    /// Works on a mirror; nobody else is asked.
    ///
    /// # Errors
    /// If git could not be run to its end.
    pub(crate) async fn local(
        &self,
        repository: &Path,
        arguments: Vec<OsString>,
        input: Bytes,
        output: Output,
    ) -> Result<Ended, Fault> {
        let limit = self.config.timeouts.local.get();
        let file_limit = self.config.limits.tree.as_u64();
        let mut run = self.local_run(repository, arguments, limit, file_limit);
        (run.input, run.output) = (input, output);
        self.run_locally(run).await
    }

    /// Changes how a mirror lies on disk.
    ///
    /// # Errors
    /// If git could not be run to a good end.
    pub(crate) async fn maintain(
        &self,
        repository: &Path,
        arguments: Vec<OsString>,
        limit: Duration,
    ) -> Result<(), Fault> {
        let file_limit = self.config.limits.mirror.as_u64();
        let run = self.local_run(repository, arguments, limit, file_limit);
        let ended = self.run_locally(run).await?;
        if ended.success {
            return Ok(());
        }
        Err(Fault::Damaged(diagnose::told(&ended.complaint)))
    }

    fn local_run(
        &self,
        repository: &Path,
        arguments: Vec<OsString>,
        limit: Duration,
        file_limit: u64,
    ) -> Run {
        Run {
            arguments,
            repository: Some(repository.to_owned()),
            config: config_file(&self.home, As::Anybody),
            ssh: NO_SSH.to_owned(),
            input: Bytes::new(),
            output: Output::Memory(SMALL),
            limit,
            file_limit,
            growth: None,
        }
    }

    async fn run_locally(&self, run: Run) -> Result<Ended, Fault> {
        let command = run.arguments.first().and_then(|first| first.to_str());
        let command = command.unwrap_or_default().to_owned();
        let ran = self.counted(&command, run).await;
        ran.map_err(|cut| cut_off(&cut, "the mirror of the repository"))
    }

    pub(super) async fn counted(&self, command: &str, run: Run) -> Result<Ended, Cut> {
        let started = Instant::now();
        let ran = self.program.run(run).await;
        let outcome = match &ran {
            Ok(ended) if ended.success => "ok",
            Ok(_) => "failed",
            Err(_) => "cut",
        };
        let runs = &self.metrics.git_runs;
        runs.with_label_values(&[command, outcome]).inc();
        let seconds = self.metrics.git_seconds.with_label_values(&[command]);
        seconds.observe(started.elapsed().as_secs_f64());
        ran
    }

    /// A place among those who make zips.
    pub(crate) async fn zip_place(&self) -> Result<SemaphorePermit<'_>, Fault> {
        let place = timeout(self.config.timeouts.queue.get(), self.zips.acquire());
        match place.await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(Fault::failed(
                Reason::Overloaded,
                "as many zips are being made as may be, and none was done in time",
            )
            .hint("try again in a moment; git.limits.zips says how many there may be")),
        }
    }

    /// All mirrors together have so many bytes.
    pub(crate) fn holds(&self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.metrics.git_mirror_bytes.set(bytes);
    }

    /// A mirror grew.
    pub(crate) fn grew(&self) {
        self.grown.store(true, Ordering::Relaxed);
    }

    /// Whether any did since this was last asked.
    pub(crate) fn take_grown(&self) -> bool {
        self.grown.swap(false, Ordering::Relaxed)
    }

    /// A mirror was thrown away.
    pub(crate) fn dropped(&self, cause: &str) {
        let dropped = &self.metrics.git_mirrors_dropped;
        dropped.with_label_values(&[cause]).inc();
    }

    fn allows(&self, remote: &RemoteUrl) -> Result<(), Fault> {
        let protocol = remote.protocol();
        if self.config.protocols.contains(&protocol) {
            return Ok(());
        }
        Err(Fault::failed(
            Reason::GitFailed,
            format!("the repository is at {remote}, and {protocol} may not be used"),
        )
        .hint("git.protocols of the origin names the protocols that may be used"))
    }
}

/// An older git would read the machine's configuration, whatever we say. One that is missing is told
/// to those who ask, because most don't need it.
fn check_version(program: &Path) -> Result<(), SetupError> {
    let ran = match Command::new(program)
        .arg("version")
        .env("LC_ALL", "C")
        .output()
    {
        Ok(ran) => ran,
        Err(error) => {
            tracing::warn!(program = %program.display(), %error, "git can't be run");
            return Ok(());
        }
    };
    let text = String::from_utf8_lossy(&ran.stdout);
    if version(&text).is_some_and(|version| version >= LEAST) {
        return Ok(());
    }
    let what = format!(
        "git {}.{} or newer is needed, this is {:?}",
        LEAST.0,
        LEAST.1,
        text.trim()
    );
    Err(SetupError::file(program, &io::Error::other(what)))
}

/// `git version 2.39.5 (some vendor)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("git version ")?.split('.');
    Some((
        numbers.next()?.parse().ok()?,
        numbers.next()?.trim().parse().ok()?,
    ))
}

pub(super) fn config_file(home: &Path, who: As) -> PathBuf {
    home.join(match who {
        As::Anybody => "gitconfig",
        As::Itself => "gitconfig-private",
    })
}

/// The system's authorities and the extra ones, in one file: git takes one only.
fn bundle(home: &Path, extra: &[PathBuf]) -> Result<Option<PathBuf>, SetupError> {
    if extra.is_empty() {
        return Ok(None);
    }
    let named = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let known = SYSTEM_BUNDLES.iter().map(PathBuf::from);
    let system = named.into_iter().chain(known).find(|file| file.exists());
    let mut all = Vec::new();
    for file in system.iter().chain(extra) {
        let read = fs::read(file).map_err(|error| SetupError::file(file, &error));
        all.extend(read?);
        all.push(b'\n');
    }
    let file = home.join("authorities.pem");
    durable::write(&file, &all).map_err(|error| SetupError::file(&file, &error))?;
    Ok(Some(file))
}

/// What a run that was cut off means to those who asked.
pub(super) fn cut_off(cut: &Cut, what: &str) -> Fault {
    let failed = format!("reading {what}: {cut}");
    match cut {
        Cut::TooLong(_) => Fault::failed(Reason::UpstreamTimeout, failed)
            .hint("try again; git.timeouts of the origin says how long it may take"),
        Cut::TooLarge { .. } => Fault::failed(Reason::UpstreamTooLarge, failed)
            .hint("git.limits of the origin says how large it may be"),
        Cut::Crowded => Fault::failed(Reason::Overloaded, failed)
            .hint("try again in a moment; git.limits.programs says how many there may be"),
        Cut::Missing(_) => Fault::failed(Reason::GitFailed, failed)
            .hint("install git where the origin runs, or name it in git.program"),
        Cut::Killed(_) | Cut::Broken(_) => Fault::failed(Reason::GitFailed, failed)
            .hint("try again; git.limits.memory says how much memory it may take"),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use prometheus::Registry;

    use super::*;

    pub(crate) fn workshop(dir: &Path, git: &str) -> Arc<Workshop> {
        let store = dir.join("store");
        let text = format!("{{store: {{dir: '{}'}}, git: {git}}}", store.display());
        let config: Config = modcdn_core::config::parse("origin.yaml", &text).unwrap();
        Workshop::open(&config, Metrics::new(&Registry::new())).unwrap()
    }

    #[test]
    fn versions_are_told_apart() {
        for (text, found) in [
            ("git version 2.39.5\n", Some((2, 39))),
            ("git version 2.50.1 (Apple Git-155)\n", Some((2, 50))),
            ("git version 2.32\n", Some((2, 32))),
            ("git version 3.0.0-rc1\n", Some((3, 0))),
            ("git version two\n", None),
            ("", None),
        ] {
            assert_eq!(version(text), found, "{text}");
        }
    }

    #[test]
    fn nobody_else_reads_what_may_hold_a_secret() {
        let dir = tempfile::tempdir().unwrap();
        let workshop = workshop(dir.path(), "{}");
        let mode = fs::metadata(&workshop.home).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }
}
