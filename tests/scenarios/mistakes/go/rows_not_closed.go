// Find an open invoice and mark it; a gap in the numbers is none of ours.

package main

import (
	"database/sql"
	"fmt"
)

const openInvoices = "SELECT id FROM invoices WHERE status = $1 ORDER BY id"

func isFirstOpen(database *sql.DB, invoice int) (bool, error) {
	transaction, err := database.Begin()
	if err != nil {
		return false, err
	}
	rows, err := transaction.Query(openInvoices, "open")
	if err != nil {
		return false, err
	}
	for rows.Next() {
		var id int
		if err := rows.Scan(&id); err != nil {
			return false, err
		}
		// The mistake: from here neither rows.Close() nor Commit() is reached, and nothing is deferred.
		return id == invoice, nil
	}
	rows.Close()
	return false, transaction.Commit()
}

func isFirstOpenAndEnds(database *sql.DB, invoice int) (bool, error) {
	transaction, err := database.Begin()
	if err != nil {
		return false, err
	}
	defer transaction.Rollback()
	rows, err := transaction.Query(openInvoices, "open")
	if err != nil {
		return false, err
	}
	defer rows.Close()
	var id int
	if rows.Next() {
		err = rows.Scan(&id)
	}
	return id == invoice, err
}

func main() {
	ask := isFirstOpen
	if fixed {
		ask = isFirstOpenAndEnds
	}
	first, err := ask(open(), 7)
	must(err)
	fmt.Println("first:", first)
	rest()
}
