"""What a session is in the middle of.

phase         entered by                      the client's turn
STARTUP       the startup packet              no: authentication has its own time limit
READY         ReadyForQuery                   when nothing is due, or a series is stalled
COPY_IN       CopyInResponse                  yes, until CopyDone or CopyFail
COPY_IN_DONE  CopyDone or CopyFail            no
COPY_OUT      CopyOutResponse                 no
ENDED         a FATAL                         no: nothing is held any more
"""

import enum


class Phase(enum.Enum):
    """What the session is in the middle of."""

    STARTUP = "startup"
    READY = "ready"
    COPY_IN = "copy_in"
    COPY_IN_DONE = "copy_in_done"
    COPY_OUT = "copy_out"
    ENDED = "ended"
