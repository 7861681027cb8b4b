//! A plan for people: a page, and files to review and to run with `psql`.

mod page;

use std::fmt::Write;

use super::literal;
use super::plan::{Act, Plan, Stage, Step};
use super::run::batches::switches;

pub use page::{for_application, page, steps};

/// A file of a plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct File {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// The plan as files: all that people read, and for each stage what to run, to look at, and to take it back.
pub fn files(plan: &Plan) -> Vec<File> {
    let text = format!("{}{}", page::page(plan), page::steps(plan));
    let mut files = vec![File { name: "plan.txt".to_owned(), text }];
    for (number, stage) in Stage::ALL.into_iter().enumerate() {
        let name = |kind: &str| format!("{}-{stage}.{kind}.sql", number + 1);
        let up: Vec<_> = plan.up.iter().filter(|step| step.stage == stage).collect();
        let down: Vec<_> = plan.down.iter().filter(|step| step.stage == stage).collect();
        files.push(File { name: name("up"), text: script(&plan.database, &up) });
        files.push(File { name: name("verify"), text: verify(&up) });
        files.push(File { name: name("down"), text: script(&plan.database, &down) });
    }
    files
}

/// Steps for psql, which stops at the first error and leaves what was done.
fn script(database: &str, steps: &[&Step]) -> String {
    let mut out = format!(
        "{HEAD}do $cloison$\nbegin\n    if current_database() <> {name} then\n        \
         raise exception 'this plan was made for the database %, not for %', {name}, current_database()\n            \
         using hint = 'it holds names and tenants of that one: make one here with cloison adopt --plan';\n    \
         end if;\nend\n$cloison$;\n",
        name = literal(database)
    );
    for step in steps {
        line(
            &mut out,
            format_args!(
                "\n-- {}: {}\n-- {}\n-- lock: {}; about {}",
                step.table,
                step.what.replace('\n', " "),
                step.why.replace('\n', " "),
                step.lock,
                time(step.millis)
            ),
        );
        out.push_str(&statements(step));
    }
    out
}

const HEAD: &str = "\
-- Run it with: psql -X -v ON_ERROR_STOP=1 -f FILE
-- A lock that is not to be had in time is an error: run the rest again. `cloison adopt --apply` does.
set search_path = pg_catalog, pg_temp;
set lock_timeout = '500ms';
set client_min_messages = warning;
set cloison.protecting = 'on';
";

fn statements(step: &Step) -> String {
    match &step.act {
        Act::Together(sql) | Act::Repeatable(sql) => {
            format!("begin;\n{};\ncommit;\n", sql.join(";\n"))
        }
        Act::Alone(sql) => alone(sql),
        Act::Index { sql, mark, .. } => match mark {
            Some(mark) => alone(&format!("{sql};\n{mark}")),
            None => alone(sql),
        },
        Act::Check { sql, search_path, problem } => format!(
            "begin;\nset local search_path = {search_path};\ndo $check$\ndeclare\n    found text;\nbegin\n    \
             select string_agg(r.line, E'\\n') into found from ({sql}) r (line);\n    \
             if found is not null then\n        raise exception '%', {} || E':\\n' || found;\n    \
             end if;\nend\n$check$;\nrollback;\n",
            literal(problem)
        ),
        Act::Batches { leaves, update, rest, search_path, without_triggers, off } => {
            let role = if *without_triggers { "replica" } else { "origin" };
            let loops: String =
                leaves.iter().map(|leaf| batch_loop(leaf, update, rest, off)).collect();
            let replica = if *without_triggers {
                format!("set session_replication_role = {role};\n")
            } else {
                String::new()
            };
            let back = if *without_triggers { "reset session_replication_role;\n" } else { "" };
            format!(
                "set search_path = {search_path};\n{replica}{loops}{back}set search_path = pg_catalog, pg_temp;\n"
            )
        }
    }
}

fn alone(sql: &str) -> String {
    format!("set lock_timeout = 0;\n{sql};\nset lock_timeout = '500ms';\n")
}

fn batch_loop(leaf: &str, update: &str, rest: &str, off: &[(String, String)]) -> String {
    let (disable, enable) = switches(leaf, off);
    format!(
        "do $batches$\ndeclare\n    pages bigint := pg_relation_size({leaf_text}::regclass) \
         / current_setting('block_size')::bigint;\nbegin\n    \
         for n in 0..pages / 256 loop\n        {disable}\n        \
         update only {leaf} as this {update}\n        \
         where this.ctid >= format('(%s,0)', n * 256)::tid \
         and this.ctid < format('(%s,0)', n * 256 + 256)::tid and {rest};\n        {enable}\n        \
         commit;\n    end loop;\nend\n$batches$;\n",
        leaf_text = literal(leaf)
    )
}

/// A row for each step: what, and whether it is done.
fn verify(steps: &[&Step]) -> String {
    let mut out =
        String::from("-- Each row should say t.\nset search_path = pg_catalog, pg_temp;\n");
    for step in steps {
        let shows = !matches!(step.act, Act::Check { .. } | Act::Repeatable(_));
        if let (true, Some(done)) = (shows, &step.done) {
            let (table, what) = (literal(&step.table), literal(&step.what));
            line(
                &mut out,
                format_args!("select {table} as \"table\", {what} as step, {done} as done;"),
            );
        }
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = out.write_fmt(text);
    out.push('\n');
}

/// A number with commas.
pub fn count(number: i64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size as people write it.
pub fn size(bytes: i64) -> String {
    match bytes {
        0..=10_239 => format!("{bytes} B"),
        10_240..=10_485_759 => format!("{} kB", bytes / 1024),
        10_485_760..=10_737_418_239 => format!("{} MB", bytes / 1_048_576),
        _ => format!("{} GB", bytes / 1_073_741_824),
    }
}

/// A time as people write it.
pub fn time(millis: u64) -> String {
    match millis {
        0..=999 => format!("{millis} ms"),
        1_000..=119_999 => format!("{} s", millis / 1_000),
        _ => format!("{} min", millis / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(-1_234), "-1,234");
        assert_eq!(size(8192), "8192 B");
        assert_eq!(size(52_428_800), "50 MB");
        assert_eq!(time(5), "5 ms");
        assert_eq!(time(90_000), "90 s");
        assert_eq!(time(600_000), "10 min");
    }
}
