"""Which statements end a block: against the scanner's rules written down a second time, and whatever stands before."""

import time
from typing import Final

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from proxy.wire.exits import Exit, exit_of
from tests.wire.scan import is_refused, slow_exit_of

BEFORE: Final = (
    b" ", b"\t", b"\n", b"\r", b"\f", b"\v", b";", b"--\n", b"-- COMMIT\r", b"--/*\n", b"/**/", b"/***/", b"/*/**/*/",
    b"/* COMMIT; */", b"/*--*/", b"/*/ /*/ */**/", b"/* '\" $$ */", b"/* \xff\0 */", b"/*** ***/",
)  # fmt: skip
WORDS: Final = (
    b"COMMIT", b"commit", b"CoMmIt", b"END", b"PREPARE", b"ROLLBACK", b"ABORT", b"WORK", b"TRANSACTION", b"TO", b"to",
    b"PREPARED", b"AND", b"CHAIN", b"NO", b"SAVEPOINT", b"SELECT", b"a", b"'x'", b'"COMMIT"', b"1", b"COMMIT1", b"END$",
    b"_END", b"\xc3\xa4", b"COMMIT\xc3\xa4", b"$1", b"(", b"/", b"-", b"*", b"*/", b"/*", b"--", b"'", b"\0", b"U&",
)  # fmt: skip
TEXTS: Final[dict[bytes, Exit]] = {
    b"COMMIT": Exit.COMMIT, b"end work": Exit.COMMIT, b"COMMIT TRANSACTION AND NO CHAIN;": Exit.COMMIT,
    b"PREPARE TRANSACTION 'x'": Exit.COMMIT, b"PREPARE/**/TRANSACTION'x'": Exit.COMMIT, b"commit;begin": Exit.COMMIT,
    b"PREPARE a AS SELECT 1": Exit.NONE, b"COMMIT PREPARED 'x'": Exit.NONE, b"ROLLBACK PREPARED 'x'": Exit.NONE,
    b"ROLLBACK": Exit.ROLLBACK, b"ABORT": Exit.ROLLBACK, b"rollback transaction and chain": Exit.ROLLBACK,
    b"ROLLBACK TO a": Exit.NONE, b"ROLLBACK WORK TO SAVEPOINT a": Exit.NONE, b"ABORT--\n--\nTO a": Exit.NONE,
    b"": Exit.NONE, b";;": Exit.NONE, b"SELECT 1; COMMIT": Exit.NONE, b"SAVEPOINT a": Exit.NONE, b"BEGIN": Exit.NONE,
    b'"COMMIT"': Exit.NONE, b"COMMIT_": Exit.NONE, b"COMMIT$": Exit.NONE, b"/* COMMIT": Exit.NONE,
    b"-- COMMIT": Exit.NONE, b"/*/**/COMMIT*/": Exit.NONE, b"*/COMMIT": Exit.NONE, b"\xef\xbb\xbfCOMMIT": Exit.NONE,
    b"--\rCOMMIT": Exit.COMMIT, b"/*/*/**/*/*/COMMIT": Exit.COMMIT, b"/**//**/COMMIT/*": Exit.COMMIT,
}  # fmt: skip
LARGE: Final = 8_000
TIMES: Final = 8
MOST: Final = TIMES * 4  # twice in proportion, and as much again for a machine that has other things to do

blanks = st.lists(st.sampled_from(BEFORE), max_size=8).map(b"".join)
made = st.lists(st.sampled_from(BEFORE + WORDS), max_size=12).map(b"".join)
texts = made | st.binary(max_size=40) | st.tuples(blanks, st.sampled_from(list(TEXTS))).map(b"".join)


@pytest.mark.parametrize("text", TEXTS)
def test_a_text(text: bytes) -> None:
    assert exit_of(text) is slow_exit_of(text) is TEXTS[text]


@settings(max_examples=200)
@given(texts)
def test_it_is_what_the_scanner_s_rules_say(text: bytes) -> None:
    assume(not is_refused(text))
    assert exit_of(text) is slow_exit_of(text)


@given(blanks, made)
def test_what_stands_before_it_does_not_count(before: bytes, text: bytes) -> None:
    assert exit_of(before + text) is exit_of(text)


@given(blanks, blanks, st.sampled_from([b"COMMIT", b"end", b"PREPARE  TRANSACTION", b"Commit And Chain"]))
def test_a_commit_is_one_whatever_stands_around_it(before: bytes, behind: bytes, commit: bytes) -> None:
    assert exit_of(before + commit + behind) is Exit.COMMIT


@settings(max_examples=100)
@given(texts)
@example(b"/**/ROLLBACK WORK/**/TO a")
@example(b"COMMIT PREPARED 'x'")
@example(b"PREPARE TRANSACTION 'x'")
def test_half_a_text_says_the_same_or_nothing(text: bytes) -> None:
    whole = exit_of(text)
    for at in range(len(text) + 1):
        assert exit_of(text[:at], cut=True) in {whole, Exit.UNKNOWN}, text[:at]


@pytest.mark.parametrize(
    ("cut", "rest"),
    [(b"/", b"**/COMMIT"), (b" -", b"-\nEND"), (b"COMMIT /", b"**/PREPARED 'x'"), (b"ROLLBACK -", b"-\nTO a")],
)
def test_half_a_comment_says_the_same_or_nothing(cut: bytes, rest: bytes) -> None:
    assert exit_of(cut, cut=True) in {exit_of(cut + rest), Exit.UNKNOWN}


@pytest.mark.parametrize("text", [b"COMMIT", b"COMMIT AND", b"/* x", b"  ", b"ROLLBACK WORK", b"PREPARE"])
def test_a_cut_in_the_middle_of_it_says_nothing(text: bytes) -> None:
    assert exit_of(text, cut=True) in {Exit.UNKNOWN, exit_of(text)}
    assert exit_of(text[:-1], cut=True) is Exit.UNKNOWN


# Time.

HOSTILE: Final = (
    b"/*", b"/**/", b"/*/", b"*/", b"--", b"--\n", b";", b" ", b"- ", b"a", b"/* COMMIT */", b"-- x\n;/**/ ", b"/",
    b"/* /* */ ", b"*", b"\x80", b"\0",
)  # fmt: skip


def seconds(text: bytes) -> float:
    best = float("inf")
    for _ in range(3):
        begin = time.process_time()
        exit_of(text)
        exit_of(text, cut=True)
        best = min(best, time.process_time() - begin)
    return best


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("before", [b"", b"COMMIT "])
def test_time_is_in_proportion(before: bytes, text: bytes) -> None:
    small, large = (seconds(before + text * (LARGE * times // len(text)) + b"COMMIT") for times in (1, TIMES))
    assert large < MOST * max(small, 0.001)
