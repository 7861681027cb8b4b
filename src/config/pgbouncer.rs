//! Names of pgbouncer's that are none here, and what takes their place.
//!
//! The names that both have mean the same in both, and stand in the list of keys.

const TOKENS: &str = "clients present a token as their password, which an [issuers.<name>] judges";
const LOGINS: &str = "the proxy logs in to Postgres by the user and password_file of [control] and of each [pools.…]";
const NO_CONSOLE: &str =
    "there is no console: `cloison check` shows the configuration, the log what happens";
const ONE_DATABASE: &str = "there is one database for all: [server] says host, port and database";
const RESETS: &str =
    "server connections are always reset by DISCARD ALL, confirmed, unless they are proven clean";
const KERNEL: &str = "the system's own setting for sockets holds";
const TLS: &str = "TLS 1.2 and 1.3 with rustls' own ciphers are spoken, and no others";
const LOG: &str =
    "the log goes to standard error; log_filter and log_format say what of it, and how";
const DNS: &str = "the system resolves names, at each new server connection";
const UNIX: &str = "whoever may open the folder unix_socket_dir may connect, and needs a token";
const SERVICE: &str = "the service manager's affair, such as systemd's or the container's";
const LIMITS: &str =
    "pool_size bounds a pool, and max_tenant_connections what one tenant holds of it";
const CLIENT_LIMITS: &str = "max_tenant_client_connections bounds one tenant's clients";
const EAGER: &str = "server connections are made when they are wanted";
const NO_RESERVE: &str = "a pool has pool_size and no reserve";
const BUFFERS: &str = "buffers grow and shrink with what is sent";
const STARTUP: &str =
    "clients' own startup parameters hold; allow_startup_parameters lets more through";

/// In the order of pgbouncer's documentation.
const NAMES: &[(&str, &str)] = &[
    ("logfile", LOG),
    ("pidfile", SERVICE),
    ("unix_socket_mode", UNIX),
    ("unix_socket_group", UNIX),
    ("user", "start it as the user that it is to run as; a pool's role is pools.tenant.user"),
    ("min_pool_size", EAGER),
    ("reserve_pool_size", NO_RESERVE),
    ("reserve_pool", NO_RESERVE),
    ("reserve_pool_timeout", NO_RESERVE),
    ("max_db_connections", LIMITS),
    ("max_db_client_connections", CLIENT_LIMITS),
    ("max_user_connections", LIMITS),
    ("max_user_client_connections", CLIENT_LIMITS),
    ("server_round_robin", "the server connection that was used last is used first"),
    ("track_extra_parameters", "every setting that a client changes follows it"),
    ("peer_id", "a client cancels at the proxy that it is connected to"),
    ("disable_pqexec", "statement_filter says what tenants may send"),
    ("application_name_add_host", "the log has each client's address"),
    ("conffile", "--config says which file"),
    ("service_name", SERVICE),
    ("job_name", SERVICE),
    ("stats_period", NO_CONSOLE),
    ("scram_iterations", TOKENS),
    ("auth_type", TOKENS),
    ("auth_hba_file", TOKENS),
    ("auth_ident_file", TOKENS),
    ("auth_file", "there is no list of users: clients present tokens, and each pool has one login"),
    ("auth_user", LOGINS),
    ("auth_query", "no password is looked up: clients present tokens, and each pool has one login"),
    ("auth_dbname", LOGINS),
    ("auth_ldap_options", TOKENS),
    ("syslog", LOG),
    ("syslog_ident", LOG),
    ("syslog_facility", LOG),
    ("log_connections", LOG),
    ("log_disconnections", LOG),
    ("log_pooler_errors", LOG),
    ("log_stats", LOG),
    ("verbose", LOG),
    ("admin_users", NO_CONSOLE),
    ("stats_users", NO_CONSOLE),
    ("server_reset_query", RESETS),
    ("server_reset_query_always", RESETS),
    ("server_check_delay", "a server connection that was closed meanwhile is noticed at its bind"),
    ("server_check_query", "a server connection that was closed meanwhile is noticed at its bind"),
    ("server_fast_close", "server_lifetime ends a connection when its client is done with it"),
    ("server_login_retry", "Postgres is asked again by the next client that wants a connection"),
    ("autodb_idle_timeout", ONE_DATABASE),
    ("dns_max_ttl", DNS),
    ("dns_nxdomain_ttl", DNS),
    ("dns_zone_check_period", DNS),
    ("resolv_conf", DNS),
    ("client_tls_ca_file", "clients prove who they are by tokens, not by certificates"),
    ("client_tls_protocols", TLS),
    ("client_tls_ciphers", TLS),
    ("client_tls13_ciphers", TLS),
    ("client_tls_ecdhcurve", TLS),
    ("client_tls_dheparams", TLS),
    ("server_tls_protocols", TLS),
    ("server_tls_ciphers", TLS),
    ("server_tls13_ciphers", TLS),
    ("cancel_wait_timeout", "a cancellation is sent at once"),
    ("suspend_timeout", NO_CONSOLE),
    ("pkt_buf", BUFFERS),
    ("sbuf_loopcnt", BUFFERS),
    ("listen_backlog", KERNEL),
    ("so_reuseport", "worker_threads has more threads serve clients; a port is one process's"),
    ("tcp_defer_accept", KERNEL),
    ("tcp_socket_buffer", KERNEL),
    // Its sections, and keys of the lines in them.
    ("pgbouncer", "its keys stand above the first [section], without a heading"),
    ("databases", ONE_DATABASE),
    (
        "users",
        "there is no list of users; limits of a tenant are max_tenant_connections and others",
    ),
    ("peers", "a client cancels at the proxy that it is connected to"),
    ("dbname", "server.database says which"),
    (
        "connect_query",
        "role_settings, and ALTER ROLE … SET at Postgres, give the role of a pool its defaults",
    ),
    ("client_encoding", STARTUP),
    ("datestyle", STARTUP),
    ("timezone", STARTUP),
];

