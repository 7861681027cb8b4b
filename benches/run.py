#!/usr/bin/env python3
"""Measures the proxy beside Postgres itself, a bare relay and PgBouncer. See README.md here."""

import json
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from datetime import date
from functools import partial

from stand import Load, Stand, busy, cpu, cpu_with_children, private_kib, HERE

QUICK = os.environ.get("QUICK") not in (None, "", "0")
ROUNDS = int(os.environ.get("ROUNDS", 2 if QUICK else 5))
SECONDS = float(os.environ.get("SECONDS_EACH", 1 if QUICK else 3))
CLIENTS = int(os.environ.get("CLIENTS", 16))
POOL_MODE = os.environ.get("POOL_MODE", "transaction")
POOL_SIZE = int(os.environ.get("POOL_SIZE", 16 if POOL_MODE == "transaction" else 128))
PGBOUNCER = os.environ.get("PGBOUNCER") or shutil.which("pgbouncer", path=(
    os.environ["PATH"] + ":/usr/sbin:/usr/local/sbin"))
LOGINS = 400 if QUICK else 1500
IDLE = (1000, 5000) if QUICK else (1000, 5000, 10000)
CORES = os.cpu_count()


class Report:
    """What was found, as Markdown: said at once, and kept for the run's file."""

    def __init__(self):
        self.text = ""

    def say(self, text=""):
        progress("")
        print(text, flush=True)
        self.text += text + "\n"

    def table(self, title, head, rows):
        rows = [head] + [[str(cell) for cell in row] for row in rows]
        widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
        self.say(f"\n## {title}\n")
        for number, row in enumerate(rows):
            cells = [cell.ljust(width) if at == 0 else cell.rjust(width)
                     for at, (cell, width) in enumerate(zip(row, widths))]
            self.say("| " + " | ".join(cells) + " |")
            if number == 0:
                self.say("|" + "|".join("-" * (width + 1) + (":" if at else "-")
                                        for at, width in enumerate(widths)) + "|")


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(f"  … {text}", file=sys.stderr, flush=True)


# One run


def measured(stand, endpoint, load):
    """Runs `load`, which answers transactions and tps, and adds what it cost whom."""
    postmaster, clients = stand.postgres.pid, resource.RUSAGE_CHILDREN

    def clocks():
        used = resource.getrusage(clients)
        return (cpu(endpoint.pid) if endpoint.pid else 0.0, cpu_with_children(postmaster),
                used.ru_utime + used.ru_stime, busy(), time.monotonic())

    before = clocks()
    transactions, tps, client = load()
    after = clocks()
    proxy, server, ended, machine, seconds = (b - a for a, b in zip(before, after))
    others = machine - proxy - server - (ended if client is None else client)
    return {"tps": tps, "proxy": proxy * 1e6 / transactions, "server": server * 1e6 / transactions,
            "others": max(0.0, others / seconds / CORES), "transactions": transactions}


def pgbench(stand, endpoint, protocol, seconds=None):
    environment = dict(os.environ, PGPASSWORD=endpoint.password, PGSSLMODE="disable",
                       PGGSSENCMODE="disable", LC_ALL="C")
    command = [stand.bin / "pgbench", "-n", "-S", "-M", protocol, "-c", CLIENTS, "-j", 1,
               "-T", max(1, round(seconds or SECONDS)), "-h", "127.0.0.1", "-p", endpoint.port,
               "-U", "bench_tenant" if endpoint.password else "bench_plain", endpoint.database]
    run = subprocess.run([str(word) for word in command], env=environment, text=True,
                         capture_output=True)
    count = re.search(r"actually processed: (\d+)", run.stdout)
    tps = re.search(r"tps = ([\d.]+)", run.stdout)
    if run.returncode or not count or not tps or "aborted" in run.stderr:
        raise RuntimeError((run.stderr or run.stdout).strip())
    return int(count[1]), float(tps[1]), None


def run_load(process):
    """A waiting load, with the CPU of its own, since it goes on living."""
    before = cpu(process.process.pid)
    found = json.loads(process.go())
    return found["transactions"], found["tps"], cpu(process.process.pid) - before


