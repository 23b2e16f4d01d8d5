package main

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgx/v4"
)

// pgx with a connection of its own. It reads libpq's variables itself.
var (
	always     = context.Background()
	connection *pgx.Conn
	leak       pgx.Tx
)

const insert = "INSERT INTO items VALUES ($1)"

func main() {
	script{
		name:    "pgx",
		version: debianVersion("golang-github-jackc-pgx-v4-dev"),
		steps: map[string]step{
			"connect":    connect,
			"parameters": parameters,
			"prepared":   prepared,
			"commit":     commit,
			"rollback":   rollback,
			"savepoint":  savepoint,
			"copy":       copyRows,
			"large":      large,
			"cancel":     cancel,
			"notify":     notify,
		},
		beginLeak:    beginLeak,
		useLeaked:    func() error { _, err := leak.Exec(always, "SELECT 1"); return err },
		commitLeaked: func() error { return leak.Commit(always) },
		goOn:         goOn,
		again:        again,
		close:        func() (any, error) { return nil, connection.Close(always) },
		sqlstate:     sqlstate,
	}.run()
}

func sqlstate(err error) any {
	var told *pgconn.PgError
	if errors.As(err, &told) {
		return told.Code
	}
	return nil
}

func open() *pgx.Conn {
	opened, err := pgx.Connect(always, "")
	must(err)
	return opened
}

func connect() (any, error) {
	connection = open()
	var name string
	err := connection.QueryRow(always, "SELECT current_setting('application_name')").Scan(&name)
	return name, err
}

func count(step string) int {
	var count int
	must(connection.QueryRow(always, "SELECT count(*)::int FROM items WHERE step = $1", step).Scan(&count))
	return count
}

func parameters() (any, error) {
	var number int
	var text string
	row := connection.QueryRow(always, "SELECT $1::int + 1, $2::text", 41, "naïve 'quoted'")
	err := row.Scan(&number, &text)
	return []any{number, text}, err
}

func prepared() (any, error) {
	_, err := connection.Prepare(always, "double", "SELECT $1::int * 2")
	must(err)
	results := make([]int, 2)
	for i, number := range []int{21, 4} {
		must(connection.QueryRow(always, "double", number).Scan(&results[i]))
	}
	return results, nil
}

func begin(step string) pgx.Tx {
	transaction, err := connection.Begin(always)
	must(err)
	_, err = transaction.Exec(always, insert, step)
	must(err)
	return transaction
}

func commit() (any, error) {
	must(begin("commit").Commit(always))
	return count("commit"), nil
}

func rollback() (any, error) {
	transaction := begin("rollback")
	_, err := transaction.Exec(always, "SELECT 1 / 0")
	must(transaction.Rollback(always))
	return []any{sqlstate(err), count("rollback")}, nil
}

func savepoint() (any, error) {
	transaction := begin("savepoint")
	nested, err := transaction.Begin(always)
	must(err)
	_, err = nested.Exec(always, insert, "savepoint")
	must(err)
	if _, err = nested.Exec(always, "SELECT 1 / 0"); err != nil {
		must(nested.Rollback(always))
	}
	must(transaction.Commit(always))
	return count("savepoint"), nil
}

func copyRows() (any, error) {
	rows := make([][]any, copied)
	for number := range rows {
		rows[number] = []any{int32(number), "copied"}
	}
	_, err := connection.CopyFrom(always, pgx.Identifier{"copied"}, []string{"number", "note"}, pgx.CopyFromRows(rows))
	must(err)
	var output bytes.Buffer
	_, err = connection.PgConn().CopyTo(always, &output, "COPY copied TO STDOUT")
	return bytes.Count(output.Bytes(), []byte("\n")), err
}

func large() (any, error) {
	result, err := connection.Query(always, largeRows)
	must(err)
	rows := 0
	for result.Next() {
		rows++
	}
	return rows, result.Err()
}

func cancel() (any, error) {
	go func() {
		other := open()
		_, err := other.Exec(always, "SELECT wait_for_sleeper()")
		must(err)
		must(other.Close(always))
		must(connection.PgConn().CancelRequest(always))
	}()
	if _, err := connection.Exec(always, "SELECT pg_sleep(60)"); sqlstate(err) != "57014" {
		return nil, err
	}
	var one int
	err := connection.QueryRow(always, "SELECT 1").Scan(&one)
	return one, err
}

func notify() (any, error) {
	_, err := connection.Exec(always, "LISTEN news")
	must(err)
	other := open()
	_, err = other.Exec(always, "NOTIFY news, 'hello'")
	must(err)
	must(other.Close(always))
	soon, stop := context.WithTimeout(always, 30*time.Second)
	defer stop()
	news, err := connection.WaitForNotification(soon)
	if err != nil {
		return nil, err
	}
	return news.Payload, nil
}

func beginLeak() error {
	leak = begin("leak")
	return nil
}

func goOn() (any, error) {
	transaction := begin("after")
	var pid int
	must(transaction.QueryRow(always, "SELECT pg_backend_pid()").Scan(&pid))
	return pid, transaction.Commit(always)
}

func again() (any, error) {
	connection.Close(always)
	connection = open()
	var one int
	err := connection.QueryRow(always, "SELECT 1").Scan(&one)
	return one, err
}
