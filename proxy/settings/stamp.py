"""Whether a file has changed."""

import os

Stamp = tuple[int, int, int] | None


def stamp(file: str) -> Stamp:
    """What tells one state of a file from another; None where there is no file."""
    try:
        found = os.stat(file)  # noqa: PTH116 - of what a link leads to: Kubernetes swaps files by changing a link
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