def rounds(title, cases):
    """Runs every case once a round, each round beginning with another."""
    found = {name: [] for name, _ in cases}
    for number in range(ROUNDS):
        turn = number % len(cases)
        for name, run in cases[turn:] + cases[:turn]:
            progress(f"{title}, round {number + 1} of {ROUNDS}: {name}")
            try:
                found[name].append({"round": number, **run()})
            except RuntimeError as error:
                progress("")
                print(f"! {title}, {name}: {error}", file=sys.stderr)
    return found


def middle(runs, key, digits=0, spread=True):
    values = [run[key] for run in runs]
    if not values:
        return "failed"
    text = f"{statistics.median(values):.{digits}f}"
    return text + f" [{min(values):.{digits}f}-{max(values):.{digits}f}]" if spread else text


def ratio(found, above, below):
    """The median of the rounds' own ratios, so that slow drift does not matter."""
    values = [a["tps"] / b["tps"] for a in found[above] for b in found[below]
              if a["round"] == b["round"]]
    return statistics.median(values) if values else float("nan")


COLUMNS = ["tps", "proxy CPU µs/tx", "server CPU µs/tx", "other load"]


def columns(runs, has_proxy=True):
    others = statistics.median(run["others"] for run in runs) if runs else 0
    return [middle(runs, "tps"), middle(runs, "proxy", 1) if has_proxy else "-",
            middle(runs, "server", 0, spread=False), f"{others:.0%}"]


# The sections


def through_pgbench(stand, report, endpoints, protocol):
    # A second row, of the same process: the server works as hard as it does for Cloison.
    endpoints = [row for endpoint in endpoints for row in (
        (endpoint, replace(endpoint, name=f"{endpoint.name}, bound", database="bound"))
        if endpoint.name.startswith("PgBouncer") else (endpoint,))]
    cases = [
        (endpoint.name, partial(measured, stand, endpoint,
                                partial(pgbench, stand, endpoint, protocol)))
        for endpoint in endpoints
        if protocol != "prepared" or endpoint.notes.get("prepared", True)
    ]
    found = rounds(protocol, cases)
    report.table(f"pgbench -S, {protocol} protocol, {CLIENTS} clients", ["endpoint", *COLUMNS], [
        [name, *columns(runs, name != "direct")] for name, runs in found.items()])
    if len(found) < len(endpoints):
        report.say("\nThis PgBouncer knows no prepared statements in transaction mode (1.21 does).")


def simple(stand, report, endpoints):
    through_pgbench(stand, report, endpoints, "simple")


def extended(stand, report, endpoints):
    through_pgbench(stand, report, endpoints, "extended")


def prepared(stand, report, endpoints):
    through_pgbench(stand, report, endpoints, "prepared")


def tenants(stand, report, endpoints):
    direct, pgbouncer, cloison = (
        next((endpoint.at("app") for endpoint in endpoints if endpoint.name.startswith(name)), None)
        for name in ("direct", "PgBouncer", "Cloison"))
    kinds = [("protected", cloison, "protected"), ("plain", cloison, "plain"),
             ("plain", pgbouncer, "plain"), ("recipe", pgbouncer, "recipe"),
             ("plain", direct, "plain"), ("recipe", direct, "recipe")]

    def run(endpoint, script):
        words = ["--seconds", SECONDS, "--in-flight", CLIENTS]
        if endpoint is direct:
            words += ["--connections", CLIENTS, "--any-tenant"]
        with Load(stand, endpoint, script, *words) as load:
            return measured(stand, endpoint, partial(run_load, load))

    cases = [(f"{kind}, {endpoint.name}", partial(run, endpoint, script))
             for kind, endpoint, script in kinds if endpoint]
    found = rounds("one SELECT of a random tenant", cases)
    report.table(
        f"One SELECT a transaction, a random tenant of 100, {CLIENTS} at a time, simple protocol",
        ["statement", *COLUMNS],
        [[name, *columns(runs, "direct" not in name)] for name, runs in found.items()])
    against = ratio(found, "protected, Cloison", "plain, Cloison")
    report.say(f"\nprotected / plain, both through Cloison: {against:.2f} (target: at least 0.80)")
    if pgbouncer:
        against = ratio(found, "protected, Cloison", f"recipe, {pgbouncer.name}")
        report.say(f"\nprotected through Cloison / recipe through PgBouncer: {against:.2f}"
                   " (target: at least 2.5)")


