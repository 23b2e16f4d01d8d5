package shop;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import javax.sql.DataSource;
import org.postgresql.PGConnection;

/** The application's own code, on pgjdbc and HikariCP; what it does is its argument. */
final class Billing {
    private static final int EXECUTIONS = 20;
    private static final int LEAK_DETECTION = 2_000; // milliseconds; HikariCP takes no less
    private static final String MARK = "UPDATE invoices SET status = ? WHERE id = ?";
    private static final String SEEN = "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    private static final String PREPARED = "SELECT statement, generic_plans + custom_plans"
            + " FROM pg_prepared_statements WHERE statement LIKE '%invoices%' ORDER BY prepare_time";

    public static void main(String[] arguments) throws Exception {
        DataSource source = CallSites.tell(pool(), "shop.");
        switch (arguments[0]) {
            case "leaks" -> leak(transaction(source));
            case "holds" -> holdTooLong(source);
            case "prepares" -> prepares(transaction(source));
            default -> texts(transaction(source));
        }
        System.out.println("rests");
        System.in.transferTo(System.out);
    }

    private static DataSource pool() {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(String.format(
                "jdbc:postgresql://%s:%s/%s",
                System.getenv("PGHOST"), System.getenv("PGPORT"), System.getenv("PGDATABASE")));
        config.setUsername(System.getenv("PGUSER"));
        config.setPassword(System.getenv("PGPASSWORD"));
        config.setLeakDetectionThreshold(LEAK_DETECTION);
        return new HikariDataSource(config);
    }

    private static Connection transaction(DataSource source) throws SQLException {
        Connection connection = source.getConnection();
        connection.setAutoCommit(false);
        return connection;
    }

    /** With a statement that has been prepared. */
    private static void leak(Connection connection) throws SQLException {
        for (int execution = 0; execution < EXECUTIONS; execution++) {
            markSent(connection);
            connection.commit();
        }
        markSent(connection);
    }

    /** Until HikariCP has said so, too. */
    private static void holdTooLong(DataSource source) throws Exception {
        try (Connection connection = source.getConnection()) { // takes
            connection.setAutoCommit(false);
            try (PreparedStatement statement = connection.prepareStatement(MARK)) { // holds
                mark(statement, "sent");
            }
            Thread.sleep(LEAK_DETECTION + 500);
        }
    }

    private static void markSent(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(MARK)) { // marks
            mark(statement, "sent");
        }
    }

    private static void markPaid(Connection connection) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(MARK)) { // marks, too
            mark(statement, "paid");
        }
    }

    private static void mark(PreparedStatement statement, String status) throws SQLException {
        statement.setString(1, status);
        statement.setInt(2, 1);
        statement.executeUpdate();
    }

    private static void prepares(Connection connection) throws SQLException {
        for (int execution = 0; execution < EXECUTIONS; execution++) {
            markSent(connection);
            markPaid(connection);
            connection.commit();
        }
        print(connection.createStatement().executeQuery(PREPARED));
    }

    private static void texts(Connection connection) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            print(statement.executeQuery(SEEN)); // executes
        }
        System.out.println(connection.unwrap(PGConnection.class).getPrepareThreshold());
        try {
            connection.prepareStatement("SELECT 1 / 0").execute();
        } catch (SQLException error) {
            System.out.println(error.getSQLState());
        }
    }

    private static void print(ResultSet rows) throws SQLException {
        int columns = rows.getMetaData().getColumnCount();
        while (rows.next()) {
            System.out.println(rows.getString(1) + (columns > 1 ? "|" + rows.getString(2) : ""));
        }
    }
}
