// Everyday work of pgjdbc, as two tenants at once, and the owner.

import java.io.ByteArrayInputStream;
import java.io.StringWriter;
import java.math.BigDecimal;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.time.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.*;
import org.postgresql.PGConnection;
import org.postgresql.PGStatement;

public class WithJdbc {
    static final String A = "d0000000-0000-4000-8000-000000000001";
    static final String B = "e0000000-0000-4000-8000-000000000001";
    // Each transaction gets another server connection, and other clients keep them moving.
    static final boolean TRANSACTION = env("POOL_MODE").equals("transaction");
    static final String ONLY = "select distinct tenant_id::text from projects union select distinct tenant_id::text from crm_leads";
    static final String INSERT = "insert into crm_leads (full_name, email) values (?, ?)";
    static final AtomicInteger passed = new AtomicInteger();

    /** A tenant, and the one it must never see; `freed` is where it is given back what is tested for its own sake, `session` where what needs a session works, too. */
    record Side(String name, String url, String freed, String session, String narrow, String own, String other) {
        /** Both tenants use the same values, which are unique within one only; both pool modes run at once. */
        String email(Object n) {
            return n + "@jdbc." + env("POOL_MODE") + ".example.org";
        }
    }

    interface Work {
        void with(Connection connection) throws Exception;
    }

    interface Attempt {
        void run() throws Exception;
    }

    static String env(String name) {
        return Objects.requireNonNull(System.getenv(name), name);
    }

    static void check(String what, Object got, Object expected) {
        if (!Objects.deepEquals(got, expected)) {
            throw new AssertionError(what + ": expected <" + expected + ">, got <" + got + ">");
        }
        passed.incrementAndGet();
        System.out.println("ok  " + what);
    }

    static SQLException refused(String what, String state, Attempt attempt) throws Exception {
        try {
            attempt.run();
        } catch (SQLException error) {
            if (!state.equals(error.getSQLState())) throw error;
            check(what, error.getSQLState(), state);
            return error;
        }
        throw new AssertionError(what + ": accepted");
    }

    static Connection connect(String url, String... properties) throws SQLException {
        URI uri = URI.create(url);
        String[] user = uri.getRawUserInfo().split(":", 2);
        Properties all = new Properties();
        all.setProperty("user", user[0]);
        all.setProperty("password", user[1]);
        for (int n = 0; n < properties.length; n += 2) all.setProperty(properties[n], properties[n + 1]);
        return DriverManager.getConnection("jdbc:postgresql://" + uri.getAuthority().replaceFirst(".*@", "") + uri.getPath(), all);
    }

    static void connected(String url, Work work, String... properties) throws Exception {
        try (Connection connection = connect(url, properties)) {
            work.with(connection);
        }
    }

    /** The first column. */
    static List<String> column(ResultSet rows) throws SQLException {
        List<String> column = new ArrayList<>();
        while (rows.next()) column.add(rows.getString(1));
        return column;
    }

    static List<String> query(Connection c, String text) throws SQLException {
        try (Statement statement = c.createStatement()) {
            return column(statement.executeQuery(text));
        }
    }

    static int update(Connection c, String text) throws SQLException {
        try (Statement statement = c.createStatement()) {
            return statement.executeUpdate(text);
        }
    }

    static void rows(Side side) throws Exception {
        connected(side.url, c -> {
            check("reads its own rows", query(c, ONLY), List.of(side.own));
            c.setAutoCommit(false);
            try (Statement s = c.createStatement()) {
                check("two statements", s.execute("select 1; " + ONLY), true);
                check("another result", s.getMoreResults(), true);
                check("of its own", column(s.getResultSet()), List.of(side.own));
            }
            check("insert is given its tenant", query(c, "insert into crm_leads (full_name, email) values ('j', 'j') returning tenant_id"), List.of(side.own));
            update(c, "update crm_leads set status = 'lost'");
            check("an update of everything", query(c, "select distinct tenant_id from crm_leads where status = 'lost'"), List.of(side.own));
            check("nothing of another tenant's is deleted", update(c, "delete from crm_leads where tenant_id = '" + side.other + "'"), 0);
            c.rollback();
            c.setAutoCommit(true);
            String foreign = "insert into crm_leads (tenant_id, full_name, email) values ('" + side.other + "', 'x', 'x')";
            refused("a foreign tenant", "42501", () -> update(c, foreign));
            refused("a row moved to another tenant", "42501", () -> update(c, "update crm_leads set tenant_id = '" + side.other + "'"));
            refused("an unknown column", "42703", () -> query(c, "select no_such from projects"));
            try (CallableStatement call = c.prepareCall("{? = call get_current_tenant()}")) {
                call.registerOutParameter(1, Types.OTHER);
                call.execute();
                check("a function", call.getObject(1), UUID.fromString(side.own));
            }
        });
    }

