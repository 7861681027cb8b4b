//! `ON CONFLICT (columns)` finds a key by its columns, and no longer finds one that is wider.

use super::Draft;
use super::keys::Fate;

impl Draft<'_> {
    /// Notes every text that names the columns of a key that changes. It reads text, so that it
    /// warns, and nothing rests on it.
    pub(super) fn conflicts(&mut self) {
        let widened: Vec<_> = self
            .catalogue
            .keys
            .iter()
            .filter(|key| self.fates.get(&key.oid) == Some(&Fate::Widen))
            .collect();
        if let (Some(why), false) = (self.catalogue.unread, widened.is_empty()) {
            let text = format!(
                "does not tell what the application says: {why}. Look for ON CONFLICT in its code"
            );
            self.note_for_application("pg_stat_statements", text);
        }
        for key in &widened {
            self.note_for_application(
                &key.index,
                "holds within a tenant from the stage contract on: ON CONFLICT and foreign keys of \
                 new migrations name the tenant column, too",
            );
        }
        let mut found = Vec::new();
        for mention in &self.catalogue.mentions {
            for target in targets(&mention.text) {
                for key in &widened {
                    let mut columns: Vec<String> = key.columns.iter().map(|c| plain(c)).collect();
                    columns.sort();
                    let table = self.catalogue.table(key.table);
                    let names_table = table.is_some_and(|t| {
                        mention.text.to_lowercase().contains(&t.bare.to_lowercase())
                    });
                    if columns == target && names_table {
                        let text = format!(
                            "{} has ON CONFLICT ({}), which this key is wider than from the stage \
                             contract on: add the tenant column there, or keep the key",
                            mention.place,
                            target.join(", ")
                        );
                        found.push((key.index.clone(), text));
                    }
                }
            }
        }
        for (index, text) in found {
            if !self.notes.iter().any(|note| note.about == index && note.text == text) {
                self.note_for_application(&index, text);
            }
        }
    }
}

/// The columns of each `ON CONFLICT (…)`, sorted.
fn targets(text: &str) -> Vec<Vec<String>> {
    let lower = text.to_lowercase();
    let words = lower.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut found = Vec::new();
    for (at, mark) in words.match_indices("on conflict") {
        let Some(list) = words[at + mark.len()..].trim_start().strip_prefix('(') else { continue };
        let mut depth = 0;
        let end = list.find(|c| {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            depth < 0
        });
        let Some(list) = end.map(|end| &list[..end]) else { continue };
        let mut columns: Vec<String> = list.split(',').map(plain).collect();
        columns.sort();
        found.push(columns);
    }
    found
}

/// A column or expression without what may be written in several ways.
fn plain(column: &str) -> String {
    let mut text = column.to_lowercase().replace(['"', ' '], "").replace("::text", "");
    // As parentheses around an expression.
    while let Some(inner) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')) {
        text = inner.to_owned();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_found_however_they_are_written() {
        let text = "insert into T values (1)\n  ON  CONFLICT (\"B\", a) do nothing; \
                    insert into t on conflict(lower(email)) where x do update set y = 1; \
                    insert into t on conflict on constraint k do nothing";
        assert_eq!(targets(text), [vec!["a", "b"], vec!["lower(email)"]]);
        assert_eq!(plain("lower((email)::text)"), "lower((email))");
        assert!(targets("nothing on conflict").is_empty());
    }
}
