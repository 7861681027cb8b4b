//! How the options of `cloison token` are read.

use std::time::Duration;

use crate::config::Algorithm;
use crate::types::Access;

pub(super) fn access(text: &str) -> Result<Access, String> {
    let found = Access::ALL.into_iter().find(|access| access.as_str() == text);
    found.ok_or_else(|| "expected tenant, superadmin or owner".to_owned())
}

pub(super) fn algorithm(text: &str) -> Result<Algorithm, String> {
    let can_sign = [Algorithm::Rs256, Algorithm::Ps256, Algorithm::Es256, Algorithm::EdDsa];
    let found = can_sign.into_iter().find(|algorithm| algorithm.as_str() == text);
    found.ok_or_else(|| "expected RS256, PS256, ES256 or EdDSA".to_owned())
}

pub(super) fn ttl(text: &str) -> Result<Duration, String> {
    let seconds = || {
        let unit = text.chars().next_back()?;
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 60 * 60,
            'd' => 24 * 60 * 60,
            _ => return None,
        };
        number.checked_mul(seconds).filter(|seconds| (1..=MAX_TTL).contains(seconds))
    };
    seconds()
        .map(Duration::from_secs)
        .ok_or_else(|| "expected a number and a unit, such as 90s, 15m, 1h or 7d".to_owned())
}

/// Ten years, in seconds: a development token is no reason for more.
const MAX_TTL: u64 = 10 * 365 * 24 * 60 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ttl_is_a_number_and_a_unit() {
        for (text, seconds) in [("90s", 90), ("15m", 900), ("1h", 3_600), ("7d", 604_800)] {
            assert_eq!(ttl(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        let huge = format!("{}d", u64::MAX);
        for text in ["", "s", "1", "0s", "-1s", "1.5h", "1w", "1é", " 1h", &huge, "3651d"] {
            assert!(ttl(text).is_err(), "{text}");
        }
    }
}
