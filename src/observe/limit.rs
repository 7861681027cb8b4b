//! Bounds how often something that clients can cause at will is told.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets a few lines a second through and counts the others.
#[derive(Debug)]
pub(super) struct Limit {
    per_second: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Limit {
    /// So many lines pass in a window of one second.
    pub(super) const fn new(per_second: u32) -> Self {
        let window = Window { began: None, told: 0, untold: 0 };
        Self { per_second, window: Mutex::new(window) }
    }

    /// Whether a line passes now; then, how many did not pass since the last time that one did.
    pub(super) fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = window
            .began
            .is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1));
        if is_over {
            (window.began, window.told) = (Some(now), 0);
        }
        if window.told < self.per_second {
            window.told += 1;
            Some(std::mem::take(&mut window.untold))
        } else {
            window.untold += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_with_the_next_line() {
        let (limit, start) = (Limit::new(10), Instant::now());
        for _ in 0..10 {
            assert_eq!(limit.admit(start), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(limit.admit(start + Duration::from_millis(999)), None);
        }
        assert_eq!(limit.admit(start + Duration::from_secs(1)), Some(1000));
        assert_eq!(limit.admit(start + Duration::from_secs(1)), Some(0));
    }
}
