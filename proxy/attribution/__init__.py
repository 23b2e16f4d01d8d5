"""Naming the culprit: who holds a transaction open, with which statements, from where in the code, at whose cost.

Nothing here runs before there is a leak to report, so it may take tens of microseconds a statement. It looks at the
bytes and figures that `wire` has kept; it decides nothing and writes to neither side of a session.

    statements  the text of a statement as a log may show it, without literals
    tags        what comments of statements say of where they come from
    classify    which kind of mistake it is
"""
