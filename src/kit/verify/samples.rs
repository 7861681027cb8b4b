//! Values that a column may take, by its type and by what its checks name (pure).

/// What is known of a column.
#[derive(Debug, Default)]
pub(super) struct Kind {
    /// The name of its type; of a domain that of the type below.
    pub(super) name: String,
    /// The category of that, as in `pg_type.typcategory`.
    pub(super) category: String,
    /// The modifier of that, as in `pg_attribute.atttypmod`.
    pub(super) modifier: i32,
    /// The labels of an enum.
    pub(super) labels: Vec<String>,
    /// How many fields a composite type has.
    pub(super) fields: usize,
    /// The definitions of checks and of partitions' bounds.
    pub(super) definitions: Vec<String>,
}

/// Values as text, the likeliest first. Those at the end are made anew by each call, for unique keys.
pub(super) fn values(kind: &Kind) -> Vec<String> {
    let (mut texts, mut numbers) = (Vec::new(), Vec::new());
    for definition in &kind.definitions {
        literals(definition, &mut texts, &mut numbers);
    }
    let mut values = texts;
    match kind.category.as_str() {
        "N" => {
            for number in &numbers {
                values.extend([0, 1, -1].map(|more| number.saturating_add(more).to_string()));
            }
        }
        "S" => {
            let lengths = numbers.iter().filter_map(|number| usize::try_from(*number).ok());
            values.extend(lengths.filter(|length| *length <= LONGEST).map(|n| "x".repeat(n)));
        }
        _ => {}
    }
    values.extend(of_type(kind));
    if kind.category == "S"
        && let Some(length) = usize::try_from(kind.modifier - VARLENA_HEADER).ok()
    {
        for value in &mut values {
            *value = value.chars().take(length).collect();
        }
    }
    let mut seen = std::collections::HashSet::new();
    values.retain(|value| seen.insert(value.clone()));
    values
}

fn of_type(kind: &Kind) -> Vec<String> {
    let random = uuid::Uuid::new_v4();
    let (number, digits) = (random.as_u128(), random.simple().to_string());
    let name = kind.name.as_str();
    let fixed: &[&str] = match (kind.category.as_str(), name) {
        ("N", _) => &["1", "0", "2", "10", "100", "-1"],
        ("B", _) => &["false", "true"],
        ("D", "time" | "timetz") => &["12:00", "00:00"],
        ("D", _) => &["2020-01-01", "now", "2100-01-01"],
        ("T", _) => &["1 day", "0"],
        ("S" | "Z", _) => &["x", "a@example.com", "X", "AAA", "en", "+41000000000", "12345"],
        ("A", _) => &["{}", "{1}", "{x}"],
        ("R", _) => &["empty", "{}", "[1,2)", "[2020-01-01,2020-01-02)"],
        ("I", _) => &["127.0.0.1", "10.0.0.0/8"],
        ("G", "line") => &["{1,0,0}"],
        ("G", "circle") => &["<(0,0),1>"],
        ("G", "point") => &["(0,0)"],
        ("G", _) => &["(0,0),(1,1)"],
        ("U", "uuid") => &["00000000-0000-4000-8000-000000000000"],
        ("U", "json" | "jsonb") => &["{}", "[]", "null"],
        ("U", "xml") => &["<x/>"],
        ("U", "macaddr") => &["08:00:2b:01:02:03"],
        ("U", "macaddr8") => &["08:00:2b:01:02:03:04:05"],
        ("U", "pg_lsn") => &["0/0"],
        ("U", "jsonpath") => &["$"],
        ("U", "geometry" | "geography") => &["POINT(0 0)", "SRID=4326;POINT(0 0)"],
        ("V" | "E" | "C", _) => &[],
        _ => &["x", "", "1"],
    };
    let mut values: Vec<String> = fixed.iter().map(|value| (*value).to_owned()).collect();
    let length = usize::try_from(kind.modifier).unwrap_or(1).min(LONGEST);
    match (kind.category.as_str(), name) {
        ("N", "int2") => values.push((number % 30_000).to_string()),
        ("N", _) => values.push((number % 2_000_000_000).to_string()),
        ("D", "time" | "timetz") => values.push(format!("{:02}:{:02}", number % 24, number % 60)),
        ("D", _) => {
            values.push(format!("{}-0{}-1{}", number % 400 + 1600, number % 9 + 1, number % 7))
        }
        ("S", _) => values.push(digits),
        ("U", "uuid") => values.push(random.to_string()),
        ("U", "bytea") => values.insert(0, String::new()),
        ("U", "vector" | "halfvec") => {
            values.insert(0, format!("[{}]", vec!["1"; length].join(",")))
        }
        ("V", _) => values.extend(["0", "1"].map(|bit| bit.repeat(length))),
        ("E", _) => values.extend(kind.labels.iter().cloned()),
        ("C", _) => values.push(format!("({})", ",".repeat(kind.fields.saturating_sub(1)))),
        _ => {}
    }
    values
}

