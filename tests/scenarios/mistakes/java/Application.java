import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import java.io.OutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

/** What every application here has: the switch of its mistake, a pool, a partner, and an end. */
final class Application {
    /** Whether the mistake is mended. */
    static final boolean FIXED = System.getenv("FIXED").equals("1");

    private Application() {}

    static HikariDataSource pool() {
        HikariConfig config = new HikariConfig();
        config.setJdbcUrl(String.format(
                "jdbc:postgresql://%s:%s/%s",
                System.getenv("PGHOST"), System.getenv("PGPORT"), System.getenv("PGDATABASE")));
        config.setUsername(System.getenv("PGUSER"));
        config.addDataSourceProperty("ApplicationName", System.getenv("PGAPPNAME"));
        config.setMinimumIdle(1);
        return new HikariDataSource(config);
    }

    /** Ask somebody else's service. */
    static void callPartner(String path) throws Exception {
        HttpRequest request =
                HttpRequest.newBuilder(URI.create(System.getenv("PARTNER") + path)).build();
        int status = HttpClient.newHttpClient()
                .send(request, HttpResponse.BodyHandlers.discarding())
                .statusCode();
        if (status != 200) {
            throw new IllegalStateException("the partner answered " + status);
        }
    }

    /** Nothing more is to be done; like any server, it stays until it is told to end. */
    static void rest() throws Exception {
        System.out.println("rests");
        System.in.transferTo(OutputStream.nullOutputStream());
    }
}
