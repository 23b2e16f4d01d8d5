package shop;

import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.net.URLEncoder;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.Statement;
import java.util.Set;
import javax.sql.DataSource;

/** Call sites for JDBC: every statement of a DataSource's connections says where it comes from. */
public final class CallSites implements InvocationHandler {
    private static final Set<String> TAKE_SQL = Set.of(
            "prepareStatement", "prepareCall",
            "execute", "executeQuery", "executeUpdate", "executeLargeUpdate", "addBatch");

    private final Object target;
    private final String application;

    private CallSites(Object target, String application) {
        this.target = target;
        this.application = application;
    }

    /**
     * Returns a DataSource that does what this one does, a pool or what is below a pool.
     *
     * @param application the beginning of your own classes' names, such as "com.example."
     */
    public static DataSource tell(DataSource source, String application) {
        return wrapped(DataSource.class, source, application);
    }

    private static <T> T wrapped(Class<T> type, Object target, String application) {
        InvocationHandler handler = new CallSites(target, application);
        return type.cast(Proxy.newProxyInstance(type.getClassLoader(), new Class<?>[] {type}, handler));
    }

    @Override
    public Object invoke(Object proxy, Method method, Object[] arguments) throws Throwable {
        if (TAKE_SQL.contains(method.getName()) && arguments != null && arguments[0] instanceof String) {
            arguments[0] = commented((String) arguments[0]);
        }
        try {
            Object result = method.invoke(target, arguments);
            Class<?> type = method.getReturnType();
            return type == Connection.class || type == Statement.class ? wrapped(type, result, application) : result;
        } catch (InvocationTargetException thrown) {
            throw thrown.getCause();
        }
    }

    private String commented(String sql) {
        return StackWalker.getInstance()
                .walk(frames -> frames.filter(this::isOwn).findFirst())
                .map(frame -> String.format(
                        "/*source_location='%s:%d',function='%s'*/ %s",
                        frame.getFileName(),
                        frame.getLineNumber(),
                        encoded(frame.getClassName() + "." + frame.getMethodName()),
                        sql))
                .orElse(sql);
    }

    private boolean isOwn(StackWalker.StackFrame frame) {
        String name = frame.getClassName();
        return name.startsWith(application) && !name.equals(CallSites.class.getName());
    }

    /** A lambda's name has a dollar sign, a constructor's angle brackets. */
    private static String encoded(String name) {
        return URLEncoder.encode(name, StandardCharsets.UTF_8);
    }
}