    static void prepared(Side side) throws Exception {
        // As it comes; binary from the first on; never prepared on the server; never but simple queries.
        String[][] ways = {{}, {"prepareThreshold", "-1"}, {"prepareThreshold", "0"}, {"preferQueryMode", "simple"}};
        for (String[] way : ways) {
            connected(side.url, c -> {
                String text = "select tenant_id, ?::int4, ?::int8, ?::numeric, ?::uuid, ?::timestamptz, ?::int4[] from projects where ?";
                OffsetDateTime when = OffsetDateTime.of(2026, 2, 28, 23, 59, 59, 999_000_000, ZoneOffset.UTC);
                try (PreparedStatement s = c.prepareStatement(text)) {
                    for (int n = 0; n < 12; n += 1) {
                        s.setInt(1, n);
                        s.setLong(2, 1L << 60);
                        s.setBigDecimal(3, new BigDecimal("-1234567890123456789.0001"));
                        s.setObject(4, UUID.fromString(side.own));
                        s.setObject(5, when);
                        s.setArray(6, c.createArrayOf("int4", new Integer[] {n, null}));
                        s.setBoolean(7, true);
                        try (ResultSet row = s.executeQuery()) {
                            while (row.next()) {
                                List<Object> got = List.of(row.getObject(1), row.getInt(2), row.getLong(3), row.getBigDecimal(4),
                                    row.getObject(5), row.getObject(6, OffsetDateTime.class), Arrays.asList((Object[]) row.getArray(7).getArray()));
                                UUID own = UUID.fromString(side.own);
                                check("a prepared statement", got, List.of(own, n, 1L << 60,
                                    new BigDecimal("-1234567890123456789.0001"), own, when, Arrays.asList(n, null)));
                            }
                        }
                    }
                    if (way.length == 0) check("prepared on the server", s.unwrap(PGStatement.class).isUseServerPrepare(), true);
                }
            }, way);
        }
    }

    static void batches(Side side) throws Exception {
        for (String rewritten : List.of("false", "true")) {
            connected(side.url, c -> {
                c.setAutoCommit(false);
                try (PreparedStatement s = c.prepareStatement(INSERT, new String[] {"tenant_id", "id"})) {
                    for (int n = 0; n < 300; n += 1) {
                        s.setString(1, "Batch");
                        s.setString(2, side.email(n));
                        s.addBatch();
                    }
                    check("a batch", s.executeBatch().length, 300);
                    check("its generated keys", column(s.getGeneratedKeys()), Collections.nCopies(300, side.own));
                }
                c.commit();
                try (PreparedStatement s = c.prepareStatement(INSERT)) {
                    for (String email : List.of(side.email("new"), side.email(7))) {
                        s.setString(1, "Batch");
                        s.setString(2, email);
                        s.addBatch();
                    }
                    refused("a unique violation in a batch", "23505", s::executeBatch);
                }
                c.rollback();
                c.setAutoCommit(true);
                try (PreparedStatement s = c.prepareStatement(INSERT, Statement.RETURN_GENERATED_KEYS)) {
                    s.setString(1, "All");
                    s.setString(2, side.email("all"));
                    s.executeUpdate();
                    check("all columns as generated keys", column(s.getGeneratedKeys()), List.of(side.own));
                }
                try (PreparedStatement s = c.prepareStatement("delete from crm_leads where email like ?")) {
                    s.setString(1, side.email("%"));
                    check("and deleted", s.executeUpdate(), 301);
                }
            }, "reWriteBatchedInserts", rewritten);
        }
    }

