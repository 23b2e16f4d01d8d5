import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
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
        // Its jar does not tell; the file that Debian's link leads to is named after it.
        String jar = HikariDataSource.class.getProtectionDomain().getCodeSource().getLocation().getPath();
        String file = Path.of(jar).toRealPath().getFileName().toString();
        return file.replaceAll("\\D*([\\d.]+)\\.jar", "$1") + " (pgjdbc " + DriverInfo.DRIVER_VERSION + ")";
    }

    @Override
    void close() throws SQLException {
        super.close();
        pool.close();
    }
}
