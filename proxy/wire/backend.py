"""What a server process tells of itself: its number, the key to cancel it, its parameters."""

import re
from typing import Final

# Those that are worth knowing: who the client is, how strings are quoted, and what the server can do.
STRINGS: Final = "standard_conforming_strings"
PARAMETERS: Final = frozenset({"application_name", STRINGS, "server_version"})


class Backend:
    """One session's server process.

    Attributes:
        pid, cancel_key: of BackendKeyData; 0 and b"" if the server sent none.
        parameters: the last ParameterStatus of the names in PARAMETERS.
        strings_changed: whether standard_conforming_strings has had another value before: nobody knows by which of them
            the server has read a text.
    """

    __slots__ = ("cancel_key", "parameters", "pid", "strings_changed")

    def __init__(self) -> None:
        self.pid = 0
        self.cancel_key = b""
        self.parameters: dict[str, str] = {}
        self.strings_changed = False

    @property
    def major(self) -> int:
        """The server's major version, as it reports it; 0 if it does not."""
        digits = re.match(r"\d+", self.parameters.get("server_version", ""))
        return int(digits[0]) if digits else 0

    @property
    def backslash_escapes(self) -> bool:
        """Whether a backslash escapes in plain strings: standard_conforming_strings is off."""
        return self.parameters.get(STRINGS) == "off"

    def is_meant(self, key: bytes) -> bool:
        """Whether a cancel request with this process id and key is for this backend."""
        return bool(self.cancel_key) and key == self.pid.to_bytes(4, "big") + self.cancel_key

    def parameter_status(self, body: bytes) -> None:
        """ParameterStatus."""
        name, _, rest = body.partition(b"\0")
        key, value = name.decode("latin-1"), rest.partition(b"\0")[0].decode("utf-8", "replace")
        if key not in PARAMETERS:
            return
        if key == STRINGS and self.parameters.get(key, value) != value:
            self.strings_changed = True
        self.parameters[key] = value

    def key_data(self, body: bytes) -> None:
        """BackendKeyData."""
        self.pid = int.from_bytes(body[:4], "big")
        self.cancel_key = body[4:]
