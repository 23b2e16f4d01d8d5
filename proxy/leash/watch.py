"""What the guards of a proxy share."""

from typing import NamedTuple

from proxy.leash.clients import Clients
from proxy.leash.terms import Terms
from proxy.leash.witnesses import Witnesses
from proxy.report.habits import AllHabits
from proxy.report.reporter import Reporter


class Watch(NamedTuple):
    """What the guards of a proxy share.

    Attributes:
        terms: what sessions are judged by.
        reporter: takes events.
        clients: the sessions of each client.
        habits: what each client's transactions are like.
        witnesses: whom to ask about a client that leaks.
    """

    terms: Terms
    reporter: Reporter
    clients: Clients
    habits: AllHabits
    witnesses: Witnesses