def logins(stand, report, endpoints):
    def run(endpoint, script):
        with Load(stand, endpoint, script, "--logins", LOGINS, "--in-flight", 4) as load:
            return measured(stand, endpoint, partial(run_load, load))

    cases = [(f"{endpoint.name} ({how})", partial(run, endpoint.at("app"), script))
             for endpoint in endpoints for prefix, how, script in
             (("PgBouncer", "trust", "plain"), ("Cloison", "JWT, ES256", "protected"))
             if endpoint.name.startswith(prefix) and "," not in endpoint.name]
    found = rounds("logins", cases)
    report.table(f"A login and one query, {LOGINS} a round, 4 at a time",
                 ["endpoint", "connections/s", "proxy CPU µs/connection",
                  "server CPU µs/connection", "other load"],
                 [[name, *columns(runs)] for name, runs in found.items()])


def growth(stand, report, _endpoints):
    sizes = (10, 1000, 100000)
    for size in sizes:
        progress(f"a database with {size:,} tenants")
        stand.make_database(f"tenants_{size}", size)

    def run(endpoint, size):
        with Load(stand, endpoint, "protected", "--seconds", SECONDS, "--in-flight", CLIENTS,
                  tenants=min(size, 100)) as load:
            return measured(stand, endpoint, partial(run_load, load))

    with stand.running(*(partial(stand.cloison, f"tenants_{size}") for size in sizes)) as proxies:
        cases = [(f"{size:,}", partial(run, proxy, size)) for size, proxy in zip(sizes, proxies)]
        found = rounds("growth", cases)
    rows = [[name, *columns(runs), f"{ratio(found, name, '1,000'):.2f}"]
            for name, runs in found.items()]
    report.table("The protected SELECT as tenants grow, 100 of them active",
                 ["tenants", *COLUMNS, "of 1,000"], rows)


def idle(stand, report, _endpoints):
    rows = []
    starters = [("plain", stand.pgbouncer)] if PGBOUNCER else []
    for script, start in [*starters, ("protected", stand.cloison)]:
        # Sessions of their own processes, which have served nobody before.
        with stand.running(start) as (endpoint,):
            if script == "protected" and POOL_MODE != "transaction":
                rows.append([endpoint.name, "needs pool_mode = transaction", "", "", ""])
                continue
            empty, loads = private_kib(endpoint.pid), []
            try:
                for count in IDLE:
                    progress(f"idle clients: {endpoint.name}, {count}")
                    more = count - sum(connections for _, connections in loads)
                    loads.append((Load(stand, endpoint.at("app"), script, "--connections", more),
                                  more))
                    time.sleep(1)
                    now = private_kib(endpoint.pid)
                    rows.append([endpoint.name, f"{count:,}", f"{empty / 1024:.1f}",
                                 f"{now / 1024:.1f}", f"{(now - empty) / count:.2f}"])
            except RuntimeError as error:
                rows.append([endpoint.name, f"failed: {error}", "", "", ""])
            finally:
                for load, _ in loads:
                    load.__exit__()
    report.table("Memory with idle clients, each logged in and one query done",
                 ["endpoint", "clients", "empty, MiB", "then, MiB", "KiB a client"], rows)


CALLS = {
    "receive": ("recvfrom", "recvmsg", "read", "readv"),
    "send": ("sendto", "sendmsg", "write", "writev"),
    "wait": ("epoll_wait", "epoll_pwait", "epoll_pwait2"),
}