    static void transactions(Side side) throws Exception {
        connected(side.url, c -> {
            c.setAutoCommit(false);
            try (Statement s = c.createStatement()) {
                s.setFetchSize(100);
                ResultSet rows = s.executeQuery("select tenant_id from projects limit 1");
                check("a cursor's rows", column(rows), List.of(side.own));
                rows = s.executeQuery("select p.tenant_id from generate_series(1, 5000) n, (select tenant_id from projects limit 1) p");
                check("a cursor", column(rows), Collections.nCopies(5000, side.own));
            }
            PreparedStatement insert = c.prepareStatement(INSERT);
            for (int n = 0; n < 10; n += 1) {
                insert.setString(1, "x");
                insert.setString(2, side.email("savepoint"));
                insert.executeUpdate();
                Savepoint savepoint = c.setSavepoint("before");
                refused("a unique violation", "23505", insert::executeUpdate);
                refused("a failed transaction", "25P02", () -> query(c, "select 1"));
                c.rollback(savepoint);
                check("goes on from the savepoint", query(c, ONLY), List.of(side.own));
                c.rollback();
            }
            c.setReadOnly(true);
            refused("a read-only transaction", "25006", () -> update(c, "update projects set name = name"));
            c.rollback();
            c.setReadOnly(false);
        });
        connected(side.url, c -> {
            c.setAutoCommit(false);
            update(c, "insert into crm_leads (full_name, email) values ('x', '" + side.email("autosave") + "')");
            refused("an error", "22012", () -> query(c, "select 1 / 0"));
            check("autosave=always goes on", query(c, "select tenant_id from crm_leads where email = '" + side.email("autosave") + "'"), List.of(side.own));
            c.rollback();
        }, "autosave", "always");
        connected(side.session, c -> {
            update(c, "create temporary table t (n int)");
            c.setAutoCommit(false);
            PreparedStatement s = c.prepareStatement("select t.*, tenant_id from t right join projects on true");
            for (int n = 0; n < 6; n += 1) s.executeQuery().close();
            update(c, "alter table t add m int");
            try (ResultSet rows = s.executeQuery()) {
                check("autosave=conservative prepares again", rows.getMetaData().getColumnCount(), 3);
            }
            c.rollback();
        }, "autosave", "conservative");
    }

    // Settings of the session: a transaction finds them on the next server connection.
    static void settings(Side side) throws Exception {
        connected(side.url, c -> {
            Map<Integer, String> levels = Map.of(Connection.TRANSACTION_READ_COMMITTED, "read committed",
                Connection.TRANSACTION_REPEATABLE_READ, "repeatable read", Connection.TRANSACTION_SERIALIZABLE, "serializable");
            for (var level : levels.entrySet()) {
                c.setTransactionIsolation(level.getKey());
                for (int n = 0; n < 10; n += 1) {
                    check("isolation level", query(c, "show transaction_isolation"), List.of(level.getValue()));
                    check("as the driver reads it", c.getTransactionIsolation(), level.getKey());
                }
            }
            for (boolean readOnly : List.of(true, false)) {
                c.setReadOnly(readOnly);
                for (int n = 0; n < 10; n += 1) {
                    check("a read-only session", query(c, "show transaction_read_only"), List.of(readOnly ? "on" : "off"));
                }
            }
            c.setSchema("pg_catalog");
            for (int n = 0; n < 10; n += 1) check("a schema", c.getSchema(), "pg_catalog");
            c.setSchema("public");
            c.setClientInfo("ApplicationName", "changed");
            List<String> shown = List.of("Asia/Tokyo changed 3");
            for (int n = 0; n < 10; n += 1) {
                check("settings", query(c, "select concat_ws(' ', current_setting('timezone'), current_setting('application_name'), current_setting('extra_float_digits'))"), shown);
            }
            check("its own rows", query(c, ONLY), List.of(side.own));
        }, "readOnlyMode", "always", "ApplicationName", "jdbc");
    }

    static List<String> named(ResultSet rows, String column) throws SQLException {
        List<String> names = new ArrayList<>();
        while (rows.next()) names.add(rows.getString(column));
        return names;
    }

