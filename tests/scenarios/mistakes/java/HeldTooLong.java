import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.SQLException;
import javax.sql.DataSource;

/** Mark an invoice as paid, and ask the payment service, which takes its time. */
final class HeldTooLong {
    private static final String SET_STATUS = "UPDATE invoices SET status = ? WHERE id = ?";

    private HeldTooLong() {}

    public static void main(String[] arguments) throws Exception {
        DataSource pool = Application.pool();
        if (Application.FIXED) {
            payAndCall(pool, 1);
        } else {
            pay(pool, 1);
        }
        Application.rest();
    }

    private static void pay(DataSource pool, int invoice) throws Exception {
        try (Connection connection = pool.getConnection()) {
            connection.setAutoCommit(false);
            setStatus(connection, "paid", invoice);
            // The mistake: as long as this takes, the connection and the row are nobody else's.
            Application.callPartner("/slow");
            connection.commit();
        }
    }

    private static void payAndCall(DataSource pool, int invoice) throws Exception {
        inTransaction(pool, "paying", invoice);
        Application.callPartner("/slow");
        inTransaction(pool, "paid", invoice);
    }

    private static void inTransaction(DataSource pool, String status, int invoice) throws SQLException {
        try (Connection connection = pool.getConnection()) {
            connection.setAutoCommit(false);
            setStatus(connection, status, invoice);
            connection.commit();
        }
    }

    private static void setStatus(Connection connection, String status, int invoice) throws SQLException {
        try (PreparedStatement statement = connection.prepareStatement(SET_STATUS)) {
            statement.setString(1, status);
            statement.setInt(2, invoice);
            statement.executeUpdate();
        }
    }
}
