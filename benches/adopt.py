"""Adopts a table of a million rows while writers write, beside a plain ALTER of the same.

    cargo build --locked --bin cloison && python3 benches/adopt.py [ROWS]

Prints a table: how long it took, how long the longest lock was held that stops writers, how long the
longest statement of a writer took, how many took more than a tenth of a second, how many failed.
"""

import glob
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from stand import binaries

ROOT = Path(__file__).resolve().parent.parent
CLOISON = os.environ.get("CLOISON_BIN", ROOT / "target" / "debug" / "cloison")
ROWS = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
WRITERS = 4

SETUP = f"""
    create table accounts (id integer primary key, name text not null);
    insert into accounts select n, 'account ' || n from generate_series(0, 999) n;
    create table orders (
        id bigserial primary key,
        account_id integer not null references accounts,
        code text not null constraint orders_code unique,
        body text not null,
        placed timestamptz not null default now()
    );
    insert into orders (account_id, code, body)
        select n % 1000, 'code-' || n, repeat('x', 100) from generate_series(1, {ROWS}) n;
    vacuum analyze;
"""

# What the application does, without knowing of tenants; and, once they have come in, naming its own.
SCRIPTS = {
    "read": "\\set id random(1, ROWS)\nselect body from orders where id = :id;\n",
    "update": "\\set id random(1, ROWS)\nupdate orders set body = repeat('y', 100) where id = :id;\n",
    "insert": "insert into orders (account_id, code, body)"
    " select (random() * 999)::int, gen_random_uuid()::text, repeat('z', 100);\n",
}
AS_TENANT = {
    "read": "\\set id random(1, ROWS)\nselect body from orders"
    " where organisation_id = :id % 1000 % 10 + 1 and id = :id;\n",
    "update": "\\set id random(1, ROWS)\nupdate orders set body = repeat('y', 100)"
    " where organisation_id = :id % 1000 % 10 + 1 and id = :id;\n",
    "insert": "\\set account random(0, 999)\n"
    "insert into orders (account_id, code, body, organisation_id)"
    " values (:account, gen_random_uuid()::text, repeat('z', 100), :account % 10 + 1);\n",
}

MAPPING = """
    column = "organisation_id"
    type = "integer"
    create_tenants = true
    [table.accounts]
    tenant = "id % 10 + 1"
    [table.orders]
    parent = "accounts"
"""

# Without the LOCK it and a writer lock each other out, and one of them fails.
PLAIN = """
    begin;
    lock table orders, accounts;
    alter table accounts add column organisation_id integer;
    update accounts set organisation_id = id % 10 + 1;
    alter table accounts alter column organisation_id set not null;
    alter table orders add column organisation_id integer;
    update orders o set organisation_id = a.organisation_id from accounts a where a.id = o.account_id;
    alter table orders alter column organisation_id set not null;
    alter table orders drop constraint orders_account_id_fkey;
    alter table accounts drop constraint accounts_pkey, add primary key (organisation_id, id);
    alter table orders
        drop constraint orders_pkey, add primary key (organisation_id, id),
        drop constraint orders_code, add constraint orders_code unique (organisation_id, code),
        add foreign key (organisation_id, account_id) references accounts (organisation_id, id);
    commit;
"""

# Who holds what stops writers of orders.
LOCKS = """
    select extract(epoch from clock_timestamp()), count(*) from pg_locks
    where granted and relation = 'orders'::regclass and pid <> pg_backend_pid()
      and mode in ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
"""


class Server:
    def __enter__(self):
        self.bin = binaries()
        self.folder = Path(tempfile.mkdtemp(prefix="cloison-bench-", dir="/tmp"))
        self.user = []
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres")
            self.user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self.run([self.bin / "initdb", "-D", self.folder / "data", "-U", "postgres", "-A", "trust"])
        settings = (
            "-c listen_addresses= -c shared_buffers=256MB -c max_wal_size=4GB -c synchronous_commit=off"
            f" -c maintenance_work_mem=128MB -c unix_socket_directories={self.folder}"
        )
        self.process = subprocess.Popen(
            [*self.user, self.bin / "postgres", "-D", self.folder / "data", *settings.split()],
            stderr=subprocess.DEVNULL,
        )
        while not (self.folder / ".s.PGSQL.5432").exists():
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        shutil.rmtree(self.folder)

    def run(self, command):
        subprocess.run([*self.user, *command], check=True, stdout=subprocess.DEVNULL, cwd="/tmp")

    def psql(self, database, sql):
        return subprocess.run(
            ["psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", *self.at(database)],
            input=sql, text=True, check=True, stdout=subprocess.PIPE,
        ).stdout.strip()

    def at(self, database):
        return ["-h", str(self.folder), "-U", "postgres", "-d", database]

    def url(self, database):
        return f"host={self.folder} user=postgres dbname={database}"


