"""SCRAM and channel binding across two connections: every pair of legs, with every word a client may have for it."""

import psycopg
import pytest

from proxy.report import events
from tests.conftest import StartProxy
from tests.harness import Proxy, dsn
from tests.servers.server import RealPostgres

GROUP = "TLS and SCRAM"

WORKS = ""
# What the client says where it does not work. libpq's own words for `require`, since it is libpq that gives up.
NO_TLS = "channel binding required, but SSL not in use"
NO_OFFER = "server did not offer an authentication method that supports channel binding"
NEGOTIATION = "channel binding negotiation error"

# client's leg, server's leg -> what comes of channel_binding=disable, prefer, require
TABLE = {
    ("clear", "clear"): (WORKS, WORKS, NO_TLS),
    ("clear", "TLS"): (WORKS, WORKS, NO_TLS),
    ("TLS", "clear"): (WORKS, WORKS, NO_OFFER),
    ("TLS, another certificate", "TLS"): (WORKS, NEGOTIATION, NO_OFFER),
    ("TLS, the same certificate", "TLS"): (WORKS, WORKS, WORKS),
}
CASES = [
    (client, server, binding, outcome)
    for (client, server), outcomes in TABLE.items()
    for binding, outcome in zip(("disable", "prefer", "require"), outcomes, strict=True)
]


def start(start_proxy: StartProxy, postgres: RealPostgres, client: str, server: str) -> Proxy:
    same = client != "TLS, another certificate"
    certificates = postgres.certificates
    options = {"upstream_tls__mode": "disable" if server == "clear" else "require"}
    if client != "clear":
        options |= {
            "client_tls__mode": "require",
            "client_tls__cert_file": str(certificates.cert_file if same else certificates.other_cert_file),
            "client_tls__key_file": str(certificates.key_file if same else certificates.other_key_file),
        }
    return start_proxy(**options)


@pytest.mark.parametrize(("client", "server", "binding", "outcome"), CASES)
def test_a_password_is_proved_across_two_connections(
    postgres: RealPostgres, start_proxy: StartProxy, client: str, server: str, binding: str, outcome: str
) -> None:
    proxy = start(start_proxy, postgres, client, server)
    sslmode = "disable" if client == "clear" else "verify-full"
    target = dsn(
        proxy, postgres, host="localhost", hostaddr="127.0.0.1", sslmode=sslmode, channel_binding=binding,
        sslrootcert=str(postgres.certificates.ca_file),
    )  # fmt: skip
    if outcome == WORKS:
        with psycopg.connect(target) as connection:
            row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
            assert row == (server == "TLS",)
        proxy.settle()
        assert (
            proxy.recorder.of(events.ChannelBindingRefused) + proxy.recorder.of(events.ChannelBindingUnavailable) == []
        )
        return
    with pytest.raises(psycopg.OperationalError, match=outcome) as caught:
        psycopg.connect(target)
    proxy.settle()
    if outcome == NEGOTIATION:
        assert "channel_binding=disable" in str(caught.value)
        assert "channel_binding=disable" in proxy.recorder.wait(events.ChannelBindingRefused).reason
    elif (client, server) != ("clear", "clear"):  # there it would be the same without us
        assert "channel_binding=" in proxy.recorder.wait(events.ChannelBindingUnavailable).reason


@pytest.mark.parametrize("client", ["clear", "TLS, another certificate", "TLS, the same certificate"])
def test_a_wrong_password_is_a_wrong_password(postgres: RealPostgres, start_proxy: StartProxy, client: str) -> None:
    proxy = start(start_proxy, postgres, client, "TLS")
    sslmode = "disable" if client == "clear" else "require"
    with pytest.raises(psycopg.OperationalError, match="password authentication failed") as caught:
        psycopg.connect(dsn(proxy, postgres, sslmode=sslmode, password="wrong", channel_binding="disable"))
    assert "channel_binding" not in str(caught.value)
    assert proxy.recorder.of(events.ChannelBindingRefused) == []
