"""What a server process tells of itself: its number, the key to cancel it, its parameters."""

import re
from typing import Final

# Those that are worth knowing: who the client is, how strings are quoted, and what the server can do.
PARAMETERS: Final = frozenset({"application_name", "standard_conforming_strings", "server_version"})


class Backend:
    """One session's server process.

    Attributes:
        pid, cancel_key: of BackendKeyData; 0 and b"" if the server sent none.
        parameters: the last ParameterStatus of the names in PARAMETERS.
    """

    __slots__ = ("cancel_key", "parameters", "pid")

    def __init__(self) -> None:
        self.pid = 0
        self.cancel_key = b""
        self.parameters: dict[str, str] = {}

    @property
    def major(self) -> int:
        """The server's major version, as it reports it; 0 if it does not."""
        digits = re.match(r"\d+", self.parameters.get("server_version", ""))
        return int(digits[0]) if digits else 0

    @property
    def backslash_escapes(self) -> bool:
        """Whether a backslash escapes in plain strings: standard_conforming_strings is off."""
        return self.parameters.get("standard_conforming_strings") == "off"

    def is_meant(self, key: bytes) -> bool:
        """Whether a cancel request with this process id and key is for this backend."""
        return bool(self.cancel_key) and key == self.pid.to_bytes(4, "big") + self.cancel_key

    def parameter_status(self, body: bytes) -> None:
        """ParameterStatus."""
        name, _, rest = body.partition(b"\0")
        value = rest.partition(b"\0")[0]
        if name.decode("latin-1") in PARAMETERS:
            self.parameters[name.decode("latin-1")] = value.decode("utf-8", "replace")

    def key_data(self, body: bytes) -> None:
        """BackendKeyData."""
        self.pid = int.from_bytes(body[:4], "big")
        self.cancel_key = body[4:]
