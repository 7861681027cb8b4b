//! Bounds how often something that clients can cause at will is told.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lets a few lines a second through and counts the others.
#[derive(Debug, Default)]
pub(super) struct Limit(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    told: u32,
    untold: u64,
}

impl Limit {
    /// How many lines pass in a window of one second.
    pub(super) const PER_SECOND: u32 = 10;

    /// Whether a line passes now; then, how many did not pass since the last time that one did.
    pub(super) fn admit(&self, now: Instant) -> Option<u64> {
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = window
            .began
            .is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1));
        if is_over {
            (window.began, window.told) = (Some(now), 0);
        }
        if window.told < Self::PER_SECOND {
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
        let (limit, start) = (Limit::default(), Instant::now());
        for _ in 0..Limit::PER_SECOND {
            assert_eq!(limit.admit(start), Some(0));
        }
        for _ in 0..1000 {
            assert_eq!(limit.admit(start + Duration::from_millis(999)), None);
        }
        assert_eq!(limit.admit(start + Duration::from_secs(1)), Some(1000));
        assert_eq!(limit.admit(start + Duration::from_secs(1)), Some(0));
    }
}
