//! Counts what readers look at, and makes texts that are hard on them.

use std::cell::Cell;

thread_local! {
    static STEPS: Cell<usize> = const { Cell::new(0) };
}

pub(super) fn add(bytes: usize) {
    STEPS.set(STEPS.get() + bytes);
}

/// The bytes that `reader` has looked at.
fn of(reader: &impl Fn(&[u8]), text: &[u8]) -> usize {
    STEPS.set(0);
    reader(text);
    STEPS.get()
}

/// What texts are made of: each is repeated.
const REPEATED: &[&str] = &[
    "'",
    "''",
    "\"",
    "\"\"",
    "$",
    "$$",
    "$a$",
    "$a",
    "$aa$ab",
    "/*",
    "*/",
    "/**/",
    "/*'",
    "--",
    "--\n",
    "-",
    "\n",
    " ",
    "\t",
    "\\",
    "\\'",
    "E'\\'",
    "E'a'\n",
    "'a'\n",
    "'a' --\n",
    "U&\"",
    "U&\"a\"",
    "U&'",
    "U&'a' UESCAPE ",
    "x'0'",
    "b'",
    "n'a'",
    "(",
    ")",
    "()",
    "(select ",
    "((a,",
    "[",
    "1",
    "1.",
    "1e",
    "1e+",
    ".1",
    "0x",
    "$1",
    "$1,",
    ":",
    "::",
    "::a",
    "a.",
    "a.\u{e9} ",
    ".a",
    "a",
    "aaaa ",
    "\u{e9}",
    "\u{e9} ",
    "\u{1F600}",
    "select ",
    "set ",
    "into ",
    "with a as ",
    "for update ",
    "as ",
    "f(",
    "now()",
    "jwt",
    "JWT",
    "j",
    "cloison",
    "cloison.jwt",
    "cloison.",
    "set_tenant",
    "_tenant",
    "set_",
    "_",
    "reset",
    "reset all;",
    "discard",
    "discard all;",
    ";",
    "select 1;",
    ";;a",
    "select 'a';",
    "begin atomic ",
    "end;",
    "on commit drop ",
    "drop ",
    "=",
    "<>",
    "+-",
    "@",
    "~!",
    "?",
    "%",
    ",",
    "a,",
    "a=b ",
    "-c a=b ",
    "--a=b ",
    "\\ ",
    "\0",
    "set cloison.jwt = 'a';",
    "select set_tenant('a');",
    "copy t from stdin;",
    "pg_settings ",
];

/// What may stand ahead of that.
const AHEAD: &[&str] = &[
    "",
    "select ",
    "set a = ",
    "set ",
    "set cloison.jwt = ",
    "set cloison.jwt = '",
    "select set_config('cloison.jwt', ",
    "select set_tenant('",
    "show ",
    "reset ",
    "begin ",
    "'",
    "\"",
    "$a$",
    "$",
    "/*",
    "--",
    "E'",
    "U&\"",
    "deallocate ",
    "copy t from ",
    "create ",
    "create temp table ",
    "declare a cursor for ",
    "prepare a as ",
    "insert into t values (",
    "with a as (",
    "listen ",
    "set constraints ",
    "close ",
    "fetch ",
    "; ",
    "\0",
];

/// What may stand behind it.
const BEHIND: &[&str] = &["'", "$a$", " cloison", " set_tenant('a')", "*/", ";", "\0"];

/// Texts that are hard on readers, of about `length` bytes each.
pub(crate) fn texts(length: usize) -> impl Iterator<Item = Vec<u8>> {
    let around = AHEAD.iter().map(|ahead| (*ahead, ""));
    let around = around.chain(BEHIND.iter().map(|behind| ("", *behind)));
    let text = move |(ahead, behind): (&str, &str), part: &str| {
        format!("{ahead}{}{behind}", part.repeat(length / part.len())).into_bytes()
    };
    around.flat_map(move |around| REPEATED.iter().map(move |part| text(around, part)))
}

/// Holds a reader to it: when the texts are twice as long, it looks at twice as many bytes.
#[track_caller]
pub(crate) fn is_linear(name: &str, reader: impl Fn(&[u8])) {
    const LENGTHS: [usize; 3] = [512, 1024, 2048];
    const SLACK: usize = 2048;
    const MOST_A_BYTE: usize = 48;
    let all = LENGTHS.map(texts);
    let [one, two, four] = all;
    for ((one, two), four) in one.zip(two).zip(four) {
        let works = [&one, &two, &four].map(|text| of(&reader, text));
        let shown = String::from_utf8_lossy(&one[..one.len().min(40)]).into_owned();
        let tail = String::from_utf8_lossy(&one[one.len().saturating_sub(20)..]).into_owned();
        for pair in works.windows(2) {
            let bound = pair[0] * 11 / 5 + SLACK;
            assert!(pair[1] <= bound, "{name}: {works:?} for {shown:?} … {tail:?}");
        }
        let most = MOST_A_BYTE * four.len() + SLACK;
        assert!(works[2] <= most, "{name}: {works:?} for {shown:?} … {tail:?}");
    }
}

#[test]
fn a_reader_that_is_not_linear_is_found() {
    let quadratic = |text: &[u8]| (0..text.len()).for_each(|at| add(text.len() - at));
    assert!(std::panic::catch_unwind(|| is_linear("quadratic", quadratic)).is_err());
    is_linear("linear", |text| assert!(text.is_empty() || !super::contains(text, 1)));
}
