/// The first line of each block, or how that begins; and what is done with the block.
const LIST: &[(&str, How)] = &[
    // README.md
    ("make run ", Not("the two commands themselves: CI runs both on a bare machine")),
    (
        "select count(*), count(distinct tenant_id) from projects;",
        As("acme", &["this session acts for the tenant of its login"]),
    ),
    (
        "cloison init --database-url \"$OWNER_URL\" --tenant acme",
        Not("tests/kit/init.rs runs it, and the commands that it prints"),
    ),
    (
        "cloison check --connect --config cloison.toml",
        Not("tests/kit/readiness.rs runs it; the folder's configuration is of another stand"),
    ),
    ("cloison install --database-url \"$OWNER_URL\" --compat", Owner),
    ("select cloison.protect('public.orders');", Owner),
    // docs/install.md
    ("cloison install --database-url \"$OWNER_URL\" --allow", Owner),
    ("select * from cloison.hardening_findings();", Owner),
    ("select cloison.advisory_xact_lock('import');", As("acme", &[])),
    (
        "(umask 077; head -c 32 /dev/urandom",
        Not("it serves the page's own configuration, which names a host and logins of the reader's"),
    ),
    (
        "TOKEN=$(cloison token --secret-file jwt.secret --issuer https://auth.example.com/ --audience shop --tenant-claim",
        Not("it connects to the server of the block before"),
    ),
    // docs/one-pool.md
    (
        "TOKEN=$(cloison token --secret-file jwt.secret --issuer https://auth.example.com/ --audience shop --tenants",
        Owner,
    ),
    ("select set_tenant('acme');", As("service", &[])),
    ("\\set token `cloison token", As("service", &[])),
    // docs/adopt.md
    (
        "cloison adopt --database-url \"$OWNER_URL\" --schema public --root",
        Not("tests/kit/adopt/reported.rs runs both, on tables that have a root"),
    ),
    ("cloison adopt --database-url \"$OWNER_URL\" --schema public", Owner),
    ("cloison adopt --database-url \"$OWNER_URL\" --table vechat_messages", Owner),
    // docs/superadmin.md
    ("# OWNER_URL: postgres://cloison_owner:TOKEN", Not("tests/it/owner.rs runs it, and compares")),
    // docs/claims.md
    ("select cloison.current_user_id();", As("acme", &[])),
    ("create policy own on public.orders", Owner),
    // docs/verify.md
    ("cloison verify --tenant-url", Served),
    ("cloison verify --self-test", Not("it takes minutes, and has tests of its own")),
    ("cloison verify --chaos 30s", Not("half a minute of load, which tests/it/chaos.rs makes")),
    ("cloison verify --chaos 5m", Not("it takes five minutes, and restarts a service by systemctl")),
    ("cloison verify", Served),
    // docs/lint.md
    (
        "cloison lint --database-url \"$OWNER_URL\" --accept",
        After("create function public.totals() returns int security definer set search_path = pg_catalog, pg_temp language sql as 'select 1'"),
    ),
    ("cloison lint --database-url \"$OWNER_URL\" ", Owner),
    ("select cloison.watch_schema('public', 'protect');", Owner),
    // docs/superadmin.md
    ("TOKEN=$(cloison token --access superadmin", Served),
    ("cloison audit verify --database-url \"$OWNER_URL\"", Served),
    // docs/api-keys.md
    ("select enable_superadmin_mode();", As("writing superadmin", &[])),
    // docs/revocation.md
    ("select cloison.revoke_token('the-jti'", Owner),
    // docs/providers.md
    ("update cloison.tenants set external_key", Owner),
    ("psql 'host=db.example.com", Not("it needs an identity provider, a person and libpq 18")),
    // docs/package.md: CI installs the package on a bare machine.
    ("apt-get install ./cloison", Not("it installs on the machine itself")),
    ("OWNER_URL='postgres://shop_owner", Not("a host and a password of the reader's")),
    ("psql \"$OWNER_URL\" -c \"select cloison.protect('public.orders')\"", Owner),
    ("mkdir -p /root/ca", Not("it writes into the home folder of root")),
    ("install -o root -g cloison", Not("it needs the package's system user")),
    ("cloison check --config /etc/cloison/cloison.toml", Not("it needs the package and systemd")),
    (
        "TOKEN=$(cloison token --secret-file /etc/cloison/jwt.secret",
        Not("it connects to the package's service"),
    ),
    ("apt-get remove cloison", Not("it removes from the machine itself")),
    ("export POSTGRES_PASSWORD=", Not("it needs Docker")),
];
