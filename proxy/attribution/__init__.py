"""Naming the culprit: who holds a transaction open, with which statements, from where in the code, at whose cost.

Nothing here runs before there is a leak to report, so it may take tens of microseconds a statement. It looks at the
bytes and figures that `wire` has kept; it decides nothing and writes to neither side of a session.

    statements  the text of a statement as a log may show it, without literals
    tags        what comments of statements say of where they come from
    process     which program is at the client's end, by the kernel's tables (holders)
    blast       which locks it holds and who waits for them, by a connection of our own (inquiry, lookup)
    fingerprint what statements of the same shape have in common
    trace       the ids of a trace, among the tags
    classify    which kind of mistake it is
"""
