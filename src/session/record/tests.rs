use std::sync::Mutex;

use proptest::prelude::*;

use super::*;

fn hash(text: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, text);
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_long_text_is_written_down_in_part_with_the_hash_of_all() {
    let short = json!({"text": "select 1", "bytes": 8, "sha256": hash(b"select 1")});
    assert_eq!(text(b"select 1\0"), short);
    let long = [b'x'; LONGEST_TEXT + 1];
    let kept = text(&[&long[..], b"\0"].concat());
    assert_eq!(kept["text"].as_str().map(str::len), Some(LONGEST_TEXT));
    assert_eq!((&kept["bytes"], &kept["sha256"]), (&json!(LONGEST_TEXT + 1), &json!(hash(&long))));
    assert_eq!(text(b"\xff\0")["text"], "\u{fffd}");
}

#[test]
fn a_token_is_not_written_down() {
    for sql in ["set cloison.jwt = 'a.b'", "select set_config('cloison.jwt', 'a.b', true)"] {
        let kept = text(format!("{sql}\0").as_bytes()).to_string();
        assert!(!kept.contains("a.b") && kept.contains("withheld"), "{kept}");
    }
    // What is run is written down, whatever it says.
    let sql = "delete from note /* set cloison.jwt = 'a.b' */";
    assert_eq!(text(format!("{sql}\0").as_bytes())["text"], sql);
    // But for the token.
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJlLXRoYXQtaXMtbG9uZw";
    let key = format!("cl_{}_{}", "0a".repeat(16), "1b".repeat(32));
    for secret in [token, &key] {
        let sql =
            format!("set cloison.jwt = '{secret}';{}update note set body = ''", " ".repeat(40));
        let kept = text(format!("{sql}\0").as_bytes());
        let shown = sql.replace(secret, "[a token]");
        assert_eq!(
            kept,
            json!({"text": shown, "bytes": sql.len(), "sha256": hash(sql.as_bytes())})
        );
    }
}

#[test]
fn blanks_behind_a_token_hide_nothing() {
    let sql = format!("set cloison.jwt = 'x'{};update note set body = ''", " ".repeat(9_300));
    let kept = text(format!("{sql}\0").as_bytes());
    assert_eq!(kept["sha256"], hash(sql.as_bytes()));
    assert!(kept["text"].as_str().is_some_and(|text| text.starts_with("set cloison.jwt = 'x' ")));
}

fn header(tag: u8, body: &[u8]) -> Header {
    Header { tag, body_len: body.len() }
}

#[track_caller]
fn names(tag: u8, body: &[u8], expected: Option<&str>) {
    let refusal = refuse_names(header(tag, body), body);
    assert_eq!(refusal.map(|refusal| refusal.code), expected, "{}", char::from(tag));
}

#[test]
fn names_that_postgres_would_cut_are_refused() {
    let (longest, longer) = ("n".repeat(63), "n".repeat(64));
    for tag in [frontend::PARSE, frontend::EXECUTE] {
        names(tag, format!("{longest}\0select 1\0\0\0").as_bytes(), None);
        names(tag, format!("{longer}\0select 1\0\0\0").as_bytes(), Some("C412"));
        names(tag, format!("{}\0", "é".repeat(8)).as_bytes(), Some("C412"));
        names(tag, format!("{}\0", "é".repeat(7)).as_bytes(), None);
        names(tag, b"open", Some("C006"));
        names(tag, b"", Some("C006"));
    }
    for tag in [frontend::CLOSE, frontend::DESCRIBE] {
        names(tag, format!("S{longest}\0").as_bytes(), None);
        names(tag, format!("P{longer}\0").as_bytes(), Some("C412"));
        names(tag, b"", Some("C006"));
    }
    let bind = |portal: &str, name: &str| format!("{portal}\0{name}\0\0\0\0\0\0\0");
    names(frontend::BIND, bind(&longest, &longest).as_bytes(), None);
    names(frontend::BIND, bind(&longer, "").as_bytes(), Some("C412"));
    names(frontend::BIND, bind("", &longer).as_bytes(), Some("C412"));
    names(frontend::BIND, b"a\0open", Some("C006"));
    names(frontend::QUERY, format!("{longer}{longer}\0").as_bytes(), None);
    names(frontend::COPY_DATA, longer.as_bytes(), None);
}

/// A message: mostly one that runs something, with names and texts of all lengths.
fn message() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let name = prop_oneof![
        Just(String::new()),
        "[a-zé]{0,20}",
        (50usize..80).prop_map(|length| "n".repeat(length)),
        Just("n".repeat(10_000)),
    ];
    let text = prop_oneof![
        "[ -~\\n]{0,60}",
        Just(format!("set cloison.jwt = 'x'{};update t set a = 1", " ".repeat(9_300))),
        (8_000usize..20_000).prop_map(|length| format!("select '{}'", "y".repeat(length))),
    ];
    let tags = prop::sample::select(&b"QPBBDECSHd"[..]);
    (tags, name.clone(), name, text, any::<Vec<u8>>()).prop_map(|(tag, one, other, sql, rest)| {
        let body = match tag {
            frontend::QUERY => [sql.as_bytes(), b"\0"].concat(),
            frontend::PARSE => [one.as_bytes(), b"\0", sql.as_bytes(), b"\0\0\0"].concat(),
            frontend::BIND => [one.as_bytes(), b"\0", other.as_bytes(), b"\0", &rest[..]].concat(),
            frontend::DESCRIBE | frontend::CLOSE => [b"S", one.as_bytes(), b"\0"].concat(),
            frontend::EXECUTE => [one.as_bytes(), b"\0\0\0\0\0"].concat(),
            _ => rest,
        };
        (tag, body)
    })
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes();
    [&[tag][..], &length, body].concat()
}

proptest! {
    /// However its bytes come, a text that is let through and not refused by the relay is on record
    /// with its hash, in its place.
    #[test]
    fn whatever_reaches_the_server_is_on_record(
        messages in prop::collection::vec(message(), 1..12),
        cuts in prop::collection::vec(1usize..30_000, 1..40),
    ) {
        let kept: Arc<Mutex<Vec<Value>>> = Arc::default();
        let keep = Arc::clone(&kept);
        let recorder = Recorder::by(Box::new(move |detail| {
            keep.lock().unwrap().push(detail);
            Box::pin(std::future::ready(Ok(())))
        }));
        let sent: Vec<u8> = messages.iter().flat_map(|(tag, body)| frame(*tag, body)).collect();
        let (passed, count) = crate::protocol::pass_in_parts(Box::new(recorder), &sent, &cuts);
        prop_assert_eq!(&passed, &sent);
        prop_assert_eq!(count, messages.len());
        let records = kept.lock().unwrap();
        let mut records = records.iter();
        for (tag, body) in &messages {
            if refuse_names(header(*tag, body), body).is_some() {
                continue;
            }
            let text = match *tag {
                frontend::QUERY => &body[..body.len() - 1],
                frontend::PARSE => {
                    let (_, rest) = split_cstr(body).unwrap();
                    split_cstr(rest).unwrap().0
                }
                _ => continue,
            };
            let found = records.find(|record| record.get("sha256").is_some());
            let found = found.map(|record| record["sha256"].clone());
            prop_assert_eq!(found, Some(json!(hash(text))));
        }
        prop_assert!(!records.any(|record| record.get("sha256").is_some()));
    }
}
