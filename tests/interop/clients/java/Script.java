import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.sql.SQLException;
import java.util.Arrays;
import java.util.Collection;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.StringJoiner;

/**
 * The common script, as every client for Java runs it: its steps, and what it prints of them.
 *
 * <p>What a step has to do and to return is told in ../python/script.py.
 */
abstract class Script {
    static final int COPIED = 100_000;
    static final String LARGE_ROWS = "SELECT g, repeat('x', 100) FROM generate_series(1, 100000) AS g";

    private static final BufferedReader INPUT = new BufferedReader(new InputStreamReader(System.in));
    private static final PrintStream OUTPUT = new PrintStream(System.out, true, StandardCharsets.UTF_8);

    /** The client has nothing for this step. */
    static class Unsupported extends Exception {
        Unsupported(String reason) {
            super(reason);
        }
    }

    /** A step. */
    interface Step {
        Object run() throws Exception;
    }

    /** Something that may fail. */
    interface Work {
        void run() throws Exception;
    }

    abstract String driver();

    abstract String version() throws Exception;

    abstract Map<String, Step> steps();

    abstract void beginLeak() throws Exception;

    abstract void useLeaked() throws Exception;

    abstract void commitLeaked() throws Exception;

    abstract Object goOn() throws Exception;

    abstract Object again() throws Exception;

    abstract void close() throws Exception;

    /** Run the whole script, or that of leaks that are rolled back. */
    void main() throws Exception {
        say("driver", driver(), "version", version());
        if ("rolled back".equals(environment("INTEROP_SCRIPT"))) {
            rolledBack();
            return;
        }
        for (Map.Entry<String, Step> step : steps().entrySet()) {
            step(step.getKey(), step.getValue());
        }
        hold();
        Map<String, Object> leak = new LinkedHashMap<>(Map.of("step", "leak"));
        leak.putAll(attempt(this::useLeaked));
        OUTPUT.println(json(leak));
        step("again", this::again);
        step("close", this::closed);
    }

    private void rolledBack() throws Exception {
        step("connect", steps().get("connect"));
        hold();
        step("statement", () -> attempt(this::useLeaked));
        step("commit", () -> attempt(this::commitLeaked));
        step("go on", this::goOn);
        hold();
        step("commit at once", () -> attempt(this::commitLeaked));
        step("go on again", this::goOn);
        step("close", this::closed);
    }

    private Object closed() throws Exception {
        close();
        return null;
    }

    private void hold() throws Exception {
        beginLeak();
        say("step", "leaking");
        INPUT.readLine();
    }

    /** What this raises. */
    private static Map<String, Object> attempt(Work work) throws Exception {
        Map<String, Object> outcome = new LinkedHashMap<>();
        outcome.put("raised", null);
        try {
            work.run();
        } catch (SQLException error) {
            outcome.put("raised", error.getClass().getName());
            outcome.put("sqlstate", error.getSQLState());
            outcome.put("text", error.getMessage());
        }
        return outcome;
    }

    private static void step(String name, Step step) {
        try {
            say("step", name, "ok", true, "result", step.run());
        } catch (Unsupported reason) {
            say("step", name, "unsupported", reason.getMessage());
        } catch (Exception error) {
            error.printStackTrace();
            say("step", name, "ok", false, "error", error.toString());
        }
    }

    static String environment(String name) {
        return System.getenv(name);
    }

    private static void say(Object... pairs) {
        Map<String, Object> line = new LinkedHashMap<>();
        for (int i = 0; i < pairs.length; i += 2) {
            line.put((String) pairs[i], pairs[i + 1]);
        }
        OUTPUT.println(json(line));
    }

    private static String json(Object value) {
        if (value == null || value instanceof Number || value instanceof Boolean) {
            return String.valueOf(value);
        }
        if (value instanceof Map<?, ?> map) {
            StringJoiner members = new StringJoiner(", ", "{", "}");
            map.forEach((name, member) -> members.add(json(name) + ": " + json(member)));
            return members.toString();
        }
        if (value instanceof Collection<?> list) {
            StringJoiner elements = new StringJoiner(", ", "[", "]");
            list.forEach(element -> elements.add(json(element)));
            return elements.toString();
        }
        if (value instanceof Object[] array) {
            return json(Arrays.asList(array));
        }
        StringBuilder text = new StringBuilder("\"");
        for (char c : value.toString().toCharArray()) {
            text.append(c < ' ' || c == '"' || c == '\\' ? String.format("\\u%04x", (int) c) : String.valueOf(c));
        }
        return text.append('"').toString();
    }
}
