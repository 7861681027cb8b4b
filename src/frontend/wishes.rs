//! What a super-admin's client asks for in its startup packet, beside settings of Postgres.

use crate::protocol::ClientError;
use crate::types::is_one_line;

/// Longest reason, in bytes.
const LONGEST_REASON: usize = 1000;

/// What a super-admin's session is to be like. Asking is no proof of anything.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Wishes {
    /// Why it is needed: `cloison.reason`.
    pub reason: Option<String>,
    /// Whether it may change rows: `cloison.write`.
    pub writes: bool,
    /// The tenant to act for, by id or slug: `cloison.tenant`.
    pub tenant: Option<String>,
}

impl Wishes {
    /// Takes what is a wish out of the settings.
    pub(super) fn take(settings: &mut Vec<(String, String)>) -> Result<Self, ClientError> {
        let mut wishes = Self::default();
        let mut problem = None;
        settings.retain(|(name, value)| {
            match name.to_ascii_lowercase().as_str() {
                "cloison.reason" => match value {
                    text if text.len() > LONGEST_REASON || !is_one_line(text) => {
                        problem = Some("cloison.reason is not a line of at most 1000 bytes");
                    }
                    text if text.trim().is_empty() => wishes.reason = None,
                    text => wishes.reason = Some(text.clone()),
                },
                "cloison.write" => match value.to_ascii_lowercase().as_str() {
                    "on" | "true" => wishes.writes = true,
                    "off" | "false" => wishes.writes = false,
                    _ => problem = Some("cloison.write is neither on nor off"),
                },
                "cloison.tenant" => wishes.tenant = Some(value.clone()),
                _ => return true,
            }
            false
        });
        match problem {
            None => Ok(wishes),
            Some(problem) => Err(ClientError::fatal("22023", "C002", problem)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_taken_out_and_nothing_else() {
        let take = |pairs: &[(&str, &str)]| {
            let mut settings: Vec<_> =
                pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
            let wishes = Wishes::take(&mut settings);
            (wishes, settings.len())
        };
        assert_eq!(
            take(&[("timezone", "UTC"), ("cloison.context", "x")]),
            (Ok(Wishes::default()), 2)
        );
        let all = [("Cloison.Reason", "why"), ("cloison.write", "ON"), ("cloison.tenant", "acme")];
        let wishes =
            Wishes { reason: Some("why".into()), writes: true, tenant: Some("acme".into()) };
        assert_eq!(take(&all), (Ok(wishes), 0));
        for bad in [
            ("cloison.write", "perhaps"),
            ("cloison.reason", "a\nb"),
            ("cloison.reason", "a\u{202e}b"),
        ] {
            assert_eq!(take(&[bad]).0.unwrap_err().sqlstate, "22023", "{bad:?}");
        }
        assert_eq!(take(&[("cloison.reason", &"x".repeat(1001))]).0.unwrap_err().code, "C002");
        assert_eq!(take(&[("cloison.reason", " ")]).0, Ok(Wishes::default()));
    }
}
