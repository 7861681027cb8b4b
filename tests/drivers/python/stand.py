"""What the Python scripts share: where everything is, and checks."""

import os
import re
from dataclasses import dataclass

A = "d0000000-0000-4000-8000-000000000001"
B = "e0000000-0000-4000-8000-000000000001"


@dataclass(frozen=True)
class Side:
    """A tenant, and the one it must never see."""

    name: str
    # As everybody has it who changes nothing.
    url: str
    # Where the filter and hardening give tenants back what is tested for its own sake.
    freed: str
    # There, where what needs a session works, too.
    session: str
    # There, with one server connection for both tenants.
    narrow: str
    own: str
    other: str


def side(name, own, other):
    of = lambda kind: os.environ[f"{kind}_{name.upper()}_URL"]
    return Side(name, of("TENANT"), of("FREED"), of("SESSION"), of("NARROW"), own, other)


SIDES = [side("a", A, B), side("b", B, A)]
# Each transaction gets another server connection, and other clients keep them moving.
TRANSACTION = os.environ["POOL_MODE"] == "transaction"
SUPERADMIN_URL = os.environ["SUPERADMIN_URL"]
OWNER_URL = os.environ["OWNER_URL"]
EXPIRED_URL = os.environ["EXPIRED_URL"]
FORGED_URL = os.environ["FORGED_URL"]

ONLY = "select distinct tenant_id::text from projects"
TWICE = "insert into crm_leads (full_name, email) select full_name, email from crm_leads"

# What does not work when the server connection changes.
REFUSED = [
    "listen news",
    "create temporary table t (n integer)",
    "prepare p as select 1",
    "declare c cursor with hold for select 1",
    "select pg_advisory_lock(1)",
]
# What a client may ask for at startup, as it is shown.
WISHES = {
    "application_name": "wishful",
    "search_path": "public, pg_temp",
    "statement_timeout": "54321ms",
    "TimeZone": "Asia/Tokyo",
    "DateStyle": "German, DMY",
}
CHANGED = {
    "application_name": "changed",
    "search_path": "cloison, public",
    "statement_timeout": "12345ms",
    "TimeZone": "America/Lima",
    "DateStyle": "SQL, MDY",
}
SHOW = "select " + ", ".join(f"current_setting('{name}')" for name in WISHES)
# As libpq's options: blanks in a value are escaped.
OPTIONS = " ".join(f"-c {name}=" + value.replace(" ", "\\ ") for name, value in WISHES.items())
CHANGE = "; ".join(
    f"set {name} = " + (value if name == "search_path" else f"'{value}'") for name, value in CHANGED.items()
)

passed = 0


def check(what, got, expected):
    global passed
    if got != expected:
        print(f"FAILED  {what}: expected {expected!r}, got {got!r}", flush=True)
        # Also from a thread, and whatever the driver still waits for.
        os._exit(1)
    passed += 1
    print(f"ok  {what}", flush=True)


def check_in(what, part, whole):
    check(what, part if part in whole else whole, part)


def with_user(url, user):
    return re.sub(r"//[^:]*:", f"//{user}:", url)


def with_token(url, token):
    return re.sub(r":[^:@]*@", f":{token}@", url)


def check_moves(pids):
    """With other clients about, it takes a moment until somebody else has the connection."""
    seen = set()
    check("the server connection changes", any(seen.add(pid) or len(seen) > 1 for pid in pids), True)


async def check_moves_async(pid):
    seen = set()
    for _ in range(2000):
        seen.add(await pid())
        if len(seen) > 1:
            break
    check("the server connection changes", len(seen) > 1, True)


def finish():
    print(f"passed {passed}", flush=True)
