"""A throw-away Postgres of any supported major version, with TLS."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from proxy.demo import binaries
from proxy.demo.postgres import Postgres
from tests.servers.certificates import Certificates
from tests.servers.npm import installation

LOCAL = "local all all trust"  # how the start is noticed, over a socket that nobody else can reach
RULES = tuple(
    f"{kind} {databases} all 127.0.0.1/32 scram-sha-256"
    for kind in ("hostssl", "hostnossl")
    for databases in ("all", "replication")
)
SETTINGS = {
    "log_min_messages": "fatal",
    "max_prepared_transactions": "10",
    "max_replication_slots": "20",
    "max_wal_senders": "20",
    "password_encryption": "scram-sha-256",  # 13 has md5
    "wal_level": "logical",
}


class RealPostgres(Postgres):
    """One throw-away server, used like its base class.

    Attributes, from `start()` on:
        certificates: its own and its clients'; they go with the server.
    """

    certificates: Certificates

    def __init__(
        self,
        major: int,
        *,
        tls: bool = True,
        hba: Sequence[str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a server of this major version; `start()` raises Unavailable if its programs cannot be had.

        Args:
            major: 13 to 18.
            tls: whether it accepts TLS; `ALTER SYSTEM SET ssl_...` and `pg_reload_conf()` change the rest later.
            hba: lines of pg_hba.conf instead of RULES, behind LOCAL.
            settings: those of postgresql.conf, over SETTINGS.
        """
        super().__init__(major, {**SETTINGS, **(settings or {})})
        self._rules = RULES if hba is None else hba
        self._tls = tls

    def _find_programs(self, private: Path) -> Path:
        return binaries.reachable(installation(self.version), self._account, private)

    def _initialize(self) -> None:
        super()._initialize()
        directory = self.socket_directory / "certificates"
        directory.mkdir(mode=0o755)
        self.certificates = Certificates(directory)
        data = self.socket_directory / "data"
        (data / "pg_hba.conf").write_text("\n".join([LOCAL, *self._rules, ""]))
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(
                f"ssl = {'on' if self._tls else 'off'}\n"
                f"ssl_ca_file = '{self.certificates.ca_file}'\n"
                f"ssl_cert_file = '{self.certificates.cert_file}'\n"
                f"ssl_key_file = '{self.certificates.key_file}'\n"
            )


class Standby(RealPostgres):
    """A hot standby, made of a backup of its primary."""

    def __init__(self, primary: RealPostgres, backup: Path, upstream: str) -> None:
        """Prepare a standby of this primary.

        Args:
            primary: whose major version, superuser and certificates it has.
            backup: what pg_basebackup has written.
            upstream: a connection string: from where it gets its WAL.
        """
        super().__init__(primary.version, settings={"primary_conninfo": upstream})
        self.password = primary.password
        self.certificates = primary.certificates
        self._backup = backup

    def _initialize(self) -> None:
        data = self.socket_directory / "data"
        shutil.copytree(self._backup, data, symlinks=True)
        (data / "standby.signal").touch()
        self._account.own(data)
