"""The same checks, led by which branches of proxy/wire a case takes: `make fuzz-guided SECONDS=60`.

Atheris keeps what has led it somewhere new below .tools/, and goes on from there the next time.
"""

import sys
from pathlib import Path
from typing import Final

import atheris

with atheris.instrument_imports(include=["proxy.wire"]):
    from tests.fuzz.case import Case, Chunk, seeds
    from tests.fuzz.fuzz import save, smaller, wrong_with
    from tests.fuzz.targets import CHECKS

KEPT: Final = Path(__file__).parents[2] / ".tools" / "fuzz"
LENGTH: Final = 2  # bytes of a chunk's length
HEADER: Final = 1 + LENGTH
NAMES: Final = ("tracker", "gate", "scanner", "first_packets", "exit", "answer", "owed", "carried")


def decode(data: bytes) -> Case:
    """Any bytes are a case: side, length and data, again and again."""
    chunks: list[Chunk] = []
    while len(data) > HEADER:
        end = HEADER + int.from_bytes(data[1:HEADER], "big")
        chunks.append(Chunk(bool(data[0] & 1), data[HEADER:end]))
        data = data[end:]
    return tuple(chunk for chunk in chunks if chunk.data)


def encode(case: Case) -> bytes:
    largest = (1 << 8 * LENGTH) - 1
    return b"".join(bytes([side]) + len(data[:largest]).to_bytes(LENGTH, "big") + data[:largest] for side, data in case)


def check(data: bytes) -> None:
    case = decode(data)
    for name in NAMES:
        what = wrong_with(CHECKS, name, case)
        if what is not None:
            raise AssertionError(f"{what}\n  {save(what, smaller(CHECKS, name, case, what))}")


def main() -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(seeds()):
        (KEPT / f"seed-{number}").write_bytes(encode(case))
    crashes = f"-artifact_prefix={KEPT.parent}/"
    atheris.Setup([sys.argv[0], str(KEPT), "-max_len=4000", crashes, *sys.argv[1:]], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
