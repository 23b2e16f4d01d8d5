package main

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/lib/pq"
)

// lib/pq, by database/sql with its pool. It reads libpq's variables itself.
var (
	database *sql.DB
	leak     *sql.Tx
)

const insert = "INSERT INTO items VALUES ($1)"

func main() {
	script{
		name:    "lib/pq",
		version: debianVersion("golang-github-lib-pq-dev"),
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
		useLeaked:    func() error { _, err := leak.Exec("SELECT 1"); return err },
		commitLeaked: func() error { return leak.Commit() },
		goOn:         goOn,
		again:        again,
		close:        func() (any, error) { return nil, database.Close() },
		sqlstate:     sqlstate,
	}.run()
}

func sqlstate(err error) any {
	var told *pq.Error
	if errors.As(err, &told) {
		return string(told.Code)
	}
	return nil
}

func connect() (any, error) {
	opened, err := sql.Open("postgres", "")
	must(err)
	database = opened
	var name string
	err = database.QueryRow("SELECT current_setting('application_name')").Scan(&name)
	return name, err
}

func count(step string) int {
	var count int
	must(database.QueryRow("SELECT count(*) FROM items WHERE step = $1", step).Scan(&count))
	return count
}

func parameters() (any, error) {
	var number int
	var text string
	err := database.QueryRow("SELECT $1::int + 1, $2::text", 41, "naïve 'quoted'").Scan(&number, &text)
	return []any{number, text}, err
}

func prepared() (any, error) {
	statement, err := database.Prepare("SELECT $1::int * 2")
	must(err)
	results := make([]int, 2)
	for i, number := range []int{21, 4} {
		must(statement.QueryRow(number).Scan(&results[i]))
	}
	return results, statement.Close()
}

func begin(step string) *sql.Tx {
	transaction, err := database.Begin()
	must(err)
	execute(transaction, insert, step)
	return transaction
}

func execute(transaction *sql.Tx, query string, arguments ...any) {
	_, err := transaction.Exec(query, arguments...)
	must(err)
}

func commit() (any, error) {
	must(begin("commit").Commit())
	return count("commit"), nil
}

func rollback() (any, error) {
	transaction := begin("rollback")
	_, err := transaction.Exec("SELECT 1 / 0")
	must(transaction.Rollback())
	return []any{sqlstate(err), count("rollback")}, nil
}

func savepoint() (any, error) {
	transaction := begin("savepoint")
	execute(transaction, "SAVEPOINT here")
	execute(transaction, insert, "savepoint")
	if _, err := transaction.Exec("SELECT 1 / 0"); err != nil {
		execute(transaction, "ROLLBACK TO here")
	}
	must(transaction.Commit())
	return count("savepoint"), nil
}

func copyRows() (any, error) {
	transaction, err := database.Begin()
	must(err)
	statement, err := transaction.Prepare(pq.CopyIn("copied", "number", "note"))
	must(err)
	for number := 0; number < copied; number++ {
		_, err := statement.Exec(number, "copied")
		must(err)
	}
	_, err = statement.Exec()
	must(err)
	must(statement.Close())
	must(transaction.Commit())
	var rows int // it has no COPY TO
	err = database.QueryRow("SELECT count(*) FROM copied").Scan(&rows)
	return rows, err
}

func large() (any, error) {
	result, err := database.Query(largeRows)
	must(err)
	rows := 0
	for result.Next() {
		rows++
	}
	return rows, result.Err()
}

// Its pool gives up the connection of a statement that was cancelled.
func cancel() (any, error) {
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, err := database.Exec("SELECT wait_for_sleeper()")
		must(err)
		stop()
	}()
	if _, err := database.ExecContext(ctx, "SELECT pg_sleep(60)"); sqlstate(err) != "57014" {
		return nil, err
	}
	var one int
	err := database.QueryRow("SELECT 1").Scan(&one)
	return one, err
}

func notify() (any, error) {
	listener := pq.NewListener("", time.Second, time.Minute, nil)
	must(listener.Listen("news"))
	_, err := database.Exec("NOTIFY news, 'hello'")
	must(err)
	news := <-listener.Notify
	return news.Extra, listener.Close()
}

func beginLeak() error {
	leak = begin("leak")
	return nil
}

func goOn() (any, error) {
	transaction := begin("after")
	var pid int
	must(transaction.QueryRow("SELECT pg_backend_pid()").Scan(&pid))
	return pid, transaction.Commit()
}

func again() (any, error) {
	leak.Rollback()
	var one int
	err := database.QueryRow("SELECT 1").Scan(&one)
	return one, err
}
