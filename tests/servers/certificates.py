"""Certificates for servers and for clients, made anew for every run."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme

from proxy.demo import binaries

NAMES = ("localhost", "127.0.0.1", "::1")


class Certificates:
    """Certificates of an authority of its own, as PEM files; every key is of mode 0600.

    The servers' keys belong to the account that servers run as, the clients' to us.

    Args:
        directory: where the files are written; both accounts have to get through.

    Attributes:
        ca_file: the authority.
        cert_file, key_file: a server's, for localhost, 127.0.0.1 and ::1.
        other_cert_file, other_key_file: another server's, of the same authority and for the same names.
        expired_cert_file, expired_key_file: the same, but no longer valid.
        stranger_ca_file: an authority that has signed none of them.
        stranger_cert_file, stranger_key_file: a server's, signed by that one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._authority, stranger = trustme.CA(), trustme.CA()
        self.ca_file = self._write_authority("ca", self._authority)
        self.stranger_ca_file = self._write_authority("stranger-ca", stranger)
        self.cert_file, self.key_file = self._for_server("server", self._authority)
        self.other_cert_file, self.other_key_file = self._for_server("other", self._authority)
        self.stranger_cert_file, self.stranger_key_file = self._for_server("stranger", stranger)
        yesterday = datetime.now(UTC) - timedelta(days=1)
        self.expired_cert_file, self.expired_key_file = self._for_server("expired", self._authority, yesterday)

    def client(self, name: str) -> tuple[Path, Path]:
        """A certificate, and its key, for a client of this common name."""
        return self._write(f"client-{name}", self._authority.issue_cert(common_name=name))

    def _for_server(self, name: str, authority: trustme.CA, until: datetime | None = None) -> tuple[Path, Path]:
        files = self._write(name, authority.issue_cert(*NAMES, common_name=NAMES[0], not_after=until))
        account = binaries.server_account()
        for file in files:
            account.own(file)
        return files

    def _write(self, name: str, issued: trustme.LeafCert) -> tuple[Path, Path]:
        cert_file, key_file = self._directory / f"{name}.crt", self._directory / f"{name}.key"
        cert_file.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        key_file.touch(mode=0o600)
        key_file.write_bytes(issued.private_key_pem.bytes())
        return cert_file, key_file

    def _write_authority(self, name: str, authority: trustme.CA) -> Path:
        file = self._directory / f"{name}.crt"
        file.write_bytes(authority.cert_pem.bytes())
        return file
