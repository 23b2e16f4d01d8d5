"""Telling people: typed events, their sentence, the log, and the ledger of who leaks.

event     what an event is
events    every event and its fields: the log's schema
summary   one sentence for a person
log       structlog's chain, and a writer that never blocks the loop
console   a line that a person reads on a terminal
ledger    leaks by client
document  the ledger as JSON, and read again
history   the ledger from a log
habits    how long each client holds its transactions
advice    what limit would fit that, as a table and as JSON
now       what goes on at this moment: sessions, clients
restore   records from their flat fields
reporter  where the rest of pgleash hands its events in
"""
