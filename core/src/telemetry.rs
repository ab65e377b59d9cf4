//! Logs, the access log, and small helpers for metrics.
//!
//! Logs are JSON lines on stderr, at the level of `MODCDN_LOG` (a `tracing` filter such as
//! `info` or `modcdn_edge=debug`). The access log is a stream of its own: one JSON object a
//! request, written by a thread of its own behind a bounded queue, so that a slow disk can't slow
//! a request down; what doesn't fit into the queue is dropped and counted.

use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::SystemTime;

use prometheus::core::Collector;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// The environment variable that holds the log filter.
pub const LOG_VARIABLE: &str = "MODCDN_LOG";

/// Lines that may wait for the access log's writer.
pub const ACCESS_QUEUE: usize = 16_384;

/// Starts logging as JSON lines to stderr, at `MODCDN_LOG` or else at `default`.
///
/// Does nothing where logging was started already.
pub fn init(default: &str) {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new(default));
    let _ = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(io::stderr)
        .with_env_filter(filter)
        .try_init();
}

/// Has every panic of the process logged as an error, with its place, and counted. What happens
/// next stays as it is: a task's panic ends the task, the main thread's the process.
pub fn watch_panics(counter: prometheus::IntCounter) {
    std::panic::set_hook(Box::new(move |panic| {
        counter.inc();
        let place = panic.location().map(ToString::to_string);
        let said = panic.payload().downcast_ref::<&str>().copied();
        let formatted = || panic.payload().downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(formatted).unwrap_or("not a text");
        tracing::error!(place, said, "panic");
    }));
}

/// Registers a metric and hands it back.
///
/// # Panics
/// If the name is taken: a mistake in the program, found by its first test.
pub fn register<C: Collector + Clone + 'static>(
    registry: &prometheus::Registry,
    metric: prometheus::Result<C>,
) -> C {
    let metric = metric.expect("metric names and labels are constants that were tested");
    registry
        .register(Box::new(metric.clone()))
        .expect("every metric is registered once");
    metric
}

/// The time now as RFC 3339 with milliseconds, for the access log's `ts`.
#[must_use]
pub fn timestamp() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Where access lines go: `off`, `stdout`, `stderr`, or a file's path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum AccessTarget {
    /// Nowhere.
    Off,
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error, among the logs.
    Stderr,
    /// Appended to a file.
    File(PathBuf),
}

impl From<String> for AccessTarget {
    fn from(text: String) -> Self {
        match text.as_str() {
            "off" => Self::Off,
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            _ => Self::File(text.into()),
        }
    }
}

impl From<AccessTarget> for String {
    fn from(target: AccessTarget) -> Self {
        target.to_string()
    }
}

impl fmt::Display for AccessTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Stdout => f.write_str("stdout"),
            Self::Stderr => f.write_str("stderr"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// A handle to the access log; clones write to the same one.
#[derive(Clone)]
pub struct AccessLog {
    queue: Option<SyncSender<Vec<u8>>>,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Opens the log and starts its writer.
    ///
    /// # Errors
    /// If the file can't be opened for appending.
    pub fn open(target: &AccessTarget) -> io::Result<Self> {
        let sink: Box<dyn Write + Send> = match target {
            AccessTarget::Off => return Ok(Self::off()),
            AccessTarget::Stdout => Box::new(io::stdout()),
            AccessTarget::Stderr => Box::new(io::stderr()),
            AccessTarget::File(path) => {
                Box::new(OpenOptions::new().create(true).append(true).open(path)?)
            }
        };
        let (queue, lines) = sync_channel(ACCESS_QUEUE);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_lines(&lines, BufWriter::new(sink)))?;
        Ok(Self {
            queue: Some(queue),
            dropped: Arc::default(),
        })
    }

    /// A log that keeps nothing.
    #[must_use]
    pub fn off() -> Self {
        Self {
            queue: None,
            dropped: Arc::default(),
        }
    }

    /// Whether lines are kept at all: a caller may skip making one.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    /// Queues one line. Never waits: a full queue drops it.
    pub fn write(&self, line: &impl Serialize) {
        let Some(queue) = &self.queue else { return };
        let Ok(mut bytes) = serde_json::to_vec(line) else {
            return;
        };
        bytes.push(b'\n');
        if queue.try_send(bytes).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines dropped so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// Writes what is queued, flushing whenever the queue is empty. Write errors lose lines, not
/// requests.
fn write_lines(lines: &Receiver<Vec<u8>>, mut sink: impl Write) {
    while let Ok(line) = lines.recv() {
        let _ = sink.write_all(&line);
        while let Ok(line) = lines.try_recv() {
            let _ = sink.write_all(&line);
        }
        let _ = sink.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_back_from_their_text() {
        for text in ["off", "stdout", "stderr", "/var/log/modcdn/access.log"] {
            assert_eq!(AccessTarget::from(text.to_owned()).to_string(), text);
        }
    }

    #[test]
    fn lines_arrive_whole_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("access.log");
        let log = AccessLog::open(&AccessTarget::File(path.clone())).unwrap();
        for n in 0..100 {
            log.write(&serde_json::json!({ "n": n }));
        }
        let mut text = String::new();
        while text.lines().count() < 100 {
            std::thread::yield_now();
            text = std::fs::read_to_string(&path).unwrap();
        }
        assert!(text.starts_with("{\"n\":0}\n{\"n\":1}\n") && text.ends_with("{\"n\":99}\n"));
        assert_eq!(log.dropped(), 0);
    }
}
