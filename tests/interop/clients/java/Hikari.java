import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.sql.Connection;
import java.sql.SQLException;
import java.util.jar.JarFile;
import org.postgresql.util.DriverInfo;

/** pgjdbc, with connections out of a HikariCP pool. */
class Hikari extends Jdbc {
    private final HikariDataSource pool;

    Hikari() {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(url());
        config.setDataSourceProperties(properties());
        config.setMinimumIdle(0);
        config.setMaximumPoolSize(2);
        pool = new HikariDataSource(config);
    }

    public static void main(String[] arguments) throws Exception {
        new Hikari().main();
    }

    @Override
    Connection open() throws SQLException {
        return pool.getConnection();
    }

    @Override
    String driver() {
        return "HikariCP";
    }

    @Override
    String version() throws Exception {
        String jar = HikariDataSource.class.getProtectionDomain().getCodeSource().getLocation().getPath();
        try (JarFile file = new JarFile(jar)) {
            String own = file.getManifest().getMainAttributes().getValue("Bundle-Version");
            return own + " (pgjdbc " + DriverInfo.DRIVER_VERSION + ")";
        }
    }

    /** With what comes out of the pool. */
    @Override
    Object goOn() throws SQLException {
        connection.close();
        connection = open();
        connection.setAutoCommit(false);
        return super.goOn();
    }

    @Override
    void close() throws SQLException {
        super.close();
        pool.close();
    }
}
