import struct
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from proxy.report.events import LeakFlagged
from proxy.wire.messages import PROTOCOL_3_0, PROTOCOL_3_2
from tests import messages as m
from tests.behaviour.support import understanding
from tests.conftest import StartProxy
from tests.harness import PATIENCE, dsn, until
from tests.life.support import PlainClient
from tests.life.test_bad_input import test_libpq_can_cancel
from tests.rawclient import fields
from tests.scenarios.conftest import Differs
from tests.scenarios.support import LONG_KEYS, asleep, both, log_in
from tests.servers.server import RealPostgres

__all__ = ["test_libpq_can_cancel"]

GROUP = "protocol and cancel"
UNKNOWN = "_pq_.pgleash_test"  # a protocol option that no server knows
PROTOCOLS = {"3.0": PROTOCOL_3_0, "3.2": PROTOCOL_3_2}


@pytest.mark.parametrize("option", [False, True], ids=["", "with an option"])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_protocol_is_negotiated_as_without_us(
    trusting: RealPostgres, start_trusting: StartProxy, protocol: str, option: bool, differs: Differs
) -> None:
    asked = PROTOCOLS[protocol]
    with understanding(start_trusting(flag_after="100ms")) as proxy, both(trusting, proxy) as (direct, through):
        parameters = {UNKNOWN: "on"} if option else {}
        answers = log_in(through, asked, **parameters)
        assert answers == log_in(direct, asked, **parameters)

        newest = PROTOCOL_3_2 if trusting.version >= LONG_KEYS else PROTOCOL_3_0
        agreed = min(asked, newest)
        negotiated = [one.body for one in answers if one.kind == "v"]
        unknown = m.text(UNKNOWN) if option else b""
        assert negotiated == ([struct.pack("!ii", agreed, option) + unknown] if option or asked > newest else [])
        key = 32 if agreed == PROTOCOL_3_2 else 4
        assert len(through.cancel_key) == key
        if not option:
            differs(f"cancel key, protocol {protocol} asked for", f"{key} bytes")
            answer = "3.0" if negotiated else "none"
            differs(f"NegotiateProtocolVersion, protocol {protocol} asked for", answer)

        through.query("BEGIN")
        assert proxy.recorder.wait(LeakFlagged).leak.session.backend_pid == through.backend_pid


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_cancel_request_stops_the_session_that_is_meant(
    trusting: RealPostgres, start_trusting: StartProxy, protocol: str
) -> None:
    with understanding(start_trusting()) as proxy, trusting.connect() as judge, both(trusting, proxy) as clients:
        for client in clients:
            client.log_in(PROTOCOLS[protocol])
            client.send(m.query("SELECT pg_sleep(60)"))
            asleep(judge, client)
        other, meant = clients
        wrong = bytes(byte ^ 1 for byte in meant.cancel_key)
        for key in (wrong, meant.cancel_key):
            with PlainClient(proxy.address, m.cancel_request(meant.backend_pid, key)) as canceller:
                assert canceller.byte() == b""
        (error,) = [one for one in meant.receive_until("Z") if one.kind == "E"]
        assert fields(error)["C"] == "57014"
        asleep(judge, other)
        with PlainClient(proxy.address, m.cancel_request(other.backend_pid, other.cancel_key)) as canceller:
            assert canceller.byte() == b""  # it is not a session of this proxy's, but one of its server's
        assert "E" in {one.kind for one in other.receive_until("Z")}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_abandoned_statement_is_cancelled(trusting: RealPostgres, start_trusting: StartProxy, protocol: str) -> None:
    proxy = start_trusting()
    with trusting.connect() as judge, PlainClient(proxy.address) as client:
        client.log_in(PROTOCOLS[protocol])
        client.send(m.query("SELECT pg_sleep(60)"))
        asleep(judge, client)
        client.reset()
        gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = %s"
        until(lambda: judge.execute(gone, [client.backend_pid]).fetchone() == (True,), 2.0, "the backend is left")
    proxy.settle()


def test_libpq_asks_for_3_2(postgres: RealPostgres, start_proxy: StartProxy) -> None:
    """A libpq that insists gets it from a server that knows it, and is refused by the others as without us."""
    with understanding(start_proxy()) as proxy:
        newest = {"max_protocol_version": "latest"}
        insists = {**newest, "min_protocol_version": "3.2"}
        if postgres.version < LONG_KEYS:
            with pytest.raises(psycopg.OperationalError, match=r"server only supports protocol version 3\.0"):
                psycopg.connect(dsn(proxy, postgres, **insists))
        chosen = insists if postgres.version >= LONG_KEYS else newest
        with (
            psycopg.connect(dsn(proxy, postgres, **chosen), autocommit=True) as connection,
            postgres.connect() as judge,
            ThreadPoolExecutor() as other,
        ):
            asked = other.submit(connection.execute, "SELECT pg_sleep(60)")
            waits = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
            pid = connection.info.backend_pid
            until(lambda: judge.execute(waits, [pid]).fetchone() == ("PgSleep",), what="it does not sleep")
            connection.cancel_safe()
            with pytest.raises(psycopg.errors.QueryCanceled):
                asked.result(PATIENCE)
