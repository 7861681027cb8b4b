//! The parameters of a `StartupMessage`: which are ours, which reach Postgres, which are refused.
//!
//! Whatever a server connection is started with becomes the value that `RESET` goes back to, so
//! a client's own settings belong there. What a client may not `SET`, it may not start with.

use crate::config;
use crate::guard::Policy;
use crate::protocol::ClientError;
use crate::protocol::message::PROTOCOL_3_2;
use crate::types::SessionSettings;

use super::options;
use super::wishes::Wishes;

/// What a client asked for at startup, not yet judged.
#[derive(Debug, Eq, PartialEq)]
pub struct StartupParams {
    /// The protocol version that both sides speak from here on.
    pub version: u32,
    /// Chooses the pool. Never proof of anything.
    pub user: String,
    /// The database; the user's name if none was given.
    pub database: String,
    /// Everything else, with `options` already taken apart.
    settings: Vec<(String, String)>,
}

/// Parameters that are refused by name, with the reason.
const DANGEROUS: &[(&str, &str)] = &[
    ("dynamic_library_path", "it chooses code that the server loads"),
    ("local_preload_libraries", "it loads code into the server"),
    ("replication", "a replication connection sees every tenant's rows"),
    ("role", "the role belongs to the pool, not to the client"),
    ("row_security", "row-level security is not the client's to switch"),
    ("session_authorization", "the role belongs to the pool, not to the client"),
    ("session_preload_libraries", "it loads code into the server"),
    ("session_replication_role", "it switches triggers and foreign keys off"),
];

impl StartupParams {
    /// Reads the parameters, and what has to be negotiated: `Some` with the protocol options
    /// that we do not know, if the client has to be told that or of an older version.
    ///
    /// # Errors
    ///
    /// What Postgres refuses too: no user, or `options` that are no settings.
    pub(super) fn parse(
        requested: u32,
        parameters: Vec<(String, String)>,
    ) -> Result<(Self, Option<Vec<String>>), ClientError> {
        let (mut user, mut database) = (None, None);
        let (mut settings, mut unknown) = (Vec::new(), Vec::new());
        for (name, value) in parameters {
            match name.as_str() {
                "user" => user = Some(value),
                "database" => database = Some(value),
                "options" => settings.extend(options::parse(&value).map_err(refuse_option)?),
                protocol_option if protocol_option.starts_with("_pq_.") => unknown.push(name),
                _ => settings.push((name, value)),
            }
        }
        let Some(user) = user.filter(|user| !user.is_empty()) else {
            return Err(ClientError::fatal("28000", "C001", "no user name in the startup packet"));
        };
        let database = database.filter(|name| !name.is_empty()).unwrap_or_else(|| user.clone());
        let negotiate = requested > PROTOCOL_3_2 || !unknown.is_empty();
        let version = requested.min(PROTOCOL_3_2);
        Ok((Self { version, user, database, settings }, negotiate.then_some(unknown)))
    }

    /// The tenant that the client asks for, among those that its token allows. Never proof of
    /// anything.
    pub fn tenant_choice(&self) -> Option<&str> {
        let mut settings = self.settings.iter().rev();
        settings.find(|(name, _)| is_choice(name)).map(|(_, tenant)| tenant.as_str())
    }

    /// Takes out what a super-admin's client asks for. Nobody else may: for them it stays, and is
    /// refused as a setting that is ours.
    ///
    /// # Errors
    ///
    /// What cannot be read.
    pub fn take_wishes(&mut self) -> Result<Wishes, ClientError> {
        Wishes::take(&mut self.settings)
    }

