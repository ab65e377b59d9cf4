//! What is said to have changed lately, by mount and path.
//!
//! What was learned of a path before its mark is doubted: an answer is asked for again before it is
//! used, a remembered "not found" is forgotten. A mark counts for all paths below it. It lasts as long as
//! anything that was learned before could be used without asking; there are never more than so many,
//! and the oldest go first.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How many are remembered, about 150 bytes each.
const MOST: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Marks {
    lifetime: Duration,
    /// The oldest first.
    marks: Mutex<VecDeque<(String, Instant)>>,
}

impl Marks {
    pub(crate) fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            marks: Mutex::default(),
        }
    }

    /// Everything below a path changed. A path ends with a slash.
    pub(crate) fn put(&self, below: &str, now: Instant) {
        let mut marks = self.marks.lock();
        let is_over = |at: Instant| now.saturating_duration_since(at) > self.lifetime;
        while marks.len() >= MOST || marks.front().is_some_and(|(_, at)| is_over(*at)) {
            marks.pop_front();
        }
        marks.push_back((below.to_owned(), now));
    }

    /// When a path last changed, if that was not before a moment.
    pub(crate) fn since(&self, path: &str, moment: Instant) -> Option<Instant> {
        let marks = self.marks.lock();
        let mut newest_first = marks.iter().rev().take_while(|(_, at)| *at >= moment);
        let mark = newest_first.find(|(below, _)| path.starts_with(below.as_str()));
        mark.map(|(_, at)| *at)
    }

    /// When a path last changed, if that was within a time before now.
    pub(crate) fn within(&self, path: &str, time: Duration) -> Option<Instant> {
        let marks = self.marks.lock();
        let mut newest_first = marks
            .iter()
            .rev()
            .take_while(|(_, at)| at.elapsed() <= time);
        let mark = newest_first.find(|(below, _)| path.starts_with(below.as_str()));
        mark.map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_below_changed_and_what_came_later_did_not() {
        let marks = Marks::new(Duration::from_secs(60));
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        marks.put("/a.example/m/", at(10));
        for path in ["/a.example/m/@v/list", "/a.example/m/sub/@latest"] {
            assert_eq!(marks.since(path, at(9)), Some(at(10)));
            assert_eq!(marks.since(path, at(10)), Some(at(10)));
            assert_eq!(marks.since(path, at(11)), None, "{path}");
        }
        assert_eq!(marks.since("/a.example/mm/@v/list", at(9)), None);
        assert_eq!(marks.since("/team/a.example/m/@v/list", at(9)), None);
    }

    #[test]
    fn age_counts_where_there_is_no_moment() {
        let marks = Marks::new(Duration::from_secs(60));
        let hour = Duration::from_secs(3600);
        marks.put("/a/", Instant::now());
        assert!(marks.within("/a/b", hour).is_some() && marks.within("/b/a/", hour).is_none());
    }

    #[test]
    fn marks_are_bounded_in_number_and_time() {
        let marks = Marks::new(Duration::from_secs(60));
        let start = Instant::now();
        for n in 0..MOST + 5 {
            marks.put(&format!("/{n}/"), start);
        }
        assert_eq!(marks.marks.lock().len(), MOST);
        marks.put("/x/", start + Duration::from_secs(61));
        assert_eq!(marks.marks.lock().len(), 1);
    }
}
