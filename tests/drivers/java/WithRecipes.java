import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.net.URI;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;

/** The recipe of docs/recipes: one pool, a token for every transaction, many of them at once. */
final class WithRecipes {
    static final String A = "d0000000-0000-4000-8000-000000000001";
    static final String B = "e0000000-0000-4000-8000-000000000001";

    static List<String> tenants(Connection connection) throws SQLException {
        var seen = new ArrayList<String>();
        try (var statement = connection.prepareStatement("select distinct tenant_id::text from projects");
             var rows = statement.executeQuery()) {
            while (rows.next()) {
                seen.add(rows.getString(1));
            }
        }
        return seen;
    }

    static Object nobody(HikariDataSource source) {
        try (var connection = source.getConnection()) {
            return tenants(connection);
        } catch (SQLException error) {
            return error.getSQLState();
        }
    }

    static void check(String what, Object got, Object expected) {
        if (!got.equals(expected)) {
            throw new AssertionError(what + ": " + got + " in place of " + expected);
        }
        System.out.println("ok  " + what);
    }

    public static void main(String[] arguments) throws Exception {
        var url = URI.create(System.getenv("NOBODY_URL"));
        var login = url.getUserInfo().split(":", 2);
        var config = new HikariConfig();
        config.setJdbcUrl("jdbc:postgresql://" + url.getHost() + ":" + url.getPort() + url.getPath());
        config.setUsername(login[0]);
        config.setPassword(login[1]);
        config.setMaximumPoolSize(3);
        var a = System.getenv("TOKEN_A");
        var b = System.getenv("TOKEN_B");
        try (var source = new HikariDataSource(config)) {
            var threads = Executors.newFixedThreadPool(8);
            var visits = new ArrayList<Future<List<String>>>();
            for (int n = 0; n < 120; n++) {
                var token = n % 2 == 0 ? a : b;
                visits.add(threads.submit(() -> WithHikari.as(source, token, WithRecipes::tenants)));
            }
            for (int n = 0; n < visits.size(); n++) {
                var seen = visits.get(n).get();
                if (!seen.equals(List.of(n % 2 == 0 ? A : B))) {
                    throw new AssertionError("visit " + n + " saw " + seen);
                }
            }
            threads.shutdown();
            System.out.println("ok  HikariCP");
            check("nobody", nobody(source), "42501");
            try {
                WithHikari.as(source, System.getenv("TOKEN_EXPIRED"), WithRecipes::tenants);
                check("an expired token", "accepted", "refused");
            } catch (SQLException error) {
                check("an expired token", error.getSQLState(), "28P01");
            }
            check("nobody after it", nobody(source), "42501");
        }
        System.out.println("passed 4");
    }
}
