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
    url: str
    narrow: str
    own: str
    other: str


SIDES = [
    Side("a", os.environ["TENANT_A_URL"], os.environ["NARROW_A_URL"], A, B),
    Side("b", os.environ["TENANT_B_URL"], os.environ["NARROW_B_URL"], B, A),
]
SUPERADMIN_URL = os.environ["SUPERADMIN_URL"]
OWNER_URL = os.environ["OWNER_URL"]
EXPIRED_URL = os.environ["EXPIRED_URL"]
FORGED_URL = os.environ["FORGED_URL"]

ONLY = "select distinct tenant_id::text from projects"
TWICE = "insert into crm_leads (full_name, email) select full_name, email from crm_leads"

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


def finish():
    print(f"passed {passed}", flush=True)
