//! How long a certificate is good: the one field of X.509 that rustls does not tell.

use std::time::{Duration, SystemTime};

/// ASN.1's tags of what is on the way.
const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The end of a certificate's validity (RFC 5280, section 4.1), if the DER can be read so far.
pub(super) fn end(der: &[u8]) -> Option<SystemTime> {
    let (certificate, _) = of(SEQUENCE, der)?;
    let (fields, _) = of(SEQUENCE, certificate)?;
    // Version 1 leaves the version out.
    let fields = of(VERSION, fields).map_or(fields, |(_, rest)| rest);
    let (_, fields) = of(INTEGER, fields)?;
    let (_algorithm, fields) = of(SEQUENCE, fields)?;
    let (_issuer, fields) = of(SEQUENCE, fields)?;
    let (validity, _) = of(SEQUENCE, fields)?;
    let (_, _not_before, rest) = next(validity)?;
    let (tag, not_after, _) = next(rest)?;
    time(tag, not_after)
}

/// The content of a value with this tag, and what follows it.
fn of(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (found, content, rest) = next(der)?;
    (found == tag).then_some((content, rest))
}

/// Tag, content and rest.
fn next(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // The length's own length: no certificate needs more than three bytes.
        let digits = usize::from(first & 0x7f);
        let (digits, rest) = rest.split_at_checked(digits).filter(|_| (1..=3).contains(&digits))?;
        (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`.
fn time(tag: u8, text: &[u8]) -> Option<SystemTime> {
    let digits = std::str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at(2);
            let year: u64 = year.parse().ok()?;
            (year + if year < 50 { 2000 } else { 1900 }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at(4);
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let two = |at: usize| rest.get(at..at + 2)?.parse::<u64>().ok();
    let days = days_since_1970(year, two(0)?, two(2)?)?;
    let seconds = days * 86_400 + two(4)? * 3_600 + two(6)? * 60 + two(8)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Days of the Gregorian calendar.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let is_date = (1970..=9999).contains(&year) && (1..=12).contains(&month) && day >= 1;
    if !is_date {
        return None;
    }
    // A year begins with March here, so that its leap day is its last.
    let (year, month) = if month < 3 { (year - 1, month + 9) } else { (year, month - 3) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // The first of March of the year 0 to 1970.
    days.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_counted_right() {
        for ((year, month, day), days) in [
            ((1970, 1, 1), Some(0)),
            ((1972, 3, 1), Some(790)),
            ((2000, 2, 29), Some(11_016)),
            ((2026, 11, 28), Some(20_785)),
            ((2100, 3, 1), Some(47_541)),
            ((1969, 12, 31), None),
            ((2000, 13, 1), None),
        ] {
            assert_eq!(days_since_1970(year, month, day), days, "{year}-{month}-{day}");
        }
    }

    #[test]
    fn the_end_is_what_was_signed() {
        let key = rcgen::KeyPair::generate().unwrap();
        for year in [2049, 2051] {
            let mut params = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 3, 4);
            let certificate = params.self_signed(&key).unwrap();
            let days = days_since_1970(u64::try_from(year).unwrap(), 3, 4).unwrap();
            let expected = SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400);
            assert_eq!(end(certificate.der()), Some(expected), "{year}");
            // Any part of it is none, and no reason to panic.
            for length in 0..certificate.der().len() {
                let _ = end(&certificate.der()[..length]);
            }
            assert_eq!(end(&certificate.der()[..60]), None);
        }
    }
}
