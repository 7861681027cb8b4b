use super::*;

const TEXT: &str = "copy Note (id) from stdin (format csv)";

/// Plays what the server says: a tag for each message, with a body in brackets.
fn play(copy: &mut CopyIn, out: &mut BytesMut, script: &str) -> Vec<Fate> {
    let mut fates = Vec::new();
    for word in script.split(' ') {
        let (tag, body) = word.split_at(1);
        let body = body.replace('~', " ").replace('|', "\0");
        let header = Header { tag: tag.as_bytes()[0], body_len: body.len() };
        fates.push(copy.answer(header, body.as_bytes(), out).expect(word));
    }
    fates
}

fn begun(text: &str, out: &mut BytesMut) -> CopyIn {
    let copy = CopyFrom::read(text.as_bytes()).unwrap();
    let plain = Plain::Text(Bytes::copy_from_slice(text.as_bytes()));
    CopyIn::begin(text.as_bytes(), &copy, plain, out)
}

/// The texts of what was written.
fn written(out: &mut BytesMut) -> String {
    String::from_utf8_lossy(&std::mem::take(out)).into_owned()
}

fn row(value: &str) -> String {
    let length = char::from_u32(u32::try_from(value.len()).unwrap()).unwrap();
    format!("D\0\u{1}\0\0\0{length}{}", value.replace(' ', "~"))
}

#[test]
fn a_protected_table_is_reached_by_an_insert() {
    let out = &mut BytesMut::new();
    let mut copy = begun(TEXT, out);
    let asked = written(out);
    assert!(
        asked.contains("cloison.stage_copy")
            && asked.contains("Note")
            && asked.ends_with("H\0\0\0\u{4}")
    );
    let insert = row("insert into x");
    let fates = play(&mut copy, out, &format!("3 3 1 2 {insert} CSELECT~1|"));
    assert!(fates.iter().all(|fate| *fate == Fate::Drop));
    let staged = written(out);
    assert!(staged.contains("copy pg_temp.\"~cloison_copy\"  from stdin (format csv)"), "{staged}");
    assert_eq!(play(&mut copy, out, "3 3 1 2 G").last(), Some(&Fate::Data));
    assert_eq!(play(&mut copy, out, "CCOPY~7|"), [Fate::Drop]);
    let moved = written(out);
    assert!(moved.contains("insert into x") && moved.contains("drop_copy_table"), "{moved}");
    // A trigger has kept one out.
    let fates = play(&mut copy, out, "3 3 1 2 CINSERT~0~6| 3 3 1 2 D CSELECT~1| 3 3");
    assert_eq!(fates.last(), Some(&Fate::Done(Some(Bytes::from_static(b"C\0\0\0\x0bCOPY 6\0")))));
    assert!(fates.iter().rev().skip(1).all(|fate| *fate == Fate::Drop));
    assert!(out.is_empty());
}

#[test]
fn any_other_goes_out_as_it_is() {
    let out = &mut BytesMut::new();
    let mut copy = begun(TEXT, out);
    written(out);
    let header = Header { tag: b'D', body_len: 6 };
    play(&mut copy, out, "3 3 1 2");
    assert_eq!(copy.answer(header, b"\0\x01\xff\xff\xff\xff", out), Ok(Fate::Drop));
    play(&mut copy, out, "CSELECT~1|");
    assert!(written(out).contains(TEXT));
    let fates = play(&mut copy, out, "1 2 n G CCOPY~1|");
    assert_eq!(fates[2..], [Fate::Drop, Fate::Data, Fate::Done(None)]);
}

#[test]
fn what_is_not_due_is_refused() {
    for script in ["1", "C", "G", "3 3 2", "3 3 1 2 C", "D"] {
        let out = &mut BytesMut::new();
        let mut copy = begun(TEXT, out);
        let words: Vec<&str> = script.split(' ').collect();
        let (last, before) = words.split_last().unwrap();
        if !before.is_empty() {
            play(&mut copy, out, &before.join(" "));
        }
        let header = Header { tag: last.as_bytes()[0], body_len: 0 };
        assert_eq!(copy.answer(header, b"", out), Err(Unexpected), "{script}");
    }
}

#[test]
fn errors_speak_of_the_clients_table() {
    let out = &mut BytesMut::new();
    let mut copy = begun("copy app.\"No\"\"te.s\" from stdin", out);
    play(&mut copy, out, &format!("3 3 1 2 {} CSELECT~1|", row("insert into x")));
    let fates = play(&mut copy, out, "ESERROR|MBad|P12||");
    let expected = messages::frame(b'E', b"SERROR\0MBad\0\0");
    assert_eq!(fates, [Fate::Failed(Some(expected))]);
    let body = b"SERROR\0MBad\0WCOPY ~cloison_copy, line 2\0P12\0spg_temp_3\0\0";
    let told = messages::told(b'E', body, b"P", &messages::shown(b"app.\"No\"\"te.s\""));
    assert_eq!(told, messages::frame(b'E', b"SERROR\0MBad\0WCOPY No\"te.s, line 2\0\0"));
    assert_eq!(messages::shown(b"public.Note"), b"note");
    assert_eq!(messages::array(&[b"a".to_vec(), b"\"b\\\"".to_vec()]), br#"{"a","\"b\\\""}"#);
}

#[test]
fn the_work_is_linear() {
    crate::scan::tests::is_linear("COPY in a text", |text| {
        let lexis = crate::statement::Lexis { standard_strings: true, safe_encoding: true };
        Known::is_among(text, lexis);
        Known::read(&[b"copy t from stdin;", text].concat(), lexis);
    });
}
