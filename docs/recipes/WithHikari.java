import java.sql.Connection;
import java.sql.SQLException;
import javax.sql.DataSource;

/**
 * HikariCP, and any other javax.sql.DataSource: a token for each transaction.
 *
 * <pre>
 * var config = new HikariConfig();
 * config.setJdbcUrl("jdbc:postgresql://cloison:6432/shop");
 * config.setUsername("app");
 * config.setPassword(serviceToken);
 *
 * WithHikari.as(source, requestToken, connection -> ...);
 * </pre>
 */
final class WithHikari {
    interface Work<T> {
        T with(Connection connection) throws SQLException;
    }

    static <T> T as(DataSource source, String token, Work<T> work) throws SQLException {
        try (var connection = source.getConnection()) {
            connection.setAutoCommit(false);
            try {
                // To the end of this transaction: the next one starts with nobody.
                try (var identify = connection.prepareStatement("select set_config('cloison.jwt', ?, true)")) {
                    identify.setString(1, token);
                    identify.execute();
                }
                T result = work.with(connection);
                connection.commit();
                return result;
            } catch (SQLException | RuntimeException error) {
                connection.rollback();
                throw error;
            }
        }
    }
}
