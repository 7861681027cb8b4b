// Everyday work of libpq's pipeline mode, as two tenants by turns.

#include <libpq-fe.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// More than the proxy takes answers for at once.
#define MANY 12000

static const char *ONLY = "select distinct tenant_id::text from projects";
static const char *INSERT =
    "insert into crm_leads (full_name, email) values ($1, $2) returning tenant_id";

static int passed;
static const char *mode;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    printf("FAILED  ");
    vprintf(format, arguments);
    printf("\n");
    exit(1);
}

static void ok(const char *what) {
    passed += 1;
    printf("ok  %s\n", what);
}

static void is(const char *what, const char *got, const char *expected) {
    if (got == NULL || strcmp(got, expected) != 0) {
        fail("%s: expected %s, got %s", what, expected, got == NULL ? "nothing" : got);
    }
    ok(what);
}

static const char *need(const char *prefix, const char *tenant) {
    char name[64];
    snprintf(name, sizeof name, "%s%s_URL", prefix, tenant);
    const char *value = getenv(name);
    if (value == NULL) {
        fail("%s is not set", name);
    }
    return value;
}

static PGconn *connected(const char *url) {
    PGconn *connection = PQconnectdb(url);
    if (PQstatus(connection) != CONNECTION_OK) {
        fail("%s", PQerrorMessage(connection));
    }
    return connection;
}

static void must(PGconn *connection, int done) {
    if (!done) {
        fail("%s", PQerrorMessage(connection));
    }
}

static PGresult *checked(const char *what, PGresult *result, ExecStatusType expected) {
    if (PQresultStatus(result) != expected) {
        fail("%s: expected %s, got %s %s", what, PQresStatus(expected),
             PQresStatus(PQresultStatus(result)), PQresultErrorMessage(result));
    }
    return result;
}

// The next result of a pipeline; behind each there is none.
static PGresult *next(PGconn *connection, const char *what, ExecStatusType expected) {
    PGresult *result = checked(what, PQgetResult(connection), expected);
    if (expected != PGRES_PIPELINE_SYNC && PQgetResult(connection) != NULL) {
        fail("%s: one result too many", what);
    }
    return result;
}

static void refused(PGconn *connection, const char *what, const char *state) {
    PGresult *result = next(connection, what, PGRES_FATAL_ERROR);
    is(what, PQresultErrorField(result, PG_DIAG_SQLSTATE), state);
    PQclear(result);
}

static void value(PGconn *connection, const char *what, const char *expected) {
    PGresult *result = next(connection, what, PGRES_TUPLES_OK);
    is(what, PQgetvalue(result, 0, 0), expected);
    PQclear(result);
}

static void plain(PGconn *connection, const char *what, ExecStatusType expected) {
    PQclear(next(connection, what, expected));
}

static void ask(PGconn *connection, const char *text) {
    must(connection, PQsendQueryParams(connection, text, 0, NULL, NULL, NULL, NULL, 0));
}

static void insert(PGconn *connection, int number) {
    char email[80];
    snprintf(email, sizeof email, "%d@libpq_%s.example.org", number, mode);
    const char *values[] = {"libpq", email};
    must(connection, PQsendQueryPrepared(connection, "insert", 2, values, NULL, NULL, 0));
}

// A statement is prepared and used in one pipeline, next to others, with one Sync.
static void one_sync(PGconn *c, const char *own) {
    must(c, PQsendPrepare(c, "insert", INSERT, 0, NULL));
    ask(c, "begin");
    insert(c, 1);
    must(c, PQsendDescribePrepared(c, "insert"));
    ask(c, ONLY);
    ask(c, "rollback");
    ask(c, "select count(*) from crm_leads where full_name = 'libpq'");
    must(c, PQpipelineSync(c));
    plain(c, "prepared", PGRES_COMMAND_OK);
    plain(c, "begin", PGRES_COMMAND_OK);
    value(c, "insert is given its tenant", own);
    PGresult *described = next(c, "described", PGRES_COMMAND_OK);
    is("what it looks like", PQfname(described, 0), "tenant_id");
    PQclear(described);
    value(c, "its own rows", own);
    plain(c, "rollback", PGRES_COMMAND_OK);
    value(c, "nothing stays", "0");
    PQclear(next(c, "the Sync", PGRES_PIPELINE_SYNC));
}

