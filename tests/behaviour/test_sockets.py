"""What the kernel is told about both sockets of a session, and where clients can connect."""

import socket
from pathlib import Path

import psycopg
import pytest

from proxy.demo.postgres import Postgres
from proxy.errors import OperatorError
from proxy.sockets import make_room
from tests.conftest import StartProxy
from tests.harness import dsn

TCP = socket.IPPROTO_TCP


def test_both_sockets_send_at_once_and_notice_a_lost_peer(postgres: Postgres, start_proxy: StartProxy) -> None:
    proxy = start_proxy(tcp_keepalive="9s", tcp_user_timeout="20s")
    with psycopg.connect(dsn(proxy, postgres)) as connection:
        session = proxy.session_of(connection.info.backend_pid)
        for leg in (session.client, session.server):
            assert leg.transport is not None
            sock = leg.transport.get_extra_info("socket")
            assert sock.getsockopt(TCP, socket.TCP_NODELAY) == 1
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            if hasattr(socket, "TCP_KEEPIDLE"):
                assert sock.getsockopt(TCP, socket.TCP_KEEPIDLE) == 9
            assert sock.getsockopt(TCP, socket.TCP_KEEPINTVL) == 3
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                assert sock.getsockopt(TCP, socket.TCP_USER_TIMEOUT) == 20_000


def test_many_listeners_of_both_kinds(postgres: Postgres, start_proxy: StartProxy, tmp_path: Path) -> None:
    directory = str(tmp_path)[:80]
    proxy = start_proxy(listen=f'["127.0.0.1:0", "127.0.0.1:0", "{directory}:7777"]')
    first, second, unix = proxy.server.addresses
    assert first.port != second.port
    for host, port in ((first.host, first.port), (second.host, second.port), (unix.host, unix.port)):
        with psycopg.connect(dsn(proxy, postgres, host=host, port=port)) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert (tmp_path / ".s.PGSQL.7777").is_socket()


def test_more_sessions_than_the_hard_limit_of_open_files_are_refused_with_a_reason() -> None:
    with pytest.raises(OperatorError, match=r"max_sessions: 1000000000 sessions need .* set max_sessions to \d+"):
        make_room(1_000_000_000)