    static void metadata(Side side) throws Exception {
        connected(side.url, c -> {
            DatabaseMetaData of = c.getMetaData();
            check("getTables", named(of.getTables(null, "public", "crm%", new String[] {"TABLE"}), "TABLE_NAME"), List.of("crm_deals", "crm_leads"));
            check("getColumns", named(of.getColumns(null, "public", "projects", "%"), "COLUMN_NAME"),
                List.of("tenant_id", "id", "name", "description", "status", "budget_cents", "due_on", "created_at"));
            check("getPrimaryKeys", Set.copyOf(named(of.getPrimaryKeys(null, "public", "projects"), "COLUMN_NAME")), Set.of("tenant_id", "id"));
            check("getImportedKeys", named(of.getImportedKeys(null, "public", "crm_deals"), "PKTABLE_NAME"), List.of("tenants", "crm_leads", "crm_leads"));
            check("getExportedKeys", named(of.getExportedKeys(null, "public", "crm_leads"), "FKTABLE_NAME"), List.of("crm_deals", "crm_deals"));
            check("getBestRowIdentifier", of.getBestRowIdentifier(null, "public", "projects", DatabaseMetaData.bestRowSession, true).next(), true);
            check("getSchemas", named(of.getSchemas(), "TABLE_SCHEM").contains("public"), true);
            check("getTypeInfo", named(of.getTypeInfo(), "TYPE_NAME").contains("uuid"), true);
            check("getFunctions", named(of.getFunctions(null, null, "get_current_tenant"), "FUNCTION_NAME").contains("get_current_tenant"), true);
            check("getTablePrivileges", named(of.getTablePrivileges(null, "public", "projects"), "PRIVILEGE").contains("SELECT"), true);
            // It reads the rows and pages of indexes, which count all tenants' together.
            refused("getIndexInfo", "42501", () -> of.getIndexInfo(null, "public", "projects", false, true));
            check("and goes on", query(c, ONLY), List.of(side.own));
            ResultSetMetaData columns = c.prepareStatement("select id, name from projects").getMetaData();
            check("of a statement", List.of(columns.getColumnTypeName(1), columns.getTableName(2), columns.isNullable(2)), List.of("uuid", "projects", 0));
        });
    }

    static void types(Side side) throws Exception {
        connected(side.url, c -> {
            try (PreparedStatement s = c.prepareStatement("select ?::timestamp, ?::date, ?::time, ?::bytea, ?::text[], ?::text, ?::jsonb")) {
                for (int n = 0; n < 8; n += 1) {
                    Timestamp stamp = Timestamp.valueOf("2026-02-28 23:59:59.999999");
                    s.setTimestamp(1, stamp);
                    s.setObject(2, LocalDate.of(2024, 2, 29));
                    s.setObject(3, LocalTime.of(23, 59, 58));
                    s.setBytes(4, new byte[] {0, -1, 92, 39});
                    s.setArray(5, c.createArrayOf("text", new String[] {"é", "q\"{,}", null, ""}));
                    s.setString(6, "'; drop table projects; --");
                    s.setObject(7, "{\"clé\": [1, null]}", Types.OTHER);
                    ResultSet row = s.executeQuery();
                    row.next();
                    check("a timestamp", row.getTimestamp(1), stamp);
                    check("a date", row.getObject(2, LocalDate.class), LocalDate.of(2024, 2, 29));
                    check("a time", row.getObject(3, LocalTime.class), LocalTime.of(23, 59, 58));
                    check("bytes", row.getBytes(4), new byte[] {0, -1, 92, 39});
                    check("an array", row.getArray(5).getArray(), new String[] {"é", "q\"{,}", null, ""});
                    check("a text", row.getString(6), "'; drop table projects; --");
                    check("JSON", row.getString(7), "{\"clé\": [1, null]}");
                }
            }
        });
    }

    static void copying(Side side) throws Exception {
        connected(side.url, c -> {
            c.setAutoCommit(false);
            var copy = c.unwrap(PGConnection.class).getCopyAPI();
            StringWriter out = new StringWriter();
            copy.copyOut("copy (select tenant_id from projects) to stdout", out);
            check("COPY TO", out.toString().lines().collect(Collectors.toSet()), Set.of(side.own));
        });
        connected(side.freed, c -> {
            c.setAutoCommit(false);
            var copy = c.unwrap(PGConnection.class).getCopyAPI();
            update(c, "create temporary table t (n int) on commit drop");
            String lines = IntStream.range(0, 5000).mapToObj(n -> n + "\n").collect(Collectors.joining());
            check("COPY FROM", copy.copyIn("copy t from stdin", new ByteArrayInputStream(lines.getBytes(StandardCharsets.UTF_8))), 5000L);
            String leads = IntStream.range(0, 5000).mapToObj(n -> "x\t" + n + "\n").collect(Collectors.joining());
            check("COPY FROM under policies", copy.copyIn("copy crm_leads (full_name, email) from stdin", new ByteArrayInputStream(leads.getBytes(StandardCharsets.UTF_8))), 5000L);
            String foreign = side.other + "\tx\ty\n";
            refused("COPY FROM with another tenant's row", "42501", () -> copy.copyIn("copy crm_leads (tenant_id, full_name, email) from stdin", new ByteArrayInputStream(foreign.getBytes(StandardCharsets.UTF_8))));
            c.rollback();
            check("after COPY", query(c, ONLY), List.of(side.own));
        });
    }

