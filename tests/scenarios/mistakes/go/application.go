// What every application here has: the switch of its mistake, a database, a partner, and an end.

package main

import (
	"database/sql"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	_ "github.com/lib/pq" // reads libpq's variables itself
)

// Whether the mistake is mended.
var fixed = os.Getenv("FIXED") == "1"

func open() *sql.DB {
	database, err := sql.Open("postgres", "")
	must(err)
	return database
}

// Ask somebody else's service.
func callPartner(path string) error {
	answer, err := http.Get(os.Getenv("PARTNER") + path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("the partner answered %s", answer.Status)
	}
	return nil
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// Nothing more is to be done; like any server, it stays until it is told to end.
func rest() {
	fmt.Println("rests")
	io.Copy(io.Discard, os.Stdin)
}
