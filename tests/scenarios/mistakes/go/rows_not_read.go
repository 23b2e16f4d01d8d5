// Preview an export: the first row will do.

package main

import (
	"database/sql"
	"fmt"
)

// Some 20 MB, more than all buffers on the way take.
const export = "SELECT repeat(customer, 200) FROM invoices, generate_series(1, 100)"

func preview(database *sql.DB) (first string, err error) {
	rows, err := database.Query(export)
	if err != nil {
		return "", err
	}
	if fixed {
		defer rows.Close()
	}
	// The mistake: nobody reads the rest, and the server waits in the middle of the statement.
	rows.Next()
	err = rows.Scan(&first)
	return first, err
}

func main() {
	first, err := preview(open())
	must(err)
	fmt.Println("first:", len(first))
	rest()
}