/// The texts in quotes and the whole numbers that a definition names.
fn literals(definition: &str, texts: &mut Vec<String>, numbers: &mut Vec<i64>) {
    let mut rest = definition;
    while let Some(at) = rest.find(|c: char| c == '\'' || c == '"' || c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        if let Some(quote @ ('\'' | '"')) = from.chars().next() {
            let (text, behind) = quoted(from.get(1..).unwrap_or_default(), quote);
            if quote == '\'' {
                numbers.extend(text.parse::<i64>());
                texts.push(text);
            }
            rest = behind;
        } else {
            let end = from.find(|c: char| !c.is_ascii_digit()).unwrap_or(from.len());
            let (digits, behind) = from.split_at(end);
            let is_of_name = before.ends_with(|c: char| c.is_alphanumeric() || c == '_');
            if !is_of_name {
                numbers.extend(digits.parse::<i64>());
            }
            rest = behind;
        }
    }
}

/// What stands up to the closing quote, and what comes behind that.
fn quoted(text: &str, quote: char) -> (String, &str) {
    let mut inside = String::new();
    let mut rest = text;
    loop {
        let Some((before, behind)) = rest.split_once(quote) else { return (inside + rest, "") };
        inside.push_str(before);
        match behind.strip_prefix(quote) {
            Some(behind) => rest = behind,
            None => return (inside, behind),
        }
        inside.push(quote);
    }
}

/// No value is longer.
const LONGEST: usize = 1000;

/// By so much the modifier of a text exceeds its length (VARHDRSZ).
const VARLENA_HEADER: i32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(category: &str, name: &str, modifier: i32, definitions: &[&str], expected: &[&str]) {
        let kind = Kind {
            name: name.to_owned(),
            category: category.to_owned(),
            modifier,
            definitions: definitions.iter().map(|&text| text.to_owned()).collect(),
            ..Kind::default()
        };
        let values = values(&kind);
        for value in expected {
            assert!(values.iter().any(|found| found == value), "{value}: {values:?}");
        }
        let first = expected.first().copied();
        assert_eq!(values.first().map(String::as_str), first, "{values:?}");
    }

    #[test]
    fn values_are_those_that_checks_name_and_then_the_types() {
        check("N", "int4", -1, &["CHECK ((n >= 100))"], &["100", "101", "99", "1", "0"]);
        check("N", "int4", -1, &["CHECK ((n < '-5'::integer))"], &["-5", "-6"]);
        check("N", "int4", -1, &["CHECK ((item2 > 7))"], &["7", "8"]);
        let states = "CHECK ((state = ANY (ARRAY['it''s'::text, 'b'::text])))";
        check("S", "text", -1, &[states], &["it's", "b", "x"]);
        check("S", "varchar", 9, &["CHECK ((length((c)::text) = 4))"], &["xxxx", "a@exa", "X"]);
        check("S", "text", -1, &[r#"CHECK (("a'1" = 'b'::text))"#], &["b"]);
        check("D", "date", -1, &["FOR VALUES FROM ('2025-01-01') TO (MAXVALUE)"], &["2025-01-01"]);
        check("V", "bit", 3, &[], &["000", "111"]);
        check("U", "bytea", -1, &[], &[""]);
        check("U", "vector", 3, &[], &["[1,1,1]"]);
        check("G", "box", -1, &[], &["(0,0),(1,1)"]);
    }
}