def measured(server, database, scripts, work):
    """Runs the work while writers write, and says how both went."""
    folder = Path(tempfile.mkdtemp(dir=server.folder))
    command = [server.bin / "pgbench", "-n", "-c", str(WRITERS), "-T", "3600", "--log", "--log-prefix", folder / "log"]
    for name, script in scripts.items():
        (folder / name).write_text(script.replace("ROWS", str(ROWS)))
        command += ["-f", folder / name]
    errors = open(folder / "errors", "w+")
    writers = subprocess.Popen(
        [*command, "-h", server.folder, "-U", "postgres", database], stdout=subprocess.DEVNULL, stderr=errors
    )
    locks = open(folder / "locks", "w+")
    watcher = subprocess.Popen(
        ["psql", "-X", "-q", "-A", "-t", *server.at(database)],
        stdin=subprocess.PIPE, stdout=locks, stderr=subprocess.DEVNULL, text=True,
    )
    watcher.stdin.write(LOCKS + "\\watch 0.01\n")
    watcher.stdin.flush()
    time.sleep(3)
    began = time.time()
    work()
    ended = time.time()
    time.sleep(1)
    died = writers.poll() is not None
    # Its own clock's signal: it finishes what it does, and writes the rest of its log.
    if not died:
        writers.send_signal(signal.SIGALRM)
    writers.wait()
    watcher.terminate()
    watcher.wait()
    latencies, failed = [], 0
    for name in glob.glob(f"{folder}/log.*"):
        for line in open(name):
            fields = line.split()
            # A deadlock, or a failure to serialize.
            failed += "failed" in fields
            if len(fields) > 5 and "failed" not in fields and float(fields[4]) + float(fields[5]) / 1e6 >= began:
                latencies.append(int(fields[2]) / 1000)
    errors.seek(0)
    failed += sum("aborted" in line or "ERROR" in line for line in errors)
    return {
        "seconds": ended - began,
        "lock": longest(folder / "locks"),
        "statements": len(latencies),
        "slowest": max(latencies, default=0),
        "slow": sum(latency > 100 for latency in latencies),
        "failed": failed + died,
    }


def longest(file):
    """Milliseconds of the longest time in which each look found such a lock."""
    best, since, last = 0.0, None, None
    for line in open(file):
        fields = line.strip().split("|")
        if len(fields) != 2:
            continue
        at, held = float(fields[0]), fields[1] != "0"
        # A look that had to wait is the time from the one before.
        since = (last if last else at) if held and since is None else since if held else None
        if since is not None:
            best = max(best, at - since)
        last = at
    return best * 1000


def cloison(server, database, *words):
    done = subprocess.run(
        [CLOISON, *words, "--database-url", server.url(database)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    if done.returncode not in (0, 2):
        raise SystemExit(done.stderr)


def main():
    with Server() as server:
        rows = []
        for database in ("plain", "adopted"):
            server.psql("postgres", f"create database {database}")
            server.psql(database, SETUP)
        rows.append(("plain ALTER", measured(server, "plain", SCRIPTS, lambda: server.psql("plain", PLAIN))))
        cloison(server, "adopted", "install", "--no-harden")
        mapping = server.folder / "mapping.toml"
        mapping.write_text(MAPPING)
        adopt = ("adopt", "--mapping", str(mapping), "--apply")
        for stage in ("expand", "contract"):
            work = lambda: cloison(server, "adopted", *adopt, "--stop-after", stage)
            rows.append((f"adopt, {stage}", measured(server, "adopted", SCRIPTS, work)))
        rows.append(("adopt, protect", measured(server, "adopted", AS_TENANT, lambda: cloison(server, "adopted", *adopt))))
        wrong = server.psql(
            "adopted",
            "select count(*) from orders o join accounts a on a.id = o.account_id"
            " where o.organisation_id <> a.organisation_id or o.organisation_id is null",
        )
        version = server.psql("postgres", "show server_version")
    print(f"{ROWS:,} rows, {WRITERS} writers, Postgres {version}, rows of another tenant: {wrong}\n")
    print("| | took | longest lock | statements | slowest | over 100 ms | failed |\n|---|---|---|---|---|---|---|")
    for name, row in rows:
        print(
            f"| {name} | {row['seconds']:.1f} s | {row['lock']:.0f} ms | {row['statements']:,} |"
            f" {row['slowest']:.0f} ms | {row['slow']} | {row['failed']} |"
        )


main()
