"""SASL OAUTHBEARER with libpq 18 itself, the one in psycopg's wheel, through its own hook for tokens.

libpq's built-in way to a token (the device flow, in a module beside it) is not in that wheel: the
hook stands in its place, as it does in programs that have a token already.
"""

import ctypes
import glob
import os
import sys

HOST, PORT = os.environ["OAUTH_LISTEN"].rsplit(":", 1)
PASSWORD_HOST, PASSWORD_PORT = os.environ["PASSWORD_LISTEN"].rsplit(":", 1)
ISSUER = os.environ["OAUTH_ISSUER"]
WELL_KNOWN = ISSUER + "/.well-known/openid-configuration"

# What psycopg's wheel links its libpq with comes along; importing psycopg loads it.
import psycopg  # noqa: E402,F401
import psycopg_binary  # noqa: E402

libraries = os.path.join(os.path.dirname(os.path.dirname(psycopg_binary.__file__)), "psycopg_binary.libs")
[path] = glob.glob(os.path.join(libraries, "libpq-*.so*"))
libpq = ctypes.CDLL(path)

BEARER_TOKEN = 1


class Request(ctypes.Structure):
    """PGoauthBearerRequest of libpq-fe.h."""

    _fields_ = [
        ("openid_configuration", ctypes.c_char_p),
        ("scope", ctypes.c_char_p),
        ("async_", ctypes.c_void_p),
        ("cleanup", ctypes.c_void_p),
        ("token", ctypes.c_char_p),
        ("user", ctypes.c_void_p),
    ]


HOOK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Request))
libpq.PQsetAuthDataHook.argtypes = [HOOK]
libpq.PQsetAuthDataHook.restype = None
libpq.PQconnectdb.argtypes = [ctypes.c_char_p]
libpq.PQconnectdb.restype = ctypes.c_void_p
libpq.PQstatus.argtypes = [ctypes.c_void_p]
libpq.PQerrorMessage.argtypes = [ctypes.c_void_p]
libpq.PQerrorMessage.restype = ctypes.c_char_p
libpq.PQfinish.argtypes = [ctypes.c_void_p]
libpq.PQexec.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
libpq.PQexec.restype = ctypes.c_void_p
libpq.PQgetvalue.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int]
libpq.PQgetvalue.restype = ctypes.c_char_p
libpq.PQclear.argtypes = [ctypes.c_void_p]

passed = 0


def check(what, got, expected):
    global passed
    assert got == expected, f"{what}: {got!r}, not {expected!r}"
    passed += 1
    print(f"ok  {what}")


token = None
asked = []
# Held here, because libpq reads it after the hook has returned.
held = None


@HOOK
def hook(kind, _connection, request):
    global held
    if kind != BEARER_TOKEN or token is None:
        return 0
    asked.append((request.contents.openid_configuration, request.contents.scope))
    held = ctypes.create_string_buffer(token.encode())
    request.contents.token = ctypes.cast(held, ctypes.c_char_p)
    return 1


libpq.PQsetAuthDataHook(hook)


def connect(**more):
    options = {"host": HOST, "port": PORT, "user": "app", "dbname": "app", **more}
    text = " ".join(f"{name}='{value}'" for name, value in options.items())
    connection = libpq.PQconnectdb(text.encode())
    if libpq.PQstatus(connection) != 0:
        error = libpq.PQerrorMessage(connection).decode()
        libpq.PQfinish(connection)
        raise ConnectionError(error)
    result = libpq.PQexec(connection, b"select string_agg(distinct tenant_id::text, ',') from projects")
    tenant = libpq.PQgetvalue(result, 0, 0).decode()
    libpq.PQclear(result)
    libpq.PQfinish(connection)
    return tenant


def refused(**more):
    try:
        connect(**more)
    except ConnectionError as error:
        return str(error)
    raise AssertionError("accepted")


check("libpq 18", libpq.PQlibVersion() // 10000, 18)
oauth = {"oauth_issuer": ISSUER, "oauth_client_id": "psql"}

for side in ("A", "B"):
    token = os.environ[f"TOKEN_{side}"]
    # It asks first where to get a token, and comes again with one.
    asked.clear()
    check(f"by the issuer, as tenant {side}", connect(**oauth), os.environ[f"TENANT_{side}"])
    check("the place and the scope are those that it was told", asked, [(WELL_KNOWN.encode(), b"openid sql")])
    # It knows the place, and comes with its token at once.
    known = {**oauth, "oauth_issuer": WELL_KNOWN}
    check(f"by the document, as tenant {side}", connect(**known), os.environ[f"TENANT_{side}"])
    check("nothing else is accepted", connect(**oauth, require_auth="oauth"), os.environ[f"TENANT_{side}"])

token = os.environ["EXPIRED"]
check("an expired token is told", "token has expired" in refused(**oauth), True)
token = "nonsense"
check("nonsense is told", "not a well-formed JWT" in refused(**oauth), True)
token = os.environ["TOKEN_A"]
other = {**oauth, "oauth_issuer": "https://other.example"}
check("libpq takes no token to a server of another issuer", "oauth_issuer" in refused(**other), True)
check("without an issuer it does not try", "oauth_issuer" in refused(), True)
check("nor with a password", "authentication method requirement" in refused(require_auth="password", password=token), True)

# At the other port it is a password, as for every driver.
password = {"host": PASSWORD_HOST, "port": PASSWORD_PORT, "password": token}
check("a token as a password", connect(**password), os.environ["TENANT_A"])
check("and with OAuth configured", connect(**password, **oauth), os.environ["TENANT_A"])
check("which does not insist", "oauth" in refused(**password, **oauth, require_auth="oauth"), True)

print(f"passed {passed}")
sys.stdout.flush()
# The interpreter's end unloads nothing that libpq may call.
os._exit(0)
