"""`pgleash serve` and its admin side, as processes of their own."""

import contextlib
import signal
import socket
from pathlib import Path

import psycopg

from proxy.demo.postgres import Postgres
from tests.life.support import Program, pgleash, serve


def test_it_is_told_where_it_listens_can_be_asked_while_it_drains_and_ends(postgres: Postgres) -> None:
    with serve(postgres, flag_after="100ms", admin__listen="127.0.0.1:0") as program:
        admin = program.wait("proxy.started")["proxy.admin"]
        address = postgres.dsn(host=program.address.host, port=program.address.port)
        with contextlib.closing(psycopg.connect(address, application_name="slow")) as connection:
            connection.execute("SELECT 1")
            leak = program.wait("leak.flagged")
            program.tell(signal.SIGTERM)
            program.wait("proxy.draining")
            shown = pgleash("leaks", "--fail", "--admin", admin)
            connection.commit()
        assert program.ended() == 0
    assert (shown.returncode, shown.stderr) == (3, "")
    assert shown.stdout.splitlines()[2].startswith(f"{leak['leak.id']}  {leak['session.id']} ")
    assert program.errors == []
    host, _, port = admin.rpartition(":")
    with socket.socket() as probe:
        assert probe.connect_ex((host, int(port))) != 0


def test_a_port_in_use_ends_the_start_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with Program("--listen", str(tmp_path), "--admin.listen", f"127.0.0.1:{port}") as program:
            assert program.ended(5.0) == 1
    (line,) = program.errors
    assert line.startswith(f"pgleash: admin.listen: cannot listen on 127.0.0.1:{port}: ")
    assert program.of("proxy.started") == []
    assert list(tmp_path.iterdir()) == []


def test_the_admin_side_needs_a_restart_and_says_so(postgres: Postgres, tmp_path: Path) -> None:
    file = tmp_path / "pgleash.yaml"
    text = f"listen: 127.0.0.1:0\nupstream: {postgres.host}:{postgres.port}\nadmin: {{token_file: "
    file.write_text(f"{text}none}}\n")
    with Program("--config", str(file), PGLEASH_ADMIN__LISTEN=str(tmp_path)) as program:
        assert program.wait("proxy.started")["proxy.admin"] == f"{tmp_path}/pgleash.9433.sock"
        file.write_text(f"{text}/run/token}}\n")
        program.tell(signal.SIGHUP)
        assert program.wait("config.reloaded")["config.needs_restart"] == ["admin.token_file"]
        program.tell()
        assert program.ended() == 0
    assert list(tmp_path.iterdir()) == [file]