// An error takes what follows up to the Sync with it, and nothing of the next part.
static void errors(PGconn *c, const char *own, const char *other) {
    char foreign[200];
    snprintf(foreign, sizeof foreign,
             "insert into crm_leads (tenant_id, full_name, email) values ('%s', 'x', 'x')", other);
    insert(c, 2);
    ask(c, foreign);
    ask(c, ONLY);
    must(c, PQpipelineSync(c));
    ask(c, "select no_such from projects");
    must(c, PQpipelineSync(c));
    ask(c, "select count(*) from crm_leads where full_name = 'libpq'");
    ask(c, ONLY);
    must(c, PQpipelineSync(c));
    value(c, "before the error", own);
    refused(c, "another tenant's row", "42501");
    plain(c, "left out", PGRES_PIPELINE_ABORTED);
    PQclear(next(c, "the Sync", PGRES_PIPELINE_SYNC));
    refused(c, "an unknown column", "42703");
    PQclear(next(c, "the Sync", PGRES_PIPELINE_SYNC));
    value(c, "what came before the error is undone", "0");
    value(c, "its own rows", own);
    PQclear(next(c, "the Sync", PGRES_PIPELINE_SYNC));
}

// Sends and reads by turns, as a program has to that may not block.
static void many(PGconn *c, const char *own) {
    int sent = 0, received = 0, synced = 0;
    must(c, PQsetnonblocking(c, 1) == 0);
    ask(c, "begin");
    while (!synced) {
        struct pollfd on = {.fd = PQsocket(c), .events = POLLIN};
        int waits = PQflush(c);
        must(c, waits >= 0);
        if (waits > 0 || sent < MANY) {
            on.events |= POLLOUT;
        }
        must(c, poll(&on, 1, 60000) > 0);
        if (on.revents & POLLIN) {
            must(c, PQconsumeInput(c));
        }
        // One behind another; libpq keeps what does not go out at once.
        for (int n = 0; waits == 0 && n < 500 && sent < MANY; n += 1) {
            insert(c, sent);
            sent += 1;
            if (sent == MANY) {
                ask(c, "rollback");
                must(c, PQpipelineSync(c));
            }
        }
        // Behind each result there is none; two of these mean that nothing has been asked.
        for (int nothing = 0; !synced && nothing < 2 && !PQisBusy(c);) {
            PGresult *result = PQgetResult(c);
            nothing = result == NULL ? nothing + 1 : 0;
            if (result == NULL) {
                continue;
            }
            synced = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
            if (received > 0 && received <= MANY && strcmp(PQgetvalue(result, 0, 0), own) != 0) {
                fail("row %d of a pipeline is not its own: %s", received, PQresultErrorMessage(result));
            }
            received += 1;
            PQclear(result);
        }
    }
    must(c, received == MANY + 3);
    must(c, PQsetnonblocking(c, 0) == 0);
    ok("many rows with one Sync");
}

// Flush instead of Sync: the answers come, and the transaction goes on.
static void flushes(PGconn *c, const char *own) {
    ask(c, ONLY);
    must(c, PQsendFlushRequest(c));
    must(c, PQflush(c) == 0);
    value(c, "an answer without a Sync", own);
    insert(c, 3);
    must(c, PQsendFlushRequest(c));
    must(c, PQflush(c) == 0);
    value(c, "and another", own);
    ask(c, "select 1 / 0");
    must(c, PQpipelineSync(c));
    refused(c, "an error", "22012");
    PQclear(next(c, "the Sync", PGRES_PIPELINE_SYNC));
    // Row by row.
    ask(c, "select p.tenant_id from generate_series(1, 500), (select tenant_id from projects limit 1) p");
    must(c, PQpipelineSync(c));
    must(c, PQsetSingleRowMode(c));
    int count = 0;
    for (PGresult *row; (row = PQgetResult(c)) != NULL; PQclear(row)) {
        count += PQresultStatus(row) == PGRES_SINGLE_TUPLE && strcmp(PQgetvalue(row, 0, 0), own) == 0;
    }
    PQclear(next(c, "the Sync", PGRES_PIPELINE_SYNC));
    must(c, count == 500);
    ok("row by row");
}