/// The words behind "unknown key" for a name of pgbouncer's.
pub(super) fn instead(name: &str) -> Option<String> {
    let known = |(theirs, _): &&(&str, &str)| *theirs == name;
    let (_, instead) = NAMES.iter().find(known)?;
    Some(format!(" (pgbouncer's): {instead}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    /// All settings of pgbouncer 1.24's configuration file.
    const THEIRS: &str = "logfile pidfile listen_addr listen_port unix_socket_dir unix_socket_mode \
        unix_socket_group user pool_mode max_client_conn default_pool_size min_pool_size \
        reserve_pool_size reserve_pool_timeout max_db_connections max_db_client_connections \
        max_user_connections max_user_client_connections server_round_robin \
        track_extra_parameters ignore_startup_parameters peer_id disable_pqexec \
        application_name_add_host conffile service_name job_name stats_period \
        max_prepared_statements scram_iterations auth_type auth_hba_file auth_ident_file auth_file \
        auth_user auth_query auth_dbname auth_ldap_options syslog syslog_ident syslog_facility \
        log_connections log_disconnections log_pooler_errors log_stats verbose admin_users \
        stats_users server_reset_query server_reset_query_always server_check_delay \
        server_check_query server_fast_close server_lifetime server_idle_timeout \
        server_connect_timeout server_login_retry client_login_timeout autodb_idle_timeout \
        dns_max_ttl dns_nxdomain_ttl dns_zone_check_period resolv_conf client_tls_sslmode \
        client_tls_key_file client_tls_cert_file client_tls_ca_file client_tls_protocols \
        client_tls_ciphers client_tls13_ciphers client_tls_ecdhcurve client_tls_dheparams \
        server_tls_sslmode server_tls_ca_file server_tls_key_file server_tls_cert_file \
        server_tls_protocols server_tls_ciphers server_tls13_ciphers query_timeout \
        query_wait_timeout cancel_wait_timeout client_idle_timeout idle_transaction_timeout \
        transaction_timeout suspend_timeout pkt_buf max_packet_size listen_backlog sbuf_loopcnt \
        so_reuseport tcp_defer_accept tcp_socket_buffer tcp_keepalive tcp_keepcnt tcp_keepidle \
        tcp_keepintvl tcp_user_timeout";

    #[test]
    fn every_name_of_pgbouncers_is_a_key_or_has_a_reason() {
        for name in THEIRS.split_whitespace() {
            assert!(keys::find(name).is_some() != instead(name).is_some(), "{name}");
        }
        for (name, reason) in NAMES {
            assert!(keys::find(name).is_none(), "{name} is a key");
            assert!(!reason.contains('\n') && !reason.ends_with('.'), "{name}");
        }
    }

    /// Keys that are said to take a name's place have to be there.
    #[test]
    fn what_takes_their_place_is_a_key() {
        let words = NAMES.iter().flat_map(|(_, reason)| reason.split([' ', ',', ';', ':']));
        let keys = words.filter(|word| word.contains('_') && !word.contains('['));
        let mut count = 0;
        for key in keys {
            let in_section = [format!("pools.tenant.{key}"), format!("server.{key}")];
            let known = std::iter::once(key).chain(in_section.iter().map(String::as_str));
            assert!(known.into_iter().any(|path| keys::find(path).is_some()), "{key}");
            count += 1;
        }
        assert!(count > 10, "{count}");
    }
}