    static void cancelling(Side side) throws Exception {
        connected(side.url, c -> {
            Statement s = c.createStatement();
            s.setQueryTimeout(1);
            refused("a query timeout", "57014", () -> s.executeQuery("select pg_sleep(60)"));
            s.setQueryTimeout(0);
            ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
            timer.scheduleAtFixedRate(() -> {
                try {
                    s.cancel();
                } catch (SQLException error) {
                    // The check is that the query ends.
                }
            }, 300, 300, TimeUnit.MILLISECONDS);
            refused("a cancelled query", "57014", () -> s.executeQuery("select pg_sleep(60)"));
            timer.shutdownNow();
            timer.awaitTermination(10, TimeUnit.SECONDS);
        });
        connected(side.url, c -> check("after a cancel", query(c, ONLY), List.of(side.own)));
    }

    static void notifications(Side side) throws Exception {
        connected(side.session, c -> {
            update(c, "listen jdbc_" + side.name);
            update(c, "notify jdbc_" + side.name + ", 'salut'");
            var told = c.unwrap(PGConnection.class).getNotifications(10_000);
            check("a notification", told == null ? null : told[0].getParameter(), "salut");
        });
    }

    // One server connection for both tenants: they take turns, and both call their statements S_1.
    static void turns(Side side) throws Exception {
        for (int round = 0; round < 4; round += 1) {
            connected(side.narrow, c -> {
                PreparedStatement s = c.prepareStatement("select '" + side.name + "' || tenant_id from projects");
                for (int n = 0; n < 7; n += 1) check("its own statement", Set.copyOf(column(s.executeQuery())), Set.of(side.name + side.own));
                check("one server connection: its own rows", query(c, ONLY), List.of(side.own));
                check("nothing left behind", query(c, "select to_regclass('pg_temp.left_behind')").get(0), null);
                update(c, "create temporary table left_behind ()");
            });
        }
    }

    // What a transaction finds on the next server connection.
    static void moving(Side side) throws Exception {
        connected(side.url, c -> {
            Set<String> pids = new HashSet<>();
            for (int n = 0; n < 2000 && pids.size() < 2; n += 1) pids.addAll(query(c, "select pg_backend_pid()"));
            check("the server connection changes", pids.size() > 1, true);
        });
        connected(side.freed, c -> {
            for (String statement : List.of("listen news", "create temporary table t (n int)", "prepare p as select 1", "select pg_advisory_lock(1)")) {
                refused(statement, "0A000", () -> c.createStatement().execute(statement));
                check("and goes on", query(c, ONLY), List.of(side.own));
            }
        });
    }

    static Void everyday(Side side) throws Exception {
        rows(side);
        prepared(side);
        batches(side);
        transactions(side);
        settings(side);
        metadata(side);
        types(side);
        copying(side);
        cancelling(side);
        notifications(side);
        turns(side);
        if (TRANSACTION) moving(side);
        return null;
    }

    static void logins() throws Exception {
        refused("a forged token", "28P01", () -> connect(env("FORGED_URL")));
        SQLException expired = refused("an expired token", "28P01", () -> connect(env("EXPIRED_URL")));
        check("is told", expired.getMessage().lines().findFirst().get(), "FATAL: token has expired");
        connected(env("OWNER_URL"), c -> {
            ResultSet indexes = c.getMetaData().getIndexInfo(null, "public", "projects", true, true);
            check("the owner's getIndexInfo", named(indexes, "INDEX_NAME").contains("projects_pkey"), true);
        });
    }

    public static void main(String[] arguments) throws Exception {
        TimeZone.setDefault(TimeZone.getTimeZone("Asia/Tokyo"));
        ExecutorService threads = Executors.newFixedThreadPool(2);
        try {
            var sides = List.of(new Side("a", env("TENANT_A_URL"), env("FREED_A_URL"), env("SESSION_A_URL"), env("NARROW_A_URL"), A, B),
                new Side("b", env("TENANT_B_URL"), env("FREED_B_URL"), env("SESSION_B_URL"), env("NARROW_B_URL"), B, A));
            for (Future<Void> end : sides.stream().map(side -> threads.submit(() -> everyday(side))).toList()) end.get();
            logins();
            System.out.println("passed " + passed);
            System.exit(0);
        } catch (Throwable error) {
            System.out.print("FAILED  ");
            error.printStackTrace(System.out);
            System.exit(1);
        }
    }
}
