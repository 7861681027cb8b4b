"""The test stand: a private Postgres and everything that is measured against it.

`Stand` is a context manager. All that it starts ends with it, and all that it writes lies in one
folder below /tmp, which is removed.
"""

import glob
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

HERE = Path(__file__).resolve().parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target")) / "release"
LOAD = TARGET / "examples" / "load"
TENANTS = 100  # that are active
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Endpoint:
    """Something that speaks Postgres' protocol, and the process that is charged for it."""

    name: str
    port: int
    database: str
    pid: int = 0
    password: str = ""
    notes: dict = field(default_factory=dict)

    def at(self, database):
        return replace(self, database=database)


def binaries():
    """The folder of Postgres' programs: CLOISON_PG_BIN, PATH, or Debian's newest."""
    folders = [os.environ.get("CLOISON_PG_BIN"), os.path.dirname(shutil.which("initdb") or "")]
    debian = glob.glob("/usr/lib/postgresql/*/bin")
    folders += sorted(debian, key=lambda folder: int(folder.split("/")[-2]), reverse=True)
    for folder in filter(None, folders):
        if all(os.path.exists(f"{folder}/{name}") for name in ("initdb", "postgres", "pgbench")):
            return Path(folder)
    raise SystemExit("no initdb, postgres and pgbench found: name their folder in CLOISON_PG_BIN")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def stat(pid):
    """Ticks of CPU: of the process itself with all its threads, and of its children that ended."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])


def cpu(pid):
    """Seconds of CPU, user and system, of a process and all its threads."""
    return stat(pid)[0] / TICKS


def cpu_with_children(pid):
    """The same with its children, those that have ended too."""
    while True:
        children = children_of(pid)
        try:
            ticks = sum(stat(child)[0] for child in children) + sum(stat(pid))
        except OSError:
            continue
        # One that ended meanwhile would be missing, or be there twice.
        if children_of(pid) == children:
            return ticks / TICKS


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def busy():
    """Seconds of CPU that the whole machine has spent."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, softirq, steal = map(int, file.readline().split()[1:9])
    return (user + nice + system + irq + softirq + steal) / TICKS