def syscalls(stand, report, endpoints):
    """By the kernel's tracepoints: strace would slow the endpoint down, and so hide its waits."""
    events = ["raw_syscalls:sys_enter"]
    events += [f"syscalls:sys_enter_{call}" for calls in CALLS.values() for call in calls]
    rows = []
    for protocol in ("simple", "prepared"):
        for endpoint in endpoints:
            if not endpoint.pid or not endpoint.notes.get(protocol, True):
                continue
            progress(f"system calls: {endpoint.name}, {protocol}")
            try:
                tracer = subprocess.Popen(
                    ["perf", "stat", "-x,", "-e", ",".join(events), "-p", str(endpoint.pid)],
                    stderr=subprocess.PIPE, text=True)
            except FileNotFoundError:
                return report.say("\nSystem calls were not counted: `perf` is not installed.")
            time.sleep(0.5)
            try:
                transactions, _, _ = pgbench(stand, endpoint, protocol, 1)
            except RuntimeError as error:
                print(f"! system calls, {endpoint.name}, {protocol}: {error}", file=sys.stderr)
                transactions = None
            tracer.send_signal(signal.SIGINT)
            text = tracer.communicate()[1]
            if not transactions:
                continue
            counts = {event: float(count) for count, event in
                      re.findall(r"^(\d+),[^,]*,(?:raw_)?syscalls:sys_enter_?(\w*),", text, re.M)}
            if "" not in counts:
                return report.say("\nSystem calls were not counted: perf may not trace here.")
            kinds = [sum(counts.get(call, 0) for call in calls) for calls in CALLS.values()]
            each = [counts[""], *kinds, counts[""] - sum(kinds)]
            rows.append([f"{endpoint.name}, {protocol}",
                         *(f"{count / transactions:.2f}" for count in each)])
    report.table(f"System calls of the proxy a transaction, pgbench -S, {CLIENTS} clients",
                 ["endpoint", "all", *CALLS, "others"], rows)


SECTIONS = [simple, extended, prepared, tenants, idle, logins, growth, syscalls]


def first(pattern, path):
    found = re.search(pattern, open(path).read(), re.M)
    return found[1].strip() if found else "unknown"


def conditions(stand):
    def output(*command):
        return subprocess.run(command, capture_output=True, text=True, cwd=HERE).stdout.strip()

    model = first(r"^model name\s*: (.*)$", "/proc/cpuinfo")
    memory = int(first(r"^MemTotal:\s*(\d+)", "/proc/meminfo")) / 2**20
    version = stand.pgbouncer_version()
    pgbouncer = "PgBouncer " + ".".join(map(str, version)) if version else "no PgBouncer"
    return model, [
        f"{model}, {CORES} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}",
        output(str(stand.bin / "postgres"), "--version") + ", fsync off, shared_buffers 512MB",
        f"{pgbouncer}, transaction mode; the bare relay (benches/relay.rs)",
        f"Cloison {output('git', 'describe', '--always', '--dirty')}, pool_mode {POOL_MODE}, "
        f"pool of {POOL_SIZE}",
        f"{ROUNDS} rounds of {SECONDS:g} s, medians [smallest-largest]; everything on loopback",
    ]


def main():
    chosen = os.environ.get("ONLY", "").replace(",", " ").split()
    unknown = set(chosen) - {section.__name__ for section in SECTIONS}
    if unknown:
        raise SystemExit(f"ONLY knows no {', '.join(unknown)}: "
                         + ", ".join(section.__name__ for section in SECTIONS))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # The idle clients are a file each, here and in the endpoints.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report, begun = Report(), time.monotonic()
    progress("starting Postgres")
    with Stand(POOL_MODE, POOL_SIZE, PGBOUNCER) as stand:
        progress("making the databases")
        stand.psql("postgres", "create database plain")
        stand.make_pgbench_tables("plain", protect=False)
        stand.make_database("app", 100)
        stand.make_pgbench_tables("app", protect=True)
        endpoints = [stand.direct(), stand.relay()]
        if PGBOUNCER:
            endpoints.append(stand.pgbouncer())
        endpoints += [stand.cloison(), stand.cloison(statement_filter="off")]
        model, lines = conditions(stand)
        report.say(f"# A run of {date.today()}\n")
        for line in lines:
            report.say(f"- {line}")
        for section in SECTIONS:
            if not chosen or section.__name__ in chosen:
                section(stand, report, endpoints)
    report.say(f"\n{time.monotonic() - begun:.0f} s in all.")
    if not QUICK and not chosen:
        machine = re.sub(r"[^a-z0-9]+", "-", re.sub(r"\(.*?\)", "", model).lower()).strip("-")
        path = HERE / "runs" / f"{date.today()}-{CORES}x-{machine}.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(report.text)
        print(f"\nwritten to {path.relative_to(HERE.parent)}")


if __name__ == "__main__":
    main()
