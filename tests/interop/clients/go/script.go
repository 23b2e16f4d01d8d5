// The common script, as every client for Go runs it: its steps, and what it prints of them.
// What a step has to do and to return is told in ../python/script.py.
package main

import (
	"bufio"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
)

const (
	copied    = 100_000
	largeRows = "SELECT g, repeat('x', 100) FROM generate_series(1, 100000) AS g"
)

var steps = []string{
	"connect", "parameters", "prepared", "commit", "rollback", "savepoint", "copy", "large", "cancel", "notify",
}

var input = bufio.NewReader(os.Stdin)

type line map[string]any

type step func() (any, error)

// unsupported says that the client has nothing for this step.
type unsupported string

func (reason unsupported) Error() string { return string(reason) }

// script is what a client has to do, in its own words.
type script struct {
	name, version string
	steps         map[string]step
	beginLeak     func() error
	useLeaked     func() error
	commitLeaked  func() error
	goOn          step
	again, close  step
	sqlstate      func(error) any
}

func say(what line) {
	text, err := json.Marshal(what)
	must(err)
	fmt.Println(string(text))
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func perform(name string, do step) {
	result, err := do()
	switch reason := err.(type) {
	case nil:
		say(line{"step": name, "ok": true, "result": result})
	case unsupported:
		say(line{"step": name, "unsupported": string(reason)})
	default:
		say(line{"step": name, "ok": false, "error": fmt.Sprintf("%T: %v", err, err)})
	}
}

// run runs the whole script, or that of leaks that are rolled back.
func (s script) run() {
	say(line{"driver": s.name, "version": s.version})
	if os.Getenv("INTEROP_SCRIPT") == "rolled back" {
		s.runRolledBack()
		return
	}
	for _, name := range steps {
		do, has := s.steps[name]
		if !has {
			do = func() (any, error) { return nil, unsupported("it has none") }
		}
		perform(name, do)
	}
	s.hold()
	leak := s.attempt(s.useLeaked)
	leak["step"] = "leak"
	say(leak)
	perform("again", s.again)
	perform("close", s.close)
}

func (s script) runRolledBack() {
	perform("connect", s.steps["connect"])
	s.hold()
	perform("statement", func() (any, error) { return s.attempt(s.useLeaked), nil })
	perform("commit", func() (any, error) { return s.attempt(s.commitLeaked), nil })
	perform("go on", s.goOn)
	s.hold()
	perform("commit at once", func() (any, error) { return s.attempt(s.commitLeaked), nil })
	perform("go on again", s.goOn)
	perform("close", s.close)
}

func (s script) hold() {
	must(s.beginLeak())
	say(line{"step": "leaking"})
	_, err := input.ReadString('\n')
	must(err)
}

// attempt tells what this has for an error.
func (s script) attempt(work func() error) line {
	if err := work(); err != nil {
		return line{"raised": nameOf(err), "sqlstate": s.sqlstate(err), "text": err.Error()}
	}
	return line{"raised": nil}
}

// nameOf is what an application compares an error with.
func nameOf(err error) string {
	if errors.Is(err, driver.ErrBadConn) {
		return "driver.ErrBadConn"
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", err), "*")
}

// debianVersion is the version of a package that Debian has installed.
func debianVersion(name string) string {
	status, err := os.ReadFile("/var/lib/dpkg/status")
	if err != nil {
		return ""
	}
	_, paragraph, _ := strings.Cut(string(status), "Package: "+name+"\n")
	_, version, _ := strings.Cut(paragraph, "\nVersion: ")
	version, _, _ = strings.Cut(version, "\n")
	version, _, _ = strings.Cut(version, "-")
	return version
}