    /// The settings that the client's server connection is started with: those that `policy` lets
    /// it change, or any that are not dangerous if no policy holds for it.
    ///
    /// # Errors
    ///
    /// Names the first parameter that may not pass, and why.
    pub fn session_settings(
        &self,
        rules: &config::StartupParameters,
        policy: Option<&Policy>,
    ) -> Result<SessionSettings, ClientError> {
        let lists =
            |list: &[String], name: &str| list.iter().any(|entry| entry.eq_ignore_ascii_case(name));
        let mut admitted = SessionSettings::default();
        for (name, value) in &self.settings {
            let lower = name.to_ascii_lowercase();
            if let Some((_, reason)) = DANGEROUS.iter().find(|(danger, _)| *danger == lower) {
                // pgjdbc and libpq may say `replication=false`, which asks for nothing.
                if lower == "replication" && is_off(value) {
                    continue;
                }
                return Err(refuse(name, reason));
            }
            if is_choice(name) {
                continue;
            }
            if lower == "cloison" || lower.starts_with("cloison.") {
                return Err(refuse(name, "the tenant comes from the token alone"));
            }
            if lists(&rules.ignore, name) {
                continue;
            }
            let may_start = policy.is_none_or(|policy| policy.may_start_with(&lower));
            if may_start || lists(&rules.allow, name) {
                admitted.set(lower, value.clone());
            } else {
                let hint = "The operator can list it in allowed_settings (for SET, too), \
                            allow_startup_parameters or ignore_startup_parameters.";
                return Err(ClientError::fatal(
                    "0A000",
                    "C004",
                    format!("startup parameter \"{name}\" is not supported"),
                )
                .hint(hint));
            }
        }
        Ok(admitted)
    }
}

/// Whether a parameter is no setting, but says which tenant is wanted.
fn is_choice(name: &str) -> bool {
    name.eq_ignore_ascii_case("cloison.tenant")
}

/// How Postgres reads `off` for `replication`.
fn is_off(value: &str) -> bool {
    ["false", "off", "no", "0"].iter().any(|off| value.eq_ignore_ascii_case(off))
}

fn refuse(name: &str, reason: &str) -> ClientError {
    ClientError::fatal(
        "0A000",
        "C003",
        format!("startup parameter \"{name}\" is refused: {reason}"),
    )
}

