"""What is promised to clients whose transactions are rolled back: kept under load, in races, and to honest ones.

ledger    the tables, what each client knows of its transactions, and the judgement of one by the other
drivers   ways of talking to Postgres, under one face
wire      a client that says exactly what it is told to
plans     what a client means to do in a transaction, and what goes wrong in it
trouble   what goes wrong with one request
attempt   one transaction as it was planned, and what the client learns of its end
client    one client, transaction after transaction
monitor   looks at pg_stat_activity all the while, past the proxy
race      a client that goes on exactly when the limit passes
tally     what happened, counted, and what may not have been left out
"""
