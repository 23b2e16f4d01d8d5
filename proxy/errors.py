"""The exceptions of pgleash, by whose fault they are.

PgleashError
├── OperatorError     the configuration or the environment is wrong: say what would be right
│   └── SettingsError     a list of problems, each with its key
├── PeerError         the other side of a socket does not speak the protocol
└── NetworkError      an address cannot be reached
"""


class PgleashError(Exception):
    """Base of everything that pgleash raises on purpose; its text is one line for a person."""


class OperatorError(PgleashError):
    """What was asked for cannot be done as it was configured."""


class SettingsError(OperatorError):
    """The configuration is wrong.

    Attributes:
        problems: one line for each problem, naming the key, what is wrong and what would be right.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class PeerError(PgleashError):
    """A peer sent what the protocol does not allow; the text becomes the message of FATAL 08P01."""


class NetworkError(PgleashError):
    """An address could not be reached.

    Attributes:
        address: as it is configured.
        cause: in the system's words.
        hint: what would help.
    """

    def __init__(self, address: str, cause: str, hint: str = "") -> None:
        super().__init__(f"{address}: {cause}")
        self.address = address
        self.cause = cause
        self.hint = hint or "Check upstream in the configuration of pgleash, and that the server runs."
