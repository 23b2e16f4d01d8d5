// Mark an invoice as sent, and tell the partner, who refuses.

package main

import (
	"database/sql"
	"log"
)

const setStatus = "UPDATE invoices SET status = $1 WHERE id = $2"

func send(database *sql.DB, invoice int) error {
	transaction, err := database.Begin()
	if err != nil {
		return err
	}
	if fixed {
		defer transaction.Rollback() // after a Commit it does nothing
	}
	if _, err := transaction.Exec(setStatus, "sent", invoice); err != nil {
		return err
	}
	// The mistake: without a deferred Rollback each of these returns leaves the transaction open.
	if err := callPartner("/refuses"); err != nil {
		return err
	}
	return transaction.Commit()
}

func main() {
	if err := send(open(), 1); err != nil {
		log.Print(err) // the request is answered with 500, and all looks well
	}
	rest()
}
