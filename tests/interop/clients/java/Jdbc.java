import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.DriverInfo;

/** pgjdbc, with connections of its own. */
class Jdbc extends Script {
    protected Connection connection;

    public static void main(String[] arguments) throws Exception {
        new Jdbc().main();
    }

    static String url() {
        return String.format(
                "jdbc:postgresql://%s:%s/%s", environment("PGHOST"), environment("PGPORT"), environment("PGDATABASE"));
    }

    Properties properties() {
        Properties properties = new Properties();
        properties.put("user", environment("PGUSER"));
        properties.put("password", environment("PGPASSWORD"));
        properties.put("ApplicationName", environment("PGAPPNAME"));
        properties.put("sslmode", environment("PGSSLMODE"));
        properties.put("prepareThreshold", "1"); // every statement is prepared at its first use
        if (environment("PGSSLROOTCERT") != null) {
            properties.put("sslrootcert", environment("PGSSLROOTCERT"));
        }
        return properties;
    }

    /** A new connection, or one of a pool's. */
    Connection open() throws SQLException {
        return DriverManager.getConnection(url(), properties());
    }

    @Override
    String driver() {
        return "pgjdbc";
    }

    @Override
    String version() throws Exception {
        return DriverInfo.DRIVER_VERSION + " (Java " + Runtime.version().feature() + ")";
    }

    @Override
    Map<String, Step> steps() {
        Map<String, Step> steps = new LinkedHashMap<>();
        steps.put("connect", this::connect);
        steps.put("parameters", this::parameters);
        steps.put("prepared", this::prepared);
        steps.put("commit", this::commit);
        steps.put("rollback", this::rollback);
        steps.put("savepoint", this::savepoint);
        steps.put("copy", this::copy);
        steps.put("large", this::large);
        steps.put("cancel", this::cancel);
        steps.put("notify", this::listen);
        return steps;
    }

    private Object connect() throws SQLException {
        connection = open();
        connection.setAutoCommit(false);
        return one("SELECT current_setting('application_name')");
    }

    private Object one(String query, Object... arguments) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(query)) {
            for (int i = 0; i < arguments.length; i++) {
                statement.setObject(i + 1, arguments[i]);
            }
            ResultSet row = statement.executeQuery();
            row.next();
            List<Object> columns = new ArrayList<>();
            for (int i = 1; i <= row.getMetaData().getColumnCount(); i++) {
                columns.add(row.getObject(i));
            }
            connection.commit();
            return columns.size() == 1 ? columns.get(0) : columns;
        }
    }

    private Object count(String step) throws SQLException {
        return one("SELECT count(*)::int FROM items WHERE step = ?", step);
    }

    private void insert(String step) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement("INSERT INTO items VALUES (?)")) {
            statement.setString(1, step);
            statement.execute();
        }
    }

    private void execute(String query) throws SQLException {
        try (Statement statement = connection.createStatement()) {
            statement.execute(query);
        }
    }

    private Object parameters() throws SQLException {
        return one("SELECT ?::int + 1, ?::text", 41, "naïve 'quoted'");
    }

    private Object prepared() throws SQLException {
        List<Object> results = new ArrayList<>();
        try (PreparedStatement statement = connection.prepareStatement("SELECT ?::int * 2")) {
            for (int number : new int[] {21, 4}) {
                statement.setInt(1, number);
                ResultSet row = statement.executeQuery();
                row.next();
                results.add(row.getInt(1));
            }
        }
        connection.commit();
        return results;
    }

    private Object commit() throws SQLException {
        insert("commit");
        connection.commit();
        return count("commit");
    }

    private Object rollback() throws SQLException {
        insert("rollback");
        try {
            execute("SELECT 1 / 0");
            return null;
        } catch (SQLException error) {
            connection.rollback();
            return new Object[] {error.getSQLState(), count("rollback")};
        }
    }

    private Object savepoint() throws SQLException {
        insert("savepoint");
        Savepoint here = connection.setSavepoint();
        insert("savepoint");
        try {
            execute("SELECT 1 / 0");
        } catch (SQLException error) {
            connection.rollback(here);
        }
        connection.commit();
        return count("savepoint");
    }

    private Object copy() throws Exception {
        String rows = IntStream.range(0, COPIED).mapToObj(i -> i + "\tcopied\n").collect(Collectors.joining());
        CopyManager copies = connection.unwrap(PGConnection.class).getCopyAPI();
        copies.copyIn("COPY copied FROM STDIN", new ByteArrayInputStream(rows.getBytes(StandardCharsets.UTF_8)));
        ByteArrayOutputStream copied = new ByteArrayOutputStream();
        copies.copyOut("COPY copied TO STDOUT", copied);
        connection.commit();
        return copied.toString(StandardCharsets.UTF_8).lines().count();
    }

    private Object large() throws SQLException {
        int rows = 0;
        try (Statement statement = connection.createStatement()) {
            statement.setFetchSize(1000); // through a cursor: suspended portals
            ResultSet result = statement.executeQuery(LARGE_ROWS);
            while (result.next()) {
                rows++;
            }
        }
        connection.commit();
        return rows;
    }

    private Object cancel() throws Exception {
        try (Statement statement = connection.createStatement()) {
            Thread canceller = new Thread(() -> cancelSleeper(statement));
            canceller.start();
            try {
                statement.execute("SELECT pg_sleep(60)");
                return null;
            } catch (SQLException error) {
                if (!error.getSQLState().equals("57014")) {
                    throw error;
                }
                canceller.join();
                connection.rollback();
            }
        }
        return one("SELECT 1");
    }

    private void cancelSleeper(Statement statement) {
        try {
            elsewhere("SELECT wait_for_sleeper()");
            statement.cancel();
        } catch (SQLException error) {
            throw new IllegalStateException(error);
        }
    }

    private void elsewhere(String query) throws SQLException {
        try (Connection other = open(); Statement statement = other.createStatement()) {
            statement.execute(query);
            if (!other.getAutoCommit()) {
                other.commit();
            }
        }
    }

    private Object listen() throws SQLException {
        execute("LISTEN news");
        connection.commit();
        elsewhere("NOTIFY news, 'hello'");
        PGNotification[] news = connection.unwrap(PGConnection.class).getNotifications(30_000);
        return news[0].getParameter();
    }

    @Override
    void beginLeak() throws SQLException {
        insert("leak");
    }

    @Override
    void useLeaked() throws SQLException {
        execute("SELECT 1");
    }

    @Override
    void commitLeaked() throws SQLException {
        connection.commit();
    }

    @Override
    Object goOn() throws SQLException {
        insert("after");
        return one("SELECT pg_backend_pid()");
    }

    @Override
    Object again() throws SQLException {
        connection.close();
        connection = open();
        connection.setAutoCommit(false);
        return one("SELECT 1");
    }

    @Override
    void close() throws SQLException {
        connection.close();
    }
}
