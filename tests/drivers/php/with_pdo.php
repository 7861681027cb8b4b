<?php
// Everyday work of PHP's PDO, as two tenants by turns, and the owner.
declare(strict_types=1);

// Each transaction gets another server connection, and other clients keep them moving.
define('TRANSACTION', getenv('POOL_MODE') === 'transaction');
const ONLY = 'select distinct tenant_id::text from projects union select distinct tenant_id::text from crm_leads';
const INSERT = 'insert into crm_leads (full_name, email) values (:name, :email) returning tenant_id';
$passed = 0;

function check(string $what, mixed $got, mixed $expected): void
{
    global $passed;
    if ($got !== $expected) {
        echo "FAILED  $what: expected ", var_export($expected, true), ', got ', var_export($got, true), "\n";
        exit(1);
    }
    $passed += 1;
    echo "ok  $what\n";
}

function check_in(string $what, string $part, string $whole): void
{
    check($what, str_contains($whole, $part) ? $part : $whole, $part);
}

function refused(string $what, string $state, callable $work): PDOException
{
    try {
        $work();
    } catch (PDOException $error) {
        check($what, $error->errorInfo[0] ?? $error->getCode(), $state);
        return $error;
    }
    check($what, 'accepted', $state);
}

// PDO takes no URL.
function connect(string $url, array $options = []): PDO
{
    $at = parse_url($url);
    $dsn = "pgsql:host={$at['host']};port={$at['port']};dbname=" . trim($at['path'], '/');
    return new PDO($dsn, $at['user'], $at['pass'], $options + [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
}

// Both pool modes run at once, in one database.
function named(string $prefix): string
{
    return $prefix . '_' . getenv('POOL_MODE');
}

function email(mixed $n): string
{
    return "$n@" . named('pdo') . '.example.org';
}

function column(PDO $c, string $text): array
{
    return $c->query($text)->fetchAll(PDO::FETCH_COLUMN);
}

// A tenant, and the one it must never see.
final class Side
{
    public string $url;
    // Where tenants are given back what is tested for its own sake; there, where what needs a session
    // works, too; and there, with one server connection for both.
    public string $freed;
    public string $session;
    public string $narrow;

    public function __construct(public string $name, public string $own, public string $other)
    {
        foreach (['url' => 'TENANT', 'freed' => 'FREED', 'session' => 'SESSION', 'narrow' => 'NARROW'] as $field => $kind) {
            $this->$field = getenv("{$kind}_{$name}_URL");
        }
    }
}

function rows(Side $side): void
{
    $c = connect($side->url);
    check('reads its own rows', column($c, ONLY), [$side->own]);
    $c->beginTransaction();
    $insert = $c->prepare(INSERT);
    $insert->execute(['name' => 'pdo', 'email' => email('first')]);
    check('insert is given its tenant', $insert->fetchColumn(), $side->own);
    check('nothing of another tenant\'s is changed', $c->exec("delete from crm_leads where tenant_id = '{$side->other}'"), 0);
    $all = column($c, "update crm_leads set status = 'lost' returning tenant_id");
    check('an update of everything', array_unique($all), [$side->own]);
    $c->rollBack();
    refused('another tenant\'s row', '42501', fn() => $c->exec("insert into crm_leads (tenant_id, full_name, email) values ('{$side->other}', 'x', 'x')"));
    refused('a row moved to another tenant', '42501', fn() => $c->exec("update crm_leads set tenant_id = '{$side->other}'"));
    refused('an unknown column', '42703', fn() => $c->query('select no_such from projects'));
    check('and goes on', column($c, ONLY), [$side->own]);
}

// On the server, in the driver, and as one message with its parameters.
function prepared(Side $side): void
{
    $ways = [
        'prepared on the server' => [PDO::ATTR_EMULATE_PREPARES => false],
        'emulated' => [PDO::ATTR_EMULATE_PREPARES => true],
        'never prepared' => [PDO::PGSQL_ATTR_DISABLE_PREPARES => true],
        'without its types' => [PDO::ATTR_STRINGIFY_FETCHES => true],
    ];
    foreach ($ways as $way => $options) {
        $c = connect($side->url, $options);
        $s = $c->prepare('select tenant_id, ?::int as n, ?::text as word, ?::bool as yes, ?::text[] as list, ?::jsonb as document, ?::timestamptz at time zone \'UTC\' as stamp, ?::numeric as amount from projects limit 1');
        for ($n = 0; $n < 4; $n += 1) {
            $s->bindValue(1, $n, PDO::PARAM_INT);
            $s->bindValue(2, "'; drop table projects; -- \\ é");
            $s->bindValue(3, true, PDO::PARAM_BOOL);
            $s->bindValue(4, '{"a b",NULL,é}');
            $s->bindValue(5, '{"clé": [1, null]}');
            $s->bindValue(6, '2026-02-28 23:59:59.999999+09');
            $s->bindValue(7, '-1234567890123456789.0001');
            $s->execute();
            $row = $s->fetch(PDO::FETCH_ASSOC);
            $row = array_map(fn($value) => is_bool($value) ? $value : (string) $value, $row);
            check("a statement, $way", $row, [
                'tenant_id' => $side->own, 'n' => (string) $n, 'word' => "'; drop table projects; -- \\ é",
                'yes' => $way === 'without its types' ? '1' : true, 'list' => '{"a b",NULL,é}',
                'document' => '{"clé": [1, null]}', 'stamp' => '2026-02-28 14:59:59.999999', 'amount' => '-1234567890123456789.0001',
            ]);
        }
        $s = $c->prepare('select ?::bytea as bytes, ?::text as missing');
        $s->bindValue(1, "\0\xff\\'", PDO::PARAM_LOB);
        $s->bindValue(2, null, PDO::PARAM_NULL);
        $s->execute();
        [$bytes, $missing] = $s->fetch(PDO::FETCH_NUM);
        check("bytes and null, $way", [is_resource($bytes) ? stream_get_contents($bytes) : $bytes, $missing], ["\0\xff\\'", null]);
    }
}

function transactions(Side $side): void
{
    $c = connect($side->url);
    $insert = $c->prepare(INSERT);
    for ($n = 0; $n < 5; $n += 1) {
        $c->beginTransaction();
        $insert->execute(['name' => 'pdo', 'email' => email($n)]);
        check('in a transaction', $insert->fetchColumn(), $side->own);
        $insert->closeCursor();
        $c->exec('savepoint one');
        refused('a unique violation', '23505', fn() => $insert->execute(['name' => 'pdo', 'email' => email($n)]));
        refused('a failed transaction', '25P02', fn() => $c->query('select 1'));
        $c->exec('rollback to one');
        check('goes on from the savepoint', column($c, ONLY), [$side->own]);
        $c->rollBack();
    }
    $insert->execute(['name' => 'pdo', 'email' => email('kept')]);
    $id = column($c, "select id from crm_leads where email = '" . email('kept') . "'");
    check('and deleted', $c->exec("delete from crm_leads where id = '{$id[0]}'"), 1);
    check('two statements in one', $c->exec("select 1; update projects set name = name where tenant_id = '{$side->own}'"), 3);
    $c->beginTransaction();
    $c->exec('declare c no scroll cursor for select p.tenant_id from generate_series(1, 1000), (select tenant_id from projects limit 1) p');
    for ($count = 0; $page = column($c, 'fetch 300 from c'); $count += count($page)) {
        check('a cursor\'s page', array_unique($page), [$side->own]);
    }
    check('a cursor', $count, 1000);
    $c->commit();
}

function copying(Side $side): void
{
    $c = connect($side->url);
    $c->beginTransaction();
    $lines = array_map(fn($n) => "pdo\t" . email($n), range(1, 1000));
    check('COPY FROM', $c->pgsqlCopyFromArray('crm_leads', $lines, "\t", '\\\\N', 'full_name, email'), true);
    $count = column($c, "select count(*) from crm_leads where tenant_id = '{$side->own}' and email like '" . email('%') . "'");
    check('under its policies', $count, [1000]);
    refused('COPY FROM with another tenant\'s row', '42501', fn() => $c->pgsqlCopyFromArray('crm_leads', ["{$side->other}\tx\tx"], "\t", '\\\\N', 'tenant_id, full_name, email'));
    $c->rollBack();
    $lines = $c->pgsqlCopyToArray('(select tenant_id from crm_leads)', "\t");
    check('COPY TO', array_unique(array_map('trim', $lines)), [$side->own]);
}

// PDO declares a cursor WITH HOLD of its own, which needs a session.
function scrolling(PDO $c, string $text): array
{
    $s = $c->prepare($text, [PDO::ATTR_CURSOR => PDO::CURSOR_SCROLL]);
    $s->execute();
    $seen = [];
    foreach ([PDO::FETCH_ORI_FIRST, PDO::FETCH_ORI_NEXT, PDO::FETCH_ORI_LAST, PDO::FETCH_ORI_PRIOR] as $where) {
        $seen[] = $s->fetch(PDO::FETCH_NUM, $where)[0];
    }
    return $seen;
}

function cursors(Side $side): void
{
    $text = 'select n from generate_series(1, 9) n, (select from projects limit 1) p';
    check('a scrolling cursor', scrolling(connect($side->session), $text), [1, 2, 9, 8]);
    check('the owner\'s', scrolling(connect(getenv('OWNER_URL')), 'select n from generate_series(1, 9) n'), [1, 2, 9, 8]);
    if (TRANSACTION) {
        $c = connect($side->url);
        $error = refused('a scrolling cursor', '0A000', fn() => scrolling($c, $text));
        check_in('is told which setting allows it', 'session_statements', $error->getMessage());
        check('and goes on', column($c, ONLY), [$side->own]);
    } else {
        check('a scrolling cursor', scrolling(connect($side->url), $text), [1, 2, 9, 8]);
    }
}

function listening(Side $side): void
{
    $c = connect($side->session);
    $c->exec("listen pdo_{$side->name}");
    $c->exec("notify pdo_{$side->name}, 'salut'");
    check('a notification', $c->pgsqlGetNotify(PDO::FETCH_ASSOC, 10000)['payload'], 'salut');
    $c = connect(TRANSACTION ? $side->freed : $side->url);
    $error = refused('LISTEN', TRANSACTION ? '0A000' : '42501', fn() => $c->exec('listen news'));
    check_in('the hint', TRANSACTION ? 'session_statements' : 'allowed_statements', $error->getMessage());
    check('and goes on', column($c, ONLY), [$side->own]);
}

// One server connection for both tenants, which name their statements alike: pdo_stmt_00000001.
function turns(array $sides): void
{
    for ($round = 0; $round < 4; $round += 1) {
        foreach ($sides as $side) {
            $c = connect($side->narrow);
            $s = $c->prepare("select '{$side->name}' || tenant_id from projects where ? limit 1");
            for ($n = 0; $n < 4; $n += 1) {
                $s->execute([1]);
                check('its own statement', $s->fetchColumn(), $side->name . $side->own);
            }
            check('one server connection: its own rows', column($c, ONLY), [$side->own]);
            $s = $c = null;
        }
    }
}

// The owner changes a table under the tenants' prepared statements.
function migrating(array $sides): void
{
    $table = named('with_pdo');
    $owner = connect(getenv('OWNER_URL'));
    $owner->exec("drop table if exists $table");
    $owner->exec("begin; create table $table (id int generated always as identity, word text, n bigint); select cloison.protect('$table'); commit");
    $statements = [];
    foreach ($sides as $side) {
        $c = connect($side->url);
        $insert = $c->prepare("insert into $table (word, n) values (?, ?)");
        $insert->execute([$side->name, 7]);
        $some = $c->prepare("select word from $table where n = ?");
        $every = $c->prepare("select * from $table where n = ?");
        for ($n = 0; $n < 3; $n += 1) {
            $some->execute([7]);
            check('before the change', $some->fetchAll(PDO::FETCH_COLUMN), [$side->name]);
            $every->execute([7]);
            $every->fetchAll();
        }
        $statements[] = [$side, $c, $insert, $some, $every];
    }
    $owner->exec("alter table $table alter n type double precision, add extra text default 'new'");
    foreach ($statements as [$side, $c, $insert, $some, $every]) {
        $some->execute([7]);
        check('a statement that the change does not touch', $some->fetchAll(PDO::FETCH_COLUMN), [$side->name]);
        // As Postgres itself does without a proxy.
        // PDO reads rows by the columns that it was told first, so that it has to be told.
        refused('a statement that it touches', '0A000', fn() => $every->execute([7]));
        $insert->execute([$side->name, 8]);
        $every = $c->prepare("select * from $table where n = ?");
        $every->execute([8]);
        $row = $every->fetch(PDO::FETCH_ASSOC);
        check('prepared again', [$row['word'], (float) $row['n'], $row['extra']], [$side->name, 8.0, 'new']);
    }
    $owner->exec("drop table $table");
}

function settings(Side $side): void
{
    $c = connect($side->url);
    $c->exec("set timezone = 'Asia/Tokyo'; set application_name = 'pdo'");
    for ($n = 0; $n < 4; $n += 1) {
        check('its SET', column($c, "select current_setting('timezone') || current_setting('application_name')"), ['Asia/Tokyopdo']);
    }
    // A persistent connection outlives its object.
    for ($n = 0; $n < 2; $n += 1) {
        check('a persistent connection', column(connect($side->url, [PDO::ATTR_PERSISTENT => true]), ONLY), [$side->own]);
    }
}

function logins(): void
{
    foreach (['FORGED_URL' => 'token', 'EXPIRED_URL' => 'token has expired'] as $url => $text) {
        try {
            connect(getenv($url));
            check($url, 'accepted', 'refused');
        } catch (PDOException $error) {
            // It knows no SQLSTATE of a login: 08006 for them all.
            check_in($url, $text, $error->getMessage());
        }
    }
}

$sides = [
    new Side('A', 'd0000000-0000-4000-8000-000000000001', 'e0000000-0000-4000-8000-000000000001'),
    new Side('B', 'e0000000-0000-4000-8000-000000000001', 'd0000000-0000-4000-8000-000000000001'),
];
foreach ($sides as $side) {
    rows($side);
    prepared($side);
    transactions($side);
    copying($side);
    cursors($side);
    listening($side);
    settings($side);
}
turns($sides);
migrating($sides);
logins();
echo "passed $passed\n";