def private_kib(pid):
    """Memory that belongs to this process alone."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("Private_"))


class Stand:
    def __init__(self, pool_mode, pool_size, pgbouncer):
        self.pool_mode, self.pool_size = pool_mode, pool_size
        self.pgbouncer_program = pgbouncer
        self.bin = binaries()
        self.processes = []

    def __enter__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="cloison-bench-", dir="/tmp"))
        self.folder.chmod(0o755)
        try:
            self.start_postgres()
            self.make_tokens()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            self.stop(process)
        shutil.rmtree(self.folder, ignore_errors=True)

    # Processes

    def account(self):
        """Postgres and PgBouncer refuse to run as root."""
        if os.geteuid() != 0:
            return {}
        for name in ("postgres", "nobody"):
            try:
                user = pwd.getpwnam(name)
            except KeyError:
                continue
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        raise SystemExit("no user `postgres` or `nobody` to run Postgres as")

    def spawn(self, name, command, port, **options):
        """Starts a server, and waits until it listens."""
        log = open(self.folder / f"{name}.log", "ab")
        process = subprocess.Popen(
            [str(word) for word in command], stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            cwd="/tmp", **options)
        self.processes.append(process)
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    return process
            time.sleep(0.02)
        raise SystemExit(f"{name} does not start:\n" + Path(log.name).read_text())

    def stop(self, process):
        if process in self.processes:
            self.processes.remove(process)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    # Postgres

    def start_postgres(self):
        data, account = self.folder / "data", self.account()
        data.mkdir()
        if account:
            os.chown(data, account["user"], account["group"])
        subprocess.run(
            [self.bin / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "--no-sync",
             "--encoding=UTF8", "--locale=C"],
            check=True, stdout=subprocess.DEVNULL, cwd="/tmp", **account)
        self.port = free_port()
        settings = {
            "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
            "shared_buffers": "512MB", "max_connections": 500, "autovacuum": "off",
            "max_wal_size": "4GB",
        }
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        self.postgres = self.spawn(
            "postgres", [self.bin / "postgres", "-D", data, "-p", self.port, *words], self.port,
            **account)
        while subprocess.run([self.bin / "pg_isready", "-q", "-h", "127.0.0.1",
                              "-p", str(self.port)]).returncode:
            time.sleep(0.05)
        self.psql("postgres", "create role bench_plain login")

    def url(self, database):
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}?sslmode=disable"

    def psql(self, database, sql=None, *words):
        command = [self.bin / "psql", "-qX", "-v", "ON_ERROR_STOP=1", *words]
        command += ["-c", sql] if sql else []
        subprocess.run([*command, self.url(database)], check=True, stdout=subprocess.DEVNULL)

    def make_database(self, name, tenants):
        """A database with the kit, and tables of `tenants` tenants."""
        self.psql("postgres", f"create database {name}")
        subprocess.run([TARGET / "cloison", "install", "--database-url", self.url(name)],
                       check=True, stdout=subprocess.DEVNULL)
        if name == "app":
            for role, group in (("bench_tenant", "tenant"), ("bench_proxy", "control")):
                self.psql(name, f"create role {role} login in role cloison_{group}")
        self.psql(name, None, "-v", f"tenants={tenants}", "-f", str(HERE / "setup.sql"))
        self.psql(name, "vacuum analyze")

    def make_pgbench_tables(self, database, protect):
        subprocess.run(
            [self.bin / "pgbench", "-iq", "-s", "10", "-h", "127.0.0.1", "-p", str(self.port),
             "-U", "postgres", database],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for table in ("accounts", "branches", "tellers", "history"):
            if protect:
                self.psql(database, f"select cloison.protect('pgbench_{table}', "
                                    f"existing_rows_to => '{self.tenant(1)}')")
            else:
                self.psql(database, f"grant select on pgbench_{table} to bench_plain")
        if protect:
            self.psql(database, f"""
                create function bench_bind() returns void security definer language sql
                    set search_path = pg_catalog, pg_temp
                    begin atomic select cloison.set_tenant('{self.tenant(1)}'); end""")
        self.psql(database, "vacuum analyze")

    # Tenants

    @staticmethod
    def tenant(number):
        return f"00000000-0000-4000-8000-{number:012}"

    def make_tokens(self):
        """A key, and a token for each active tenant."""
        key, self.public_key = self.folder / "key.pem", self.folder / "public.pem"
        for command in (
            f"genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {key}",
            f"pkey -in {key} -pubout -out {self.public_key}",
        ):
            subprocess.run(["openssl", *command.split()], check=True, stderr=subprocess.DEVNULL)
        key.chmod(0o600)
        self.tokens = [
            subprocess.run(
                [TARGET / "cloison", "token", "--key", key, "--tenant", self.tenant(number),
                 "--issuer", "bench", "--audience", "bench", "--ttl", "12h"],
                check=True, capture_output=True, text=True).stdout.strip()
            for number in range(1, TENANTS + 1)
        ]

    def tenants_file(self, count=TENANTS):
        path = self.folder / f"tenants-{count}"
        path.write_text("".join(
            f"{self.tenant(number)} {token}\n"
            for number, token in enumerate(self.tokens[:count], 1)))
        return path

    # Endpoints

    def direct(self):
        return Endpoint("direct", self.port, "plain")

    def relay(self):
        port = free_port()
        process = self.spawn("relay", [
            TARGET / "examples" / "relay", f"127.0.0.1:{port}", f"127.0.0.1:{self.port}"], port)
        return Endpoint("bare relay", port, "plain", process.pid)

    def pgbouncer_version(self):
        if not self.pgbouncer_program:
            return None
        output = subprocess.run([self.pgbouncer_program, "--version"], capture_output=True)
        found = re.search(r"PgBouncer (\d+)\.(\d+)\.(\d+)", output.stdout.decode())
        return tuple(map(int, found.groups())) if found else None

    def pgbouncer(self):
        version, port = self.pgbouncer_version(), free_port()
        users, ini = self.folder / "users.txt", self.folder / "pgbouncer.ini"
        users.write_text('"bench_plain" ""\n')
        prepared = "max_prepared_statements = 200" if version >= (1, 21, 0) else ""
        ini.write_text(f"""
            [databases]
            bound = host=127.0.0.1 port={self.port} dbname=app user=bench_tenant connect_query='select bench_bind()'
            * = host=127.0.0.1 port={self.port}
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {port}
            unix_socket_dir =
            auth_type = trust
            auth_file = {users}
            pool_mode = transaction
            default_pool_size = {self.pool_size if self.pool_mode == "transaction" else 16}
            max_client_conn = 12000
            log_connections = 0
            log_disconnections = 0
            ignore_startup_parameters = extra_float_digits
            {prepared}
        """.replace("\n" + 12 * " ", "\n"))
        process = self.spawn("pgbouncer", [self.pgbouncer_program, ini], port, **self.account())
        name = "PgBouncer " + ".".join(map(str, version[:2]))
        return Endpoint(name, port, "plain", process.pid, notes={"prepared": bool(prepared)})

    def cloison(self, database="app", statement_filter="on"):
        name = f"cloison-{database}-{statement_filter}"
        port, config = free_port(), self.folder / f"{name}.toml"
        config.write_text(f"""
            listen_port = {port}
            pool_mode = "{self.pool_mode}"
            default_pool_size = {self.pool_size}
            max_client_conn = 12000
            server_tls_sslmode = "disable"
            log_filter = "error"
            statement_filter = "{statement_filter}"
            # Some of the tables here are open to tenants on purpose.
            lint = "warn"
            [server]
            host = "127.0.0.1"
            port = {self.port}
            database = "{database}"
            [control]
            user = "bench_proxy"
            [pools.tenant]
            user = "bench_tenant"
            [issuers.bench]
            issuer = "bench"
            audience = "bench"
            algorithms = ["ES256"]
            public_key_file = "{self.public_key}"
        """)
        process = self.spawn(name, [TARGET / "cloison", "serve", "--config", config], port)
        called = "Cloison" if statement_filter == "on" else "Cloison, no filter"
        return Endpoint(called, port, database, process.pid, self.tokens[0])

    @contextmanager
    def running(self, *starters):
        """Endpoints of their own, for as long as the block takes."""
        before = list(self.processes)
        try:
            yield [start() for start in starters]
        finally:
            for process in [process for process in self.processes if process not in before]:
                self.stop(process)


class Load:
    """A run of benches/load.rs; `go` begins it when everything else is ready."""

    def __init__(self, stand, endpoint, script, *words, tenants=TENANTS):
        user = "bench_tenant" if endpoint.password else "bench_plain"
        self.process = subprocess.Popen(
            [str(word) for word in (
                LOAD, "--address", f"127.0.0.1:{endpoint.port}", "--database", endpoint.database,
                "--user", user, "--tenants", stand.tenants_file(tenants),
                "--script", HERE / "pgbench" / f"{script}.sql", *words)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.line()

    def line(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.stderr.read().strip() or "the load ended")
        return line

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        return self.line()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
        self.process.stderr.close()
