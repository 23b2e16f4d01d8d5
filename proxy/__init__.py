"""pgleash: a Postgres sidecar that says who is sitting on an open transaction.

A map of the package. A file imports only from rooms below its own; tests/test_house.py checks it.

    cli, __main__   the commands; the only place that exits
    ask/            what a running proxy's admin side tells, for `leaks`, `sessions`, `advise`
    check           what rule a client gets, for `check-config --as`
    demo/           an embedded Postgres and a leaking application
    compare         two ledgers: who leaks in one environment or release only, or more
    run/            a command that is led through the proxy, and who leaked in it
    reload          takes over a changed configuration while clients are served
    admin/          the API over HTTP that tells what goes on
    server          listeners, accept, drain; owns the sessions
    greeting        a client's first packets, until it asks for a session
    session         one client and its one backend: what it is made of, and how it begins
    ending          how it ends, whoever ends it
    rollback        a rollback of ours that keeps the connections: nothing is passed on unseen until the client knows
    relay           the two asyncio protocols: write through, then show to the tracker; back-pressure
    leash/          deciding (policy: pure), acting (enforcer) and telling: facts (describer), who is asked for more
                    (witnesses), in which order (telling); other sessions of the client (clients, forgotten)
    authentication  what each leg's TLS allows a client to prove
    upstream        dialling the server: resolve, connect, encrypt, forward a cancel
    tls/            TLS over a connected transport, what the options mean to OpenSSL, files that change
    report/         typed events, their way into the log, the ledger by client
    attribution/    naming the culprit; runs only when there is a leak
    sockets         what the kernel is told and asked about a socket
    settings        every option once: file, environment, flag, schema
    wire/           the frontend/backend protocol, sans-I/O: scanner, startup, tracker, transaction, replies;
                    rollback, owed: what is said and looked at around a rollback of ours
    errors          the exceptions, by whose fault they are

The way of a byte: `relay.Leg.data_received` writes it to the other socket, then shows it to `leash.guard` (a request
arms the watchdog) and `wire.tracker`, which cuts the stream into messages and keeps whose turn it is. The way of a
leak: `leash.watchdog` wakes when a limit could have passed, `leash.guard` asks tracker and sockets what is held and
since when, `leash.policy.judge` gives a verdict; the `leash.enforcer` has `describer` put the facts together, hands
them to `telling`, which waits for what the `witnesses` know (`attribution`) and emits the event (`report.reporter`:
ledger, folding, log); and, if told to, the enforcer has the session roll back (`rollback`) or end (`ending`).
"""

__version__ = "0.1.0"
