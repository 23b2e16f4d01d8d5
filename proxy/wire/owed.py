"""Between a rollback of ours and the moment when the client knows of it.

The backend really is in a failed block and answers everything correctly by itself, so everything goes on to it. But a
COMMIT in a failed block is answered by the tag ROLLBACK and without an error, which many drivers take for success. So
until the block is over, and only then, requests (proxy/wire/requests.py) and answers (proxy/wire/answers.py) are looked
at before they are passed on.
"""

from collections.abc import Set as AbstractSet

from proxy.wire.answers import Answers
from proxy.wire.failed_block import FailedBlock
from proxy.wire.requests import Requests


class Owed:
    """Both directions of a session whose client is owed an error.

    Args:
        error: the ErrorResponse.
        rollbacks: the names of prepared statements that roll back for certain.
    """

    __slots__ = ("_answers", "_block", "_requests")

    def __init__(self, error: bytes, rollbacks: AbstractSet[bytes]) -> None:
        self._block = FailedBlock()
        self._requests = Requests(self._block, rollbacks)
        self._answers = Answers(self._block, error)

    @property
    def over(self) -> bool:
        """Whether everything may be passed on as it comes, after the rest."""
        return self._block.over

    @property
    def doubt(self) -> str:
        """Why nobody can be sure what the client would believe, or ""; then the session has to be ended."""
        return self._block.doubt

    @property
    def waits(self) -> bool:
        """Whether something that the client has said is for later: not only half a message that nothing follows."""
        return self._block.waiting and self._requests.held > 0

    def rest(self) -> bytes:
        """What is held, whatever it is."""
        return self._requests.rest()

    @property
    def held(self) -> int:
        """How many bytes of the client's wait to be sent."""
        return self._requests.held

    def frontend(self, data: bytes) -> bytes:
        """Take what the client sent; returns what the server is to get now."""
        return self._requests.feed(data)

    def backend(self, data: bytes) -> bytes:
        """Take what the server sent; returns what the client is to get now. Afterwards requests may be released."""
        return self._answers.feed(data)

    def released(self) -> bytes:
        """What the server may get now of what was held."""
        return self._requests.rest() if self.over else self._requests.release()
