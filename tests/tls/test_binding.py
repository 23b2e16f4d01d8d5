"""Channel binding, with a server that offers it and does the rest as it is told; tests/scenarios has real ones."""

import socket
import ssl
import struct
from collections.abc import Callable

import pytest

from proxy.report import events
from tests import messages as m
from tests.conftest import StartProxy
from tests.harness import Proxy
from tests.life.support import FakeServer, PlainClient, exactly, read_startup
from tests.servers.certificates import Certificates
from tests.tls.support import TlsClient, served_by, trusting

OFFER = m.message("R", struct.pack("!i", 10) + m.text("SCRAM-SHA-256-PLUS", "SCRAM-SHA-256", ""))
WITHOUT_PLUS = struct.pack("!i", 10) + m.text("SCRAM-SHA-256", "")
REFUSAL = m.message("E", m.text("SFATAL", "VFATAL", "C28000", "MSCRAM channel binding negotiation error", ""))
STARTUP = m.startup(user="postgres")
INITIAL = m.message("p", m.text("SCRAM-SHA-256") + struct.pack("!i", 6) + b"y,,n=,")


def offering(certificates: Certificates) -> Callable[[socket.socket], None]:
    """A server that offers channel binding over TLS, and refuses whoever answers."""

    def talk(connection: socket.socket) -> None:
        exactly(connection, 8)
        connection.sendall(b"S")
        with served_by(certificates).wrap_socket(connection, server_side=True) as tls:
            read_startup(tls)
            tls.sendall(OFFER)
            if tls.recv(1000):
                tls.sendall(REFUSAL)

    return talk


@pytest.fixture
def start_offering(start_proxy: StartProxy, certificates: Certificates) -> StartProxy:
    """Starts a proxy in front of such a server; with another certificate than the server's."""

    def start(**options: str) -> Proxy:
        other = {
            "upstream_tls__mode": "require",
            "client_tls__mode": "allow",
            "client_tls__cert_file": str(certificates.other_cert_file),
            "client_tls__key_file": str(certificates.other_key_file),
        }
        return start_proxy(**(other | options))

    return start


@pytest.mark.protocol("SCRAM on two legs")
def test_a_client_in_the_clear_is_not_offered_it(start_offering: StartProxy, certificates: Certificates) -> None:
    with FakeServer(offering(certificates)) as server:
        proxy = start_offering(upstream=server.address)
        with PlainClient(proxy.address, STARTUP) as client:
            assert client.receive_until("R")[-1].body == WITHOUT_PLUS
        assert "TLS to pgleash" in proxy.recorder.wait(events.ChannelBindingUnavailable).reason


@pytest.mark.protocol("SCRAM on two legs")
def test_a_client_behind_another_certificate_is_not_offered_it_and_told_what_helps(
    start_offering: StartProxy, certificates: Certificates
) -> None:
    with FakeServer(offering(certificates)) as server:
        proxy = start_offering(upstream=server.address)
        with TlsClient(proxy.address, trusting(certificates.ca_file)) as client:
            client.send(STARTUP)
            assert client.receive_until("R")[-1].body == WITHOUT_PLUS
            client.send(INITIAL)
            told = client.refused()
        refused = proxy.recorder.wait(events.ChannelBindingRefused)
    assert told["C"] == "28000"
    assert told["M"] == "SCRAM channel binding negotiation error"
    for text in (told["H"], refused.reason):
        assert "channel_binding=disable" in text
        assert "client_tls.cert_file" in text
    assert proxy.recorder.of(events.ChannelBindingUnavailable) == []


@pytest.mark.protocol("SCRAM on two legs")
def test_a_client_behind_the_servers_own_certificate_is_offered_it(
    start_offering: StartProxy, certificates: Certificates
) -> None:
    own = {
        "client_tls__cert_file": str(certificates.cert_file),
        "client_tls__key_file": str(certificates.key_file),
    }
    with FakeServer(offering(certificates)) as server:
        proxy = start_offering(upstream=server.address, **own)
        with TlsClient(proxy.address, trusting(certificates.ca_file)) as client:
            client.send(STARTUP)
            assert OFFER.endswith(client.receive_until("R")[-1].body)
            client.send(INITIAL)
            assert "H" not in client.refused()
        proxy.settle()
    assert proxy.recorder.of(events.ChannelBindingRefused) == []


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda v: v.name)
def test_a_client_that_leaves_when_it_is_asked_for_its_password_may_have_wanted_it(
    start_offering: StartProxy, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    context = trusting(certificates.ca_file)
    context.maximum_version = version
    with FakeServer(offering(certificates)) as server:
        proxy = start_offering(upstream=server.address)
        with TlsClient(proxy.address, context) as client:
            client.send(STARTUP)
            client.receive_until("R")
        unavailable = proxy.recorder.wait(events.ChannelBindingUnavailable)
        proxy.settle()
    assert "channel_binding=require" in unavailable.reason
    assert "client_tls.cert_file" in unavailable.reason
