"""What every application here has: the switch of its mistake, a partner, and an end."""

import os
import sys
import urllib.request

FIXED = os.environ["FIXED"] == "1"


def call_partner(path: str) -> None:
    """Ask somebody else's service.

    Raises:
        urllib.error.HTTPError: it refuses.
    """
    with urllib.request.urlopen(os.environ["PARTNER"] + path, timeout=10):  # noqa: S310 - an address of the tests' own
        pass


def rest() -> None:
    """Nothing more is to be done; like any server, it stays until it is told to end."""
    sys.stdout.write("rests\n")
    sys.stdout.flush()
    sys.stdin.read()