fn refuse_option(argument: String) -> ClientError {
    let message = format!("invalid argument \"{argument}\" in the startup parameter \"options\"");
    ClientError::fatal("22023", "C002", message).hint("Use -c name=value.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(parameters: &[(&str, &str)]) -> Result<StartupParams, ClientError> {
        let parameters =
            parameters.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        StartupParams::parse(0x0003_0000, parameters).map(|(params, _)| params)
    }

    #[track_caller]
    fn check(name: &str, value: &str, expected: Result<&[(&str, &str)], &str>) {
        let rules = config::StartupParameters {
            allow: vec!["my_setting".into()],
            ignore: vec!["their_setting".into()],
        };
        let policy = Policy {
            settings: ["work_mem".to_owned(), "shop.*".to_owned()].into(),
            ..Policy::default()
        };
        let params = parse(&[("user", "app"), (name, value)]);
        let got = params.and_then(|params| params.session_settings(&rules, Some(&policy)));
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert!(got.iter().eq(expected.iter().copied()), "{got:?}"),
            (Err(error), Err(code)) => assert_eq!(error.code, code, "{}", error.message),
            (got, expected) => panic!("{name}={value}: {got:?} where {expected:?} was due"),
        }
    }

    #[test]
    fn settings_of_drivers_pass() {
        check("application_name", "psql", Ok(&[("application_name", "psql")]));
        check("client_encoding", "'utf-8'", Ok(&[("client_encoding", "'utf-8'")]));
        check("DateStyle", "ISO", Ok(&[("datestyle", "ISO")]));
        check("TimeZone", "Europe/Zurich", Ok(&[("timezone", "Europe/Zurich")]));
        check("extra_float_digits", "2", Ok(&[("extra_float_digits", "2")]));
        check("options", "-c search_path=a,b", Ok(&[("search_path", "a,b")]));
        check("Shop.User", "7", Ok(&[("shop.user", "7")]));
        check("work_mem", "1GB", Ok(&[("work_mem", "1GB")]));
        check("my_setting", "7", Ok(&[("my_setting", "7")]));
        check("their_setting", "7", Ok(&[]));
        check("replication", "false", Ok(&[]));
    }

    #[test]
    fn what_reaches_beyond_the_session_is_refused() {
        check("replication", "database", Err("C003"));
        check("role", "postgres", Err("C003"));
        check("ROLE", "postgres", Err("C003"));
        check("session_authorization", "postgres", Err("C003"));
        check("row_security", "off", Err("C003"));
        check("cloison.context", "x", Err("C003"));
        check("Cloison.Context", "x", Err("C003"));
        check("options", "-c role=postgres", Err("C003"));
        check("options", "--session-authorization=postgres", Err("C003"));
        check("options", "-ccloison.context=x", Err("C003"));
        check("options", "-e", Err("C002"));
        check("no_such_setting", "1", Err("C004"));
    }

    #[test]
    fn what_cannot_be_set_cannot_be_started_with() {
        for name in [
            "hash_mem_multiplier",
            "Hash_Mem_Multiplier",
            "max_parallel_workers_per_gather",
            "maintenance_work_mem",
            "temp_buffers",
            "sort_mem",
            "app.user",
            "transaction_read_only",
            "seed",
        ] {
            check(name, "1", Err("C004"));
            check("options", &format!("-c {name}=1"), Err("C004"));
            check("options", &format!("--{}=1", name.replace('_', "-")), Err("C004"));
        }
    }

    #[test]
    fn who_is_held_to_no_policy_starts_with_anything_but_what_is_ours() {
        let rules = config::StartupParameters::default();
        let got = |name: &str| {
            let params = parse(&[("user", "app"), (name, "1")]).unwrap();
            let settings = params.session_settings(&rules, None);
            settings.map(|settings| settings.iter().count()).map_err(|error| error.code)
        };
        for name in ["work_mem", "hash_mem_multiplier", "app.user"] {
            assert_eq!(got(name), Ok(1), "{name}");
        }
        for name in ["role", "session_authorization", "replication", "cloison.context"] {
            assert_eq!(got(name), Err("C003"), "{name}");
        }
    }

    #[test]
    fn the_tenant_that_is_asked_for_is_no_setting() {
        let rules = config::StartupParameters { allow: vec![], ignore: vec![] };
        for (name, value) in [("cloison.tenant", "acme"), ("options", "-c Cloison.Tenant=acme")] {
            let params = parse(&[("user", "app"), (name, value)]).unwrap();
            assert_eq!(params.tenant_choice(), Some("acme"), "{name}");
            assert_eq!(params.session_settings(&rules, None).unwrap().iter().count(), 0, "{name}");
        }
        assert_eq!(parse(&[("user", "app")]).unwrap().tenant_choice(), None);
    }

    #[test]
    fn an_ignored_danger_is_still_refused() {
        let rules = config::StartupParameters {
            allow: vec!["role".into()],
            ignore: vec!["role".into(), "replication".into()],
        };
        for name in ["role", "replication"] {
            let params = parse(&[("user", "app"), (name, "x")]).unwrap();
            assert_eq!(params.session_settings(&rules, None).unwrap_err().code, "C003");
        }
    }

    #[test]
    fn user_and_database_are_settled() {
        let params = parse(&[("user", "app")]).unwrap();
        assert_eq!((params.user.as_str(), params.database.as_str()), ("app", "app"));
        assert_eq!(parse(&[("database", "app")]).unwrap_err().sqlstate, "28000");
        assert_eq!(parse(&[("user", "")]).unwrap_err().sqlstate, "28000");
    }

    #[test]
    fn versions_are_negotiated_down() {
        let user = || vec![("user".to_owned(), "app".to_owned())];
        let negotiated = |version| {
            StartupParams::parse(version, user()).map(|(params, told)| (params.version, told))
        };
        assert_eq!(negotiated(0x0003_0000), Ok((0x0003_0000, None)));
        assert_eq!(negotiated(0x0003_0002), Ok((0x0003_0002, None)));
        assert_eq!(negotiated(0x0003_270f), Ok((0x0003_0002, Some(vec![]))));
        let mut parameters = user();
        parameters.push(("_pq_.x".to_owned(), String::new()));
        let told = StartupParams::parse(0x0003_0000, parameters).unwrap().1;
        assert_eq!(told, Some(vec!["_pq_.x".to_owned()]));
    }
}
