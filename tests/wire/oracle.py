"""What a client is to get behind a rollback of ours, told from what the server answers when it is asked step by step.

The server is in a failed block, and is only ever sent what pgleash would send it. It is asked one message at a time and
answers at once, so that it is known which Parse, Bind and Close it has done, and what an Execute is about to run.
"""

from typing import Final, Protocol

from proxy.wire.exits import Exit
from tests import messages as m
from tests.wire.scan import is_refused, slow_exit_of

HEADER: Final = 5
NAME_BYTES: Final = 63
EXTENDED: Final = b"PBDEC"
SIMPLE: Final = b"QF"
ROLLED_BACK: Final = m.complete("ROLLBACK")
ROLLBACK: Final = m.query("ROLLBACK")


class Excluded(Exception):  # noqa: N818 - nothing is wrong
    """Nobody can say what is right, and why."""


class Ends(Exception):  # noqa: N818 - the same
    """The session has to be ended here."""


class Server(Protocol):
    """Who is asked."""

    def ask(self, message: bytes) -> list[bytes]:
        """The whole answer to one message; nothing to what is answered later or never."""


class Names:
    """What the server has under which name, and where pgleash may well have a doubt about it.

    Args:
        prepared: texts of the statements that were prepared before.

    Attributes:
        texts: of statements and portals, by `S` or `P` and name.
        doubtful: those for which something was asked for in a round that has failed: pgleash does not go into what of
            it was done before the error.
    """

    def __init__(self, prepared: dict[bytes, bytes]) -> None:
        self.texts = {b"S" + name[:NAME_BYTES]: text for name, text in prepared.items()}
        self.doubtful: set[bytes] = set()
        self._heard_of: set[bytes] = set()  # in this round

    def end_round(self, *, failed: bool) -> None:
        """Sync was answered."""
        if failed:
            self.doubtful |= self._heard_of
        self._heard_of.clear()

    def heard(self, message: bytes, *, done: bool) -> None:
        """Parse, Bind or Close was done, or was refused or discarded."""
        kind, body = message[:1], message[HEADER:]
        first, _, rest = body.partition(b"\0")
        second = rest.partition(b"\0")[0]
        if kind == b"C":
            self._set(first, None, done=done)
        elif kind == b"P":
            self._set(b"S" + first, second, done=done)
        elif kind == b"B":
            portal, statement = first, b"S" + second[:NAME_BYTES]
            self._set(b"P" + portal, self.texts.get(statement), done=done)
            if statement in self.doubtful:
                self.doubtful.add(b"P" + portal[:NAME_BYTES])

    def _set(self, name: bytes, text: bytes | None, *, done: bool) -> None:
        name = name[: 1 + NAME_BYTES]
        self._heard_of.add(name)
        if not done:
            if self._would_change(name, text):
                self.doubtful.add(name)
            return
        if len(name) == 1:  # the one without a name is replaced each time
            self.doubtful.discard(name)
        if text is None:
            self.texts.pop(name, None)
        else:
            self.texts[name] = text

    def _would_change(self, name: bytes, text: bytes | None) -> bool:
        before = self.texts.get(name)
        if before is None:
            return name[:1] == b"S" and text is not None
        return text is None or slow_exit_of(text) is not slow_exit_of(before)

    def forget_unnamed(self) -> None:
        """A Query was asked for; the portal without a name stays when it fails."""
        self.texts.pop(b"S", None)


class Oracle:
    """One session that is owed an error.

    Args:
        server: in a failed block.
        error: what is owed.
        prepared: texts of the statements that were prepared before.

    Attributes:
        over: whether the client knows, and everything is its own again.
    """

    def __init__(self, server: Server, error: bytes, prepared: dict[bytes, bytes]) -> None:
        self.over = False
        self._server = server
        self._error = error
        self._names = Names(prepared)
        self._told = False
        self._series = False
        self._skipping = False
        self._turned = False

    def hear(self, message: bytes) -> list[bytes]:
        """What the client gets for this message.

        Raises:
            Excluded: nobody can say.
            Ends: the session has to be ended, behind what was returned before.
        """
        kind = message[:1]
        if self.over and not self._skipping:
            return self._own(message)
        if kind in SIMPLE:
            return self._simple(message)
        if kind in EXTENDED:
            return self._extended(message)
        if kind == b"S":
            return self._sync()
        return self._server.ask(message)

    def _own(self, message: bytes) -> list[bytes]:
        """The client knows; only behind an error the server has to be spared what it would discard."""
        answer = self._server.ask(message)
        self._skipping = message[:1] in EXTENDED and is_error(answer)
        return answer

    def _simple(self, message: bytes) -> list[bytes]:
        if self._turned or self.over:
            return []
        if self._series:
            raise Excluded("a Query in a series")
        text = b""
        if message[:1] == b"Q":
            self._names.forget_unnamed()
            text = message[HEADER:].rstrip(b"\0")
        if is_refused(text):
            raise Excluded("a text that is refused as a whole")
        way = slow_exit_of(text)
        answer = self._server.ask(ROLLBACK if way is Exit.COMMIT else message)
        if way is Exit.COMMIT:
            assert answer[-2:] == [ROLLED_BACK, m.ready("I")]  # there may be a warning before
            answer[-2] = self._error
            self.over = True
        elif ROLLED_BACK in answer:
            self.over = True
        return self._owed(answer)

    def _extended(self, message: bytes) -> list[bytes]:
        self._series = True
        if self._skipping:
            if not self._turned:
                self._names.heard(message, done=False)
            return []
        answer = self._server.ask(message)
        self._skipping = is_error(answer)
        self._names.heard(message, done=not self._skipping)
        if answer[-1] == ROLLED_BACK:
            return [*answer[:-1], self._exit(b"P" + message[HEADER:].split(b"\0")[0][:NAME_BYTES])]
        return self._owed(answer)

    def _exit(self, portal: bytes) -> bytes:
        """What stands for the tag of an Execute that has ended the block."""
        way, doubtful = slow_exit_of(self._names.texts[portal]), portal in self._names.doubtful
        if doubtful and way is Exit.ROLLBACK:
            raise Excluded("a name that nobody can be sure of")
        if way is Exit.ROLLBACK:
            self.over = True
            return ROLLED_BACK
        self._skipping = self._turned = True
        return self._error

    def _sync(self) -> list[bytes]:
        answer = self._server.ask(m.SYNC)
        if self._turned:
            if answer != [m.ready("I")]:
                raise Ends
            self.over = True
        self._names.end_round(failed=self._skipping)
        self._series = self._skipping = self._turned = False
        return answer

    def _owed(self, answer: list[bytes]) -> list[bytes]:
        """The answer with what is owed in place of its first error, if that has not come yet."""
        if self.over or self._told or not is_error(answer):
            return answer
        self._told = True
        return [self._error if one[:1] == b"E" else one for one in answer]


def is_error(answer: list[bytes]) -> bool:
    return any(one[:1] == b"E" for one in answer)
