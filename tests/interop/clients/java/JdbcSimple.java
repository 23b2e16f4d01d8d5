import java.util.Properties;

/** pgjdbc, with simple queries only. */
class JdbcSimple extends Jdbc {
    public static void main(String[] arguments) throws Exception {
        new JdbcSimple().main();
    }

    @Override
    Properties properties() {
        Properties properties = super.properties();
        properties.put("preferQueryMode", "simple");
        return properties;
    }

    @Override
    String version() throws Exception {
        return super.version() + ", simple queries";
    }
}
