//! Findings for people, and as SQL for psql.

use std::fmt::Write;

use crate::kit::lint::{Finding, LINTS, Level};

/// A line a finding, what mends it below, and the sum.
pub(super) fn table(findings: &[Finding]) -> String {
    let standing = |finding: &Finding| match finding.accepted {
        Some(_) => "accepted",
        None => finding.level.as_str(),
    };
    let width = |text: fn(&Finding) -> &str, head: &str| {
        let widest = findings.iter().map(|f| plain(text(f)).chars().count()).max();
        widest.unwrap_or(0).max(head.len())
    };
    let (name, object) = (width(|f| &f.name, "LINT"), width(|f| &f.object, "OBJECT"));
    let mut page = String::new();
    let mut line = |text: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(page, "{}", text.trim_end());
    };
    if !findings.is_empty() {
        line(&format!("{:8}  {:name$}  {:object$}  WHAT", "LEVEL", "LINT", "OBJECT"));
    }
    for finding in findings {
        let what = plain(&finding.detail);
        line(&format!(
            "{:8}  {:name$}  {:object$}  {what}",
            standing(finding),
            finding.name,
            plain(&finding.object),
        ));
        match (&finding.accepted, &finding.fix) {
            (Some(accepted), _) => {
                let by = plain(&accepted.by);
                line(&format!("          by {by}: {}", plain(&accepted.reason)));
            }
            (None, Some(fix)) => line(&format!("          fix: {}", plain(fix))),
            (None, None) => {}
        }
        line(&format!("          key: {}", plain(&finding.key)));
    }
    let count =
        |level| findings.iter().filter(|f| f.level == level && f.accepted.is_none()).count();
    let accepted = findings.iter().filter(|f| f.accepted.is_some()).count();
    line(&format!(
        "{} critical, {} warning, {} info, {accepted} accepted",
        count(Level::Critical),
        count(Level::Warning),
        count(Level::Info),
    ));
    page
}

/// What cures the findings that nobody accepted, each below a comment that says what it is for.
pub(super) fn fixes(findings: &[Finding]) -> String {
    let mut sql = String::new();
    for finding in findings.iter().filter(|finding| finding.accepted.is_none()) {
        let Finding { level, name, object, detail, fix, .. } = finding;
        // A name may hold a line break, and what follows it must not become SQL.
        let what = plain(&format!("{level} {name} {object}: {detail}"));
        let cure = fix.as_deref().unwrap_or("-- No SQL cures it.");
        let _ = writeln!(sql, "-- {what}\n{cure}\n");
    }
    sql
}

/// What is looked for.
pub(super) fn list() -> String {
    let mut page = String::new();
    for lint in LINTS {
        let _ = writeln!(page, "{} ({}): {}", lint.name, lint.levels(), lint.title());
        let _ = writeln!(page, "    {}", lint.why());
    }
    page
}

/// Without what would move the cursor, end a line or a comment.
fn plain(text: &str) -> String {
    let is_plain = |c: char| !c.is_control() && !matches!(c, '\u{2028}' | '\u{2029}');
    text.chars().map(|c| if is_plain(c) { c } else { ' ' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::lint::Acceptance;

    fn finding(name: &str, object: &str, level: Level) -> Finding {
        Finding {
            name: name.to_owned(),
            level,
            object: object.to_owned(),
            detail: "it is open".to_owned(),
            fix: Some(format!("close {object};")),
            key: format!("{name}:{object}"),
            accepted: None,
        }
    }

    #[test]
    fn columns_stand_below_each_other() {
        let mut accepted = finding("rls_off", "public.a_long_name", Level::Critical);
        let (reason, by, at) = ("we know".to_owned(), "owner".to_owned(), "now".to_owned());
        accepted.accepted = Some(Acceptance { reason, by, at });
        let page = table(&[finding("view_not_invoker", "public.n", Level::Warning), accepted]);
        assert_eq!(
            page,
            "LEVEL     LINT              OBJECT              WHAT\n\
             warning   view_not_invoker  public.n            it is open\n          \
             fix: close public.n;\n          key: view_not_invoker:public.n\n\
             accepted  rls_off           public.a_long_name  it is open\n          \
             by owner: we know\n          key: rls_off:public.a_long_name\n\
             0 critical, 1 warning, 0 info, 1 accepted\n"
        );
    }

    #[test]
    fn a_name_cannot_smuggle_sql_out_of_a_comment() {
        let mut evil = finding("rls_off", "\"a\ndrop table b; --\"", Level::Critical);
        evil.fix = None;
        assert_eq!(
            fixes(&[evil]),
            "-- critical rls_off \"a drop table b; --\": it is open\n-- No SQL cures it.\n\n"
        );
    }

    #[test]
    fn each_lint_says_what_it_is_for() {
        let page = list();
        assert_eq!(page.lines().count(), 2 * LINTS.len());
        assert!(
            page.contains("rls_off (critical): Row security is off on a protected table\n    Its")
        );
    }
}
