"""The demo: a Postgres of its own for as long as it is needed, and an application that leaks transactions.

This room stands beside the program, not in it: only the command that starts the demo knows it, and it needs the extra
`pgleash[demo]`. The test suite starts its servers through it, so both see the same Postgres.

    binaries.py   where Postgres's programs lie, and as whom they can run
    postgres.py   a throw-away server, and the guard that ends it whatever becomes of us
"""
