# Everyday work of DBD::Pg, as two tenants by turns, and the owner.
use strict;
use warnings;
use utf8;

use DBD::Pg qw(:pg_types :async);
use DBI;

$| = 1;
binmode STDOUT, ':encoding(UTF-8)';

my $mode = $ENV{POOL_MODE};
# Each transaction gets another server connection, and other clients keep them moving.
my $transaction = $mode eq 'transaction';
my $only = 'select distinct tenant_id::text from projects union select distinct tenant_id::text from crm_leads';
my $insert = 'insert into crm_leads (full_name, email) values (?, ?) returning tenant_id';
my $passed = 0;

sub check {
    my ($what, $got, $expected) = @_;
    $got //= 'undef';
    if ($got ne $expected) {
        print "FAILED  $what: expected $expected, got $got\n";
        exit 1;
    }
    $passed += 1;
    print "ok  $what\n";
}

# DBI takes no URL.
sub connected {
    my ($url, %options) = @_;
    my ($user, $token, $host, $port, $database) = $url =~ m{^postgres://([^:]*):([^@]*)@([^:]*):(\d+)/(.*)$}
        or die "not a URL: $url";
    return DBI->connect("dbi:Pg:dbname=$database;host=$host;port=$port", $user, $token,
        { AutoCommit => 1, RaiseError => 1, PrintError => 0, pg_enable_utf8 => 1, %options });
}

sub column {
    my ($c, $text, @values) = @_;
    return join ' ', @{ $c->selectcol_arrayref($text, undef, @values) };
}

sub refused {
    my ($what, $state, $work) = @_;
    check($what, eval { $work->(); 1 } ? 'accepted' : $DBI::state, $state);
    return $DBI::errstr;
}

sub email { return "$_[0]\@dbd.$mode.example.org" }

sub rows {
    my ($c, $side) = @_;
    check('reads its own rows', column($c, $only), $side->{own});
    $c->begin_work;
    check('insert is given its tenant', column($c, $insert, 'dbd', email(0)), $side->{own});
    check("nothing of another tenant's is deleted",
        $c->do('delete from crm_leads where tenant_id = ?', undef, $side->{other}), '0E0');
    $c->pg_savepoint('one');
    refused('a unique violation', '23505', sub { $c->do($insert, undef, 'dbd', email(0)) });
    refused('a failed transaction', '25P02', sub { $c->do('select 1') });
    $c->pg_rollback_to('one');
    check('goes on from the savepoint', column($c, $only), $side->{own});
    $c->rollback;
    refused("another tenant's row", '42501', sub {
        $c->do("insert into crm_leads (tenant_id, full_name, email) values (?, 'x', 'x')", undef, $side->{other});
    });
    refused('a row moved to another tenant', '42501',
        sub { $c->do('update crm_leads set tenant_id = ?', undef, $side->{other}) });
    check('and goes on', column($c, $only), $side->{own});
}

sub prepared {
    my ($url, $side) = @_;
    # By name once it has been used, at once, and never.
    for my $way ({}, { pg_switch_prepared => 1 }, { pg_server_prepare => 0 }) {
        my $c = connected($url, %$way);
        my $s = $c->prepare('select p.tenant_id, ?::int8, ?::text, ?::text[], ?::jsonb, ?::bool, ?::bytea from projects p limit 1');
        $s->bind_param(5, undef, { pg_type => PG_BOOL });
        $s->bind_param(6, undef, { pg_type => PG_BYTEA });
        for my $n (0 .. 5) {
            $s->execute($n, "é'; --", [ 'a b', 'é', undef ], '{"clé": [1, null]}', 1, "\0\xff\\");
            my @row = $s->fetchrow_array;
            check('a statement', "@row[0 .. 2]", "$side->{own} $n é'; --");
            check('an array, JSON', "$row[3][1] " . defined($row[3][2]) . " $row[4]", 'é  {"clé": [1, null]}');
            check('a truth value, bytes', "$row[5]" . ($row[6] eq "\0\xff\\"), '11');
            $s->finish;
        }
        my @many;
        $c->begin_work;
        $c->prepare('insert into crm_leads (full_name, email) values (?, ?)')
            ->execute_array({ ArrayTupleStatus => \@many }, 'dbd', [ map { email($_) } 1 .. 50 ]);
        check('execute_array', scalar @many, 50);
        $c->rollback;
        $c->disconnect;
    }
}

sub copies {
    my ($c, $side) = @_;
    $c->begin_work;
    $c->do('copy crm_leads (full_name, email) from stdin');
    $c->pg_putcopydata("dbd\t" . email($_) . "\n") for 1 .. 500;
    $c->pg_putcopyend;
    check('COPY FROM under its policies',
        column($c, "select count(*) from crm_leads where email like ? and tenant_id = ?", email('%'), $side->{own}), 500);
    $c->do('copy (select distinct tenant_id from crm_leads) to stdout');
    my $line;
    $c->pg_getcopydata($line);
    check('COPY TO', $line, "$side->{own}\n");
    check('and its end', $c->pg_getcopydata($line), -1);
    $c->do('copy crm_leads (tenant_id, full_name, email) from stdin');
    $c->pg_putcopydata("$side->{other}\tx\tx\n");
    refused("COPY FROM with another tenant's row", '42501', sub { $c->pg_putcopyend });
    $c->rollback;
    $c->begin_work;
    $c->do('declare c cursor for select p.tenant_id from generate_series(1, 500), (select tenant_id from projects limit 1) p');
    my $count = 0;
    while (my @page = split / /, column($c, 'fetch 200 from c')) { $count += grep { $_ eq $side->{own} } @page }
    check('a cursor', $count, 500);
    $c->commit;
}

sub sessions {
    my ($c, $side) = @_;
    $c->do("set timezone = 'America/Lima'");
    check('its SET', column($c, 'show timezone'), 'America/Lima') for 1 .. 10;
    $c->do('select pg_sleep(60)', { pg_async => PG_ASYNC });
    select undef, undef, undef, 0.3;
    $c->pg_cancel;
    check('after a cancel', column($c, $only), $side->{own});
    check('ping', $c->ping > 0, 1);

    my $session = connected($side->{session});
    $session->do("listen dbd_$side->{name}");
    $session->do("notify dbd_$side->{name}, 'salut'");
    my $told = $session->pg_notifies;
    check('a notification', $told->[2], 'salut');
    $session->disconnect;
    my $free = connected($transaction ? $side->{freed} : $side->{url});
    my $error = refused('LISTEN', $transaction ? '0A000' : '42501', sub { $free->do('listen news') });
    my $setting = $transaction ? 'session_statements' : 'allowed_statements';
    check('the hint', $error =~ /$setting/ ? $setting : $error, $setting);
    check('and goes on', column($free, $only), $side->{own});
    $free->disconnect;
    for (1 .. 3) {
        my $narrow = connected($side->{narrow}, pg_switch_prepared => 1);
        my $s = $narrow->prepare("select '$side->{name}' || tenant_id from projects where ?::bool limit 1");
        for (1 .. 3) {
            $s->execute('t');
            check('one server connection: its own statement', $s->fetchrow_array, $side->{name} . $side->{own});
            $s->finish;
        }
        undef $s;
        $narrow->disconnect;
    }
}

# The owner changes a table under the tenants' prepared statements.
sub migrating {
    my $table = "with_dbd_pg_$mode";
    my $owner = connected($ENV{OWNER_URL}, PrintWarn => 0);
    $owner->do("drop table if exists $table");
    $owner->do("begin; create table $table (id int generated always as identity, word text, n bigint); select cloison.protect('$table'); commit");
    my @all;
    for my $side (@_) {
        my $c = connected($side->{url}, pg_switch_prepared => 1);
        $c->do("insert into $table (word, n) values (?, 7)", undef, $side->{name});
        my $s = $c->prepare("select word, n from $table where id > ?");
        for (1 .. 3) { $s->execute(0); check('before the change', join(' ', $s->fetchrow_array), "$side->{name} 7"); $s->finish }
        push @all, [ $side, $c, $s ];
    }
    $owner->do("alter table $table alter n type double precision, add extra text default 'new'");
    for (@all) {
        my ($side, $c, $s) = @$_;
        refused('a statement that it touches', '0A000', sub { $s->execute(0) });
        check('prepared again', column($c, "select word || extra from $table where id > ?", 0), "$side->{name}new");
        undef $s;
        $c->disconnect;
    }
    @all = ();
    $owner->do("drop table $table");
    $owner->disconnect;
}

my ($a, $b) = ('d0000000-0000-4000-8000-000000000001', 'e0000000-0000-4000-8000-000000000001');
my @sides = map {
    my ($name, $own, $other) = @$_;
    my %url = map { lc $_ => $ENV{"${_}_${name}_URL"} } qw(TENANT FREED SESSION NARROW);
    +{ name => $name, own => $own, other => $other, url => $url{tenant}, %url };
} ([ 'A', $a, $b ], [ 'B', $b, $a ]);
for my $side (@sides) {
    my $c = connected($side->{url});
    rows($c, $side);
    prepared($side->{url}, $side);
    copies($c, $side);
    sessions($c, $side);
    $c->disconnect;
}
migrating(@sides);
eval { connected($ENV{EXPIRED_URL}) };
check('an expired token', $@ =~ /token has expired/ ? 'told' : $@, 'told');
print "passed $passed\n";
