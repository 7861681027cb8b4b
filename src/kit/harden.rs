//! HARDEN: takes from tenants what Postgres gives to everybody, and tells what it could not take.

use std::collections::BTreeMap;
use std::fmt;

use tokio_postgres::Client;

use super::told;

/// Why nothing was hardened. What Postgres refuses of a single right is in the [`Report`].
#[derive(Debug, thiserror::Error)]
#[error("could not harden the database{}", told(.0))]
pub struct Error(#[from] tokio_postgres::Error);

/// How every right stands that hardening is about.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    parts: BTreeMap<String, Part>,
}

/// The rights of one part, such as `large_objects`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Part {
    /// How many no tenant has.
    pub closed: usize,
    /// How many tenants were given back.
    pub allowed: usize,
    /// How many could not be taken, by the reason and by what follows from it.
    pub open: BTreeMap<(String, String), usize>,
    /// What tenants can do with those that they were given back.
    pub consequences: Vec<String>,
}

/// Closes what the connected role may close. `allow` names what tenants get back, by object or by
/// part; that is remembered.
///
/// # Errors
///
/// Fails when a name in `allow` is unknown, and as the connection does.
pub async fn harden(client: &Client, allow: &[String]) -> Result<Report, Error> {
    let sql = "select part, done, allowed, reason, consequence from cloison.harden($1)";
    let mut report = Report::default();
    for row in client.query(sql, &[&allow]).await? {
        let part = report.parts.entry(row.try_get("part")?).or_default();
        let (done, allowed): (bool, bool) = (row.try_get("done")?, row.try_get("allowed")?);
        let consequence: String = row.try_get("consequence")?;
        match (done, allowed) {
            (false, _) => {
                let reason: Option<String> = row.try_get("reason")?;
                *part.open.entry((reason.unwrap_or_default(), consequence)).or_default() += 1;
            }
            (true, true) => {
                part.allowed += 1;
                if !part.consequences.contains(&consequence) {
                    part.consequences.push(consequence);
                }
            }
            (true, false) => part.closed += 1,
        }
    }
    Ok(report)
}

/// What [`harden`] would run, for `psql`.
pub fn print(allow: &[String]) -> String {
    let names: Vec<String> =
        allow.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
    format!(
        "-- Hardening. Each right that stays open has the reason and the consequence.\n\n\
         select part, count(*) filter (where done and not allowed) as closed,\n    \
             count(*) filter (where allowed) as allowed, count(*) filter (where not done) as open,\n    \
             max(reason) as reason, min(case when not done or allowed then consequence end) as consequence\n\
         from cloison.harden(array[{}]::text[])\n\
         group by part\n\
         order by part;\n",
        names.join(", ")
    )
}

impl Report {
    /// The parts by their names.
    pub fn parts(&self) -> &BTreeMap<String, Part> {
        &self.parts
    }

    /// How many rights could not be taken.
    pub fn open(&self) -> usize {
        self.parts.values().flat_map(|part| part.open.values()).sum()
    }
}

/// A table with a line for each part, and one more for each reason why something stays open.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.parts.keys().map(String::len).max().unwrap_or(0);
        writeln!(f, "{:width$}  closed  allowed  open", "hardening")?;
        for (name, part) in &self.parts {
            let (closed, allowed) = (count(part.closed), count(part.allowed));
            let open = count(part.open.values().sum());
            let line = format!("{name:width$}  {closed:>6}  {allowed:>7}  {open:>4}");
            let allowed = part.consequences.iter().map(|text| format!("allowed: {text}"));
            let open = part.open.iter().map(|((reason, text), rights)| {
                let rights =
                    if part.open.len() > 1 { format!("{rights}: ") } else { String::new() };
                format!("{rights}{reason}: {text}")
            });
            let mut remarks = allowed.chain(open).peekable();
            if remarks.peek().is_none() {
                writeln!(f, "{line}")?;
            }
            for (number, remark) in remarks.enumerate() {
                let start = if number == 0 { &line[..] } else { "" };
                writeln!(f, "{start:indent$}  {remark}", indent = line.chars().count())?;
            }
        }
        Ok(())
    }
}

fn count(rights: usize) -> String {
    if rights == 0 { "–".to_owned() } else { rights.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_is_an_aligned_table() {
        let mut report = Report::default();
        report.parts.insert("sizes".into(), Part { closed: 9, ..Part::default() });
        let reason = ("only postgres may, which owns it".into(), "a tenant can count".into());
        let open = BTreeMap::from([(reason, 116)]);
        report.parts.insert("counters".into(), Part { open, ..Part::default() });
        let consequences = vec!["a tenant can make tables".into()];
        let allowed = Part { allowed: 1, consequences, ..Part::default() };
        report.parts.insert("temporary".into(), allowed);
        assert_eq!(report.open(), 116);
        assert_eq!(
            report.to_string(),
            "hardening  closed  allowed  open\n\
             counters        –        –   116  only postgres may, which owns it: a tenant can count\n\
             sizes           9        –     –\n\
             temporary       –        1     –  allowed: a tenant can make tables\n"
        );
    }

    #[test]
    fn names_are_quoted_for_psql() {
        let printed = print(&["temporary".into(), "it's".into()]);
        assert!(printed.contains("array['temporary', 'it''s']::text[]"), "{printed}");
    }
}
