//! A plan for people: a page, and files to review and to run with `psql`.

mod page;

use std::fmt::Write;

use super::mapping::Mapping;
use super::plan::{Act, Plan, Stage, Step};
use super::run::batches::switches;
use super::{Error, literal};

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
///
/// # Errors
///
/// A plan that cannot be written as JSON: a bug of ours.
pub fn files(plan: &Plan, mapping: &Mapping) -> Result<Vec<File>, Error> {
    let text = format!("{}{}", page::page(plan), page::steps(plan));
    let kept = keep(plan, mapping)?;
    let mut files = vec![File { name: "plan.txt".to_owned(), text }];
    for (number, stage) in Stage::ALL.into_iter().enumerate() {
        let name = |kind: &str| format!("{}-{stage}.{kind}.sql", number + 1);
        let up: Vec<_> = plan.up.iter().filter(|step| step.stage == stage).collect();
        let down: Vec<_> = plan.down.iter().filter(|step| step.stage == stage).collect();
        let record = match stage {
            Stage::Expand => kept.clone(),
            Stage::Contract | Stage::Protect => DEMAND_KEPT.to_owned(),
        };
        let end = if stage == Stage::Protect { APPLIED } else { "" };
        files.push(File { name: name("up"), text: script(&plan.database, &record, &up, end) });
        files.push(File { name: name("verify"), text: verify(&up) });
        let end = if stage == Stage::Expand { UNDONE } else { "" };
        files.push(File { name: name("down"), text: script(&plan.database, UNDOING, &down, end) });
    }
    Ok(files)
}

/// SQL that keeps the plan as `--apply` does, so that `--apply`, `--verify` and `--down` go on from
/// where a file has stopped.
fn keep(plan: &Plan, mapping: &Mapping) -> Result<String, Error> {
    let json = |value: serde_json::Result<String>| {
        let shape = |source| Error::Shape { doing: "writing a plan", source };
        Ok::<_, Error>(literal(&value.map_err(shape)?))
    };
    let (plan, mapping) =
        (json(serde_json::to_string(plan))?, json(serde_json::to_string(mapping))?);
    Ok(format!(
        "\n-- What `cloison adopt --apply` keeps of a plan.\n\
         insert into cloison.adoptions (mapping, plan)\n\
         select w.mapping, w.plan from (values ({mapping}::jsonb, {plan}::jsonb)) w (mapping, plan)\n\
         where not exists (select from cloison.adoptions a where a.state = 'applying' \
         and a.plan = w.plan);\n"
    ))
}

const DEMAND_KEPT: &str = "do $cloison$
begin
    if not exists (select from cloison.adoptions a where a.state = 'applying') then
        raise exception 'no adoption is under way'
            using hint = 'Run 1-expand.up.sql first, which keeps the plan.';
    end if;
end
$cloison$;
";

const APPLIED: &str = "
update cloison.adoptions set state = 'applied', changed_at = now() where state = 'applying';
";

const UNDOING: &str = "
update cloison.adoptions set state = 'undoing', changed_at = now()
where id = (select max(a.id) from cloison.adoptions a where a.state <> 'undone');
";

const UNDONE: &str = "
update cloison.adoptions set state = 'undone', changed_at = now() where state = 'undoing';
";

/// Steps for psql, which stops at the first error and leaves what was done.
fn script(database: &str, record: &str, steps: &[&Step], end: &str) -> String {
    let mut out = format!(
        "{HEAD}do $cloison$\nbegin\n    if current_database() <> {name} then\n        \
         raise exception 'this plan was made for the database %, not for %', {name}, current_database()\n            \
         using hint = 'it holds names and tenants of that one: make one here with cloison adopt --plan';\n    \
         end if;\nend\n$cloison$;\n",
        name = literal(database)
    );
    out.push_str(record);
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
    out.push_str(end);
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
    let rows = steps.iter().enumerate().filter_map(|(number, step)| {
        let shows = !matches!(step.act, Act::Check { .. } | Act::Repeatable(_));
        let done = step.done.as_ref().filter(|_| shows)?;
        let (table, what) = (literal(&step.table), literal(&step.what));
        Some(format!("    select {number}, {table}, {what}, {done}"))
    });
    let rows: Vec<_> = rows.collect();
    let mut out =
        String::from("-- Each row should say t.\nset search_path = pg_catalog, pg_temp;\n");
    if !rows.is_empty() {
        line(
            &mut out,
            format_args!(
                "select q.\"table\", q.step, q.done from (\n{}\n) q (number, \"table\", step, done)\n\
                 order by q.number;",
                rows.join("\n    union all\n")
            ),
        );
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
