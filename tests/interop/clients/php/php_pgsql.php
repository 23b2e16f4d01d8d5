<?php

// PHP's pgsql. What a step has to do and to return is told in ../python/script.py.

const COPIED = 100_000;
const LARGE_ROWS = "SELECT g, repeat('x', 100) FROM generate_series(1, 100000) AS g";
const STEPS = [
    'connect', 'parameters', 'prepared', 'commit', 'rollback', 'savepoint', 'copy', 'large', 'cancel', 'notify',
];

function say(array $line): void
{
    echo json_encode($line, JSON_UNESCAPED_UNICODE), "\n";
}

/** Its functions tell of an error in a warning and return false; here both are an exception. */
function raise(int $level, string $message): never
{
    throw new ErrorException($message, 0, $level);
}

/** The steps; libpq reads the environment. */
class Client
{
    private PgSql\Connection $connection;

    private function connected(): PgSql\Connection
    {
        return pg_connect('', PGSQL_CONNECT_FORCE_NEW);
    }

    private function row(string $query, array $arguments = []): array
    {
        return pg_fetch_row(pg_query_params($this->connection, $query, $arguments));
    }

    private function count(string $step): int
    {
        return (int) $this->row('SELECT count(*) FROM items WHERE step = $1', [$step])[0];
    }

    private function run(string $query): void
    {
        pg_query($this->connection, $query);
    }

    private function insert(string $step): void
    {
        pg_query_params($this->connection, 'INSERT INTO items VALUES ($1)', [$step]);
    }

    /** The SQLSTATE of a statement that fails. */
    private function failed(string $query): string
    {
        pg_send_query($this->connection, $query);
        $result = pg_get_result($this->connection);
        pg_get_result($this->connection);
        return pg_result_error_field($result, PGSQL_DIAG_SQLSTATE);
    }

    private function elsewhere(string $query): void
    {
        $other = $this->connected();
        pg_query($other, $query);
        pg_close($other);
    }

    public function connect(): string
    {
        $this->connection = $this->connected();
        return $this->row("SELECT current_setting('application_name')")[0];
    }

    public function parameters(): array
    {
        [$number, $text] = $this->row('SELECT $1::int + 1, $2::text', [41, "naïve 'quoted'"]);
        return [(int) $number, $text];
    }

    public function prepared(): array
    {
        pg_prepare($this->connection, 'double', 'SELECT $1::int * 2');
        $double = fn (int $number) => (int) pg_fetch_row(pg_execute($this->connection, 'double', [$number]))[0];
        return [$double(21), $double(4)];
    }

    public function commit(): int
    {
        $this->run('BEGIN');
        $this->insert('commit');
        $this->run('COMMIT');
        return $this->count('commit');
    }

    public function rollback(): array
    {
        $this->run('BEGIN');
        $this->insert('rollback');
        $sqlstate = $this->failed('SELECT 1 / 0');
        $this->run('ROLLBACK');
        return [$sqlstate, $this->count('rollback')];
    }

    public function savepoint(): int
    {
        $this->run('BEGIN');
        $this->insert('savepoint');
        $this->run('SAVEPOINT here');
        $this->insert('savepoint');
        $this->failed('SELECT 1 / 0');
        $this->run('ROLLBACK TO here');
        $this->run('COMMIT');
        return $this->count('savepoint');
    }

    public function copy(): int
    {
        $rows = array_map(fn (int $number) => "$number\tcopied\n", range(1, COPIED));
        pg_copy_from($this->connection, 'copied', $rows);
        return count(pg_copy_to($this->connection, 'copied'));
    }

    public function large(): int
    {
        return pg_num_rows(pg_query($this->connection, LARGE_ROWS));
    }

    public function cancel(): int
    {
        pg_send_query($this->connection, 'SELECT pg_sleep(60)');
        $this->elsewhere('SELECT wait_for_sleeper()');
        pg_cancel_query($this->connection);
        return (int) $this->row('SELECT 1')[0];
    }

    public function notify(): string
    {
        $this->run('LISTEN news');
        $this->elsewhere("NOTIFY news, 'hello'");
        $this->run('SELECT 1');
        return pg_get_notify($this->connection)['payload'];
    }

    public function beginLeak(): void
    {
        $this->run('BEGIN');
        $this->insert('leak');
    }

    public function useLeaked(): void
    {
        $this->run('SELECT 1');
    }

    public function commitLeaked(): void
    {
        $this->run('COMMIT');
    }

    public function goOn(): int
    {
        $this->run('BEGIN');
        $this->insert('after');
        $pid = (int) $this->row('SELECT pg_backend_pid()')[0];
        $this->run('COMMIT');
        return $pid;
    }

    public function again(): int
    {
        $this->connection = $this->connected();
        return (int) $this->row('SELECT 1')[0];
    }

    public function close(): void
    {
        pg_close($this->connection);
    }
}

function step(Client $client, string $name, ?Closure $work = null): void
{
    try {
        say(['step' => $name, 'ok' => true, 'result' => $work ? $work() : $client->$name()]);
    } catch (Throwable $error) {
        fwrite(STDERR, "$error\n");
        say(['step' => $name, 'ok' => false, 'error' => $error::class . ': ' . $error->getMessage()]);
    }
}

function hold(Client $client): void
{
    $client->beginLeak();
    say(['step' => 'leaking']);
    fgets(STDIN);
}

/** What this raises. */
function attempt(Closure $work): array
{
    try {
        $work();
        return ['raised' => null];
    } catch (ErrorException $warning) {
        return ['raised' => 'warning, and false', 'sqlstate' => null, 'text' => trim($warning->getMessage())];
    }
}

function run(Client $client): void
{
    foreach (STEPS as $name) {
        step($client, $name);
    }
    hold($client);
    say(['step' => 'leak', ...attempt($client->useLeaked(...))]);
    step($client, 'again');
    step($client, 'close');
}

function runRolledBack(Client $client): void
{
    step($client, 'connect');
    hold($client);
    step($client, 'statement', fn () => attempt($client->useLeaked(...)));
    step($client, 'commit', fn () => attempt($client->commitLeaked(...)));
    step($client, 'go on', $client->goOn(...));
    hold($client);
    step($client, 'commit at once', fn () => attempt($client->commitLeaked(...)));
    step($client, 'go on again', $client->goOn(...));
    step($client, 'close');
}

set_error_handler(raise(...));
$client = new Client();
say(['driver' => 'PHP pgsql', 'version' => PHP_VERSION]);
getenv('INTEROP_SCRIPT') === 'rolled back' ? runRolledBack($client) : run($client);
