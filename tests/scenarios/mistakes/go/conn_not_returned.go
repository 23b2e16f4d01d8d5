// One connection is taken and never returned. Nothing is open on it, and the others work on.

package main

import (
	"context"
	"database/sql"
	"time"
)

func countOpen(database *sql.DB) (count int, err error) {
	connection, err := database.Conn(context.Background())
	if err != nil {
		return 0, err
	}
	// The mistake: a connection that was taken by hand has to be given back by hand.
	if fixed {
		defer connection.Close()
	}
	query := "SELECT count(*) FROM invoices WHERE status = $1"
	err = connection.QueryRowContext(context.Background(), query, "open").Scan(&count)
	return count, err
}

func main() {
	database := open()
	_, err := countOpen(database)
	must(err)
	for request := 1; request <= 20; request++ {
		var customer string
		must(database.QueryRow("SELECT customer FROM invoices WHERE id = $1", request).Scan(&customer))
		time.Sleep(100 * time.Millisecond)
	}
	rest()
}