// COPY is no part of a pipeline; the same connection has both.
static void copies(PGconn *c, const char *own) {
    must(c, PQexitPipelineMode(c));
    PQclear(checked("begin", PQexec(c, "begin"), PGRES_COMMAND_OK));
    PQclear(checked("COPY", PQexec(c, "copy crm_leads (full_name, email) from stdin (format csv)"), PGRES_COPY_IN));
    for (int n = 0; n < 1000; n += 1) {
        char line[80];
        int length = snprintf(line, sizeof line, "libpq,%d@libpq_%s.example.org\n", n, mode);
        must(c, PQputCopyData(c, line, length) == 1);
    }
    must(c, PQputCopyEnd(c, NULL) == 1);
    PGresult *result = checked("COPY FROM", PQgetResult(c), PGRES_COMMAND_OK);
    is("COPY FROM", PQcmdTuples(result), "1000");
    PQclear(result);
    must(c, PQgetResult(c) == NULL);
    result = checked("its rows", PQexec(c, "select min(tenant_id::text) from crm_leads where full_name = 'libpq'"), PGRES_TUPLES_OK);
    is("under its policies", PQgetvalue(result, 0, 0), own);
    PQclear(result);
    PQclear(checked("rollback", PQexec(c, "rollback"), PGRES_COMMAND_OK));
    must(c, PQenterPipelineMode(c));
}

static void everyday(const char *tenant, const char *own, const char *other, int at_length) {
    PGconn *c = connected(need("TENANT_", tenant));
    must(c, PQenterPipelineMode(c));
    one_sync(c, own);
    errors(c, own, other);
    copies(c, own);
    if (at_length) {
        many(c, own);
    }
    flushes(c, own);
    PQfinish(c);

    // One server connection for both tenants, which both have a statement of that name.
    c = connected(need("NARROW_", tenant));
    char text[80];
    snprintf(text, sizeof text, "select '%s' || tenant_id from projects limit 1", tenant);
    must(c, PQenterPipelineMode(c));
    must(c, PQsendPrepare(c, "insert", text, 0, NULL));
    must(c, PQsendQueryPrepared(c, "insert", 0, NULL, NULL, NULL, 0));
    must(c, PQpipelineSync(c));
    plain(c, "prepared", PGRES_COMMAND_OK);
    PGresult *result = next(c, "its own statement", PGRES_TUPLES_OK);
    is("its own statement", PQgetvalue(result, 0, 0) + 1, own);
    is("with its own text", (char[]){PQgetvalue(result, 0, 0)[0], 0}, tenant);
    PQclear(result);
    PQfinish(c);

    // What is refused is refused in its place, and the next part goes on.
    int transaction = strcmp(mode, "transaction") == 0;
    c = connected(need(transaction ? "FREED_" : "TENANT_", tenant));
    must(c, PQenterPipelineMode(c));
    ask(c, ONLY);
    ask(c, "listen news");
    ask(c, ONLY);
    must(c, PQpipelineSync(c));
    ask(c, ONLY);
    must(c, PQpipelineSync(c));
    value(c, "before it", own);
    result = next(c, "LISTEN", PGRES_FATAL_ERROR);
    is("LISTEN", PQresultErrorField(result, PG_DIAG_SQLSTATE), transaction ? "0A000" : "42501");
    const char *hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
    if (strstr(hint, transaction ? "session_statements" : "allowed_statements") == NULL) {
        fail("the hint names no setting: %s", hint);
    }
    PQclear(result);
    plain(c, "left out", PGRES_PIPELINE_ABORTED);
    PQclear(next(c, "the Sync", PGRES_PIPELINE_SYNC));
    value(c, "and goes on", own);
    PQfinish(c);
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    mode = getenv("POOL_MODE");
    const char *a = "d0000000-0000-4000-8000-000000000001";
    const char *b = "e0000000-0000-4000-8000-000000000001";
    for (int round = 0; round < 4; round += 1) {
        everyday("A", a, b, round == 0);
        everyday("B", b, a, round == 0);
    }
    PGconn *c = PQconnectdb(need("EXPIRED", ""));
    if (strstr(PQerrorMessage(c), "token has expired") == NULL) {
        fail("an expired token: %s", PQerrorMessage(c));
    }
    PQfinish(c);
    printf("passed %d\n", passed);
    return 0;
}
