"""The files of certificates: what is wrong with them is told at the start, and when they change they are followed."""

import ssl
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from proxy.errors import SettingsError
from proxy.report import events
from proxy.settings import load
from proxy.tls import contexts
from tests.conftest import StartProxy
from tests.harness import Proxy
from tests.life.support import pgleash
from tests.servers.certificates import Certificates
from tests.tls.support import TlsClient, trusting

PASSPHRASE = b"marked-passphrase"


def problems(**options: str) -> list[str]:
    """What is wrong with these options and their files."""
    flags = {name.replace("__", "."): value for name, value in options.items()}
    with pytest.raises(SettingsError) as caught:
        contexts.check(load(None, {}, flags).settings)
    return caught.value.problems


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


class Files:
    """A server's certificate and key in a directory of their own, to be replaced."""

    def __init__(self, directory: Path, authority: trustme.CA) -> None:
        self.authority = authority
        self.cert, self.key, self.ca = directory / "tls.crt", directory / "tls.key", directory / "ca.crt"
        self.ca.write_bytes(authority.cert_pem.bytes())
        self.renew()

    def renew(self, *, cert: bool = True, key: bool = True) -> None:
        self.issued = self.authority.issue_cert("localhost")
        if cert:
            self.cert.write_bytes(self.issued.cert_chain_pems[0].bytes())
        if key:
            self.key.write_bytes(self.issued.private_key_pem.bytes())

    @property
    def options(self) -> dict[str, str]:
        return {"client_tls__cert_file": str(self.cert), "client_tls__key_file": str(self.key)}

    @property
    def certificate(self) -> bytes:
        """What is in the file (DER)."""
        return ssl.PEM_cert_to_DER_cert(self.cert.read_text())


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    return Files(tmp_path, authority)


# At the start.


@pytest.mark.parametrize("side", ["client_tls", "upstream_tls"])
@pytest.mark.parametrize(
    ("wrong", "option", "told"),
    [
        ({"cert_file": "nowhere"}, "cert_file", "cannot be read: No such file or directory"),
        ({"cert_file": "directory"}, "cert_file", "cannot be read: Is a directory"),
        ({"cert_file": "words"}, "cert_file", "holds no certificate; it has to be PEM"),
        ({"key_file": "nowhere"}, "key_file", "cannot be read: No such file or directory"),
        ({"key_file": "words"}, "key_file", "holds no private key; it has to be PEM"),
        ({"key_file": "other.key"}, "key_file", "is not the key of the certificate in"),
        ({"key_file": "none"}, "key_file", "holds no private key; it has to be PEM"),
        ({"key_file": "locked.key"}, "key_file", "is protected by a passphrase"),
        ({"ca_file": "nowhere"}, "ca_file", "cannot be read: No such file or directory"),
        ({"ca_file": "words"}, "ca_file", "holds no certificate; it has to be PEM"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_told_with_its_option(
    files: Files, side: str, wrong: dict[str, str], option: str, told: str
) -> None:
    directory = files.cert.parent
    (directory / "directory").mkdir()
    (directory / "words").write_text("no PEM at all")
    (directory / "other.key").write_bytes(files.authority.issue_cert("other").private_key_pem.bytes())
    key = load_pem_private_key(files.key.read_bytes(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE))
    (directory / "locked.key").write_bytes(locked)
    chosen = {"mode": "require", "cert_file": files.cert.name, "key_file": files.key.name} | wrong
    paths = {name: str(directory / file) for name, file in chosen.items() if name != "mode" and file != "none"}
    (problem,) = problems(**{f"{side}__{name}": value for name, value in ({"mode": "require"} | paths).items()})
    assert problem.startswith(f"{side}.{option}: ")
    assert told in problem


def test_the_key_may_be_in_the_file_of_the_certificate(files: Files) -> None:
    files.cert.write_bytes(files.cert.read_bytes() + files.key.read_bytes())
    flags = {"client_tls.mode": "allow", "client_tls.cert_file": str(files.cert)}
    contexts.check(load(None, {}, flags).settings)


@pytest.mark.parametrize("name", ["serve", "check-config"])
def test_both_commands_tell_what_is_wrong_on_either_side(name: str, tmp_path: Path) -> None:
    missing = str(tmp_path / "nowhere")
    ran = pgleash(
        name,
        "--client-tls.mode=allow",
        f"--client-tls.cert-file={missing}",
        "--upstream-tls.mode=verify-full",
        f"--upstream-tls.ca-file={missing}",
    )
    assert ran.returncode == 78
    assert [line.partition(":")[0] for line in ran.stderr.splitlines()] == [
        "client_tls.cert_file",
        "upstream_tls.ca_file",
    ]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ({"client_tls.mode": "require"}, "client_tls: mode require needs cert_file"),
        ({"client_tls.ca_file": "a"}, "client_tls: ca_file needs mode require"),
        ({"upstream_tls.mode": "verify-full"}, "upstream_tls: mode verify-full needs ca_file"),
        ({"upstream_tls.mode": "require", "upstream_tls.ca_file": "system"}, "upstream_tls: ca_file system needs mode"),
        ({"upstream_tls.key_file": "a"}, "upstream_tls: key_file needs cert_file"),
        (
            {"listen": "0.0.0.0:6432", "upstream_tls.cert_file": "a"},
            "upstream_tls.cert_file: the server would take everybody who reaches 0.0.0.0:6432",
        ),
        ({"upstream_tls.mode": "verify"}, "upstream_tls.mode: 'verify' is wrong: input should be 'auto', 'disable'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_options_that_do_not_fit_together_are_told(flags: dict[str, str], told: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load(None, {}, flags)
    (problem,) = caught.value.problems
    assert problem.startswith(told)


@pytest.mark.parametrize(
    ("flags", "warned"),
    [
        ({}, []),
        ({"upstream": "localhost:5432"}, []),
        ({"upstream": "/run/postgresql"}, []),
        ({"upstream": "db:5432"}, ["upstream_tls.mode is require for db:5432"]),
        ({"upstream": "db:5432", "upstream_tls.mode": "disable"}, ["upstream_tls.mode is disable"]),
        ({"upstream": "db:5432", "upstream_tls.mode": "prefer"}, ["upstream_tls.mode is prefer"]),
        ({"upstream": "db:5432", "upstream_tls.mode": "require", "upstream_tls.ca_file": "a"}, []),
        ({"upstream": "db:5432", "upstream_tls.mode": "verify-full", "upstream_tls.ca_file": "system"}, []),
        ({"listen": "0.0.0.0:6432"}, ["client_tls.mode is disable and 0.0.0.0:6432 is open"]),
    ],
    ids=lambda value: " ".join(value.values()) if isinstance(value, dict) else "",
)
def test_a_leg_that_leaves_the_machine_unprotected_is_warned_about(flags: dict[str, str], warned: list[str]) -> None:
    warnings = load(None, {}, flags).warnings
    assert len(warnings) == len(warned)
    assert all(warning.startswith(beginning) for warning, beginning in zip(warnings, warned, strict=True))


# While the proxy runs.


def shown(proxy: Proxy, files: Files) -> bytes | None:
    """The certificate that a new client sees."""
    with TlsClient(proxy.address, trusting(files.ca)) as client:
        assert isinstance(client.socket, ssl.SSLSocket)
        client.log_in()
        return client.socket.getpeercert(binary_form=True)


def test_a_renewed_certificate_is_shown_to_the_next_client(start_tls: StartProxy, files: Files) -> None:
    proxy = start_tls(**files.options)
    with TlsClient(proxy.address, trusting(files.ca)) as before:
        before.log_in()
        assert shown(proxy, files) == files.certificate
        files.renew()
        assert shown(proxy, files) == files.certificate
        assert before.query("SELECT 1")[-1].body == b"I"
    assert proxy.recorder.of(events.ConfigRejected) == []


def test_a_secret_that_is_swapped_by_a_link_is_followed(
    start_tls: StartProxy, tmp_path: Path, authority: trustme.CA
) -> None:
    """As Kubernetes does it: the names lead through ..data, which is renamed over."""
    for version in ("..1", "..2"):
        (tmp_path / version).mkdir()
        Files(tmp_path / version, authority)
    (tmp_path / "..data").symlink_to("..1")
    files = Files.__new__(Files)
    files.cert, files.key, files.ca = (tmp_path / "..data" / name for name in ("tls.crt", "tls.key", "ca.crt"))
    proxy = start_tls(**files.options)
    first = shown(proxy, files)
    (tmp_path / "..data_tmp").symlink_to("..2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert first != shown(proxy, files) == files.certificate


def test_while_certificate_and_key_do_not_fit_the_old_ones_go_on(start_tls: StartProxy, files: Files) -> None:
    proxy = start_tls(**files.options)
    old = files.certificate
    files.renew(key=False)
    assert shown(proxy, files) == old
    assert "is not the key of the certificate" in proxy.recorder.wait(events.ConfigRejected).reason
    assert shown(proxy, files) == old
    files.key.unlink()
    assert shown(proxy, files) == old
    files.key.write_bytes(files.issued.private_key_pem.bytes())
    assert shown(proxy, files) == files.certificate != old
    assert len(proxy.recorder.of(events.ConfigRejected)) == 2  # each change once, however many clients come


# Clients' certificates.


def test_a_client_has_to_show_a_certificate_where_there_is_an_authority_for_them(
    start_tls: StartProxy, certificates: Certificates
) -> None:
    proxy = start_tls(client_tls__mode="require", client_tls__ca_file=str(certificates.ca_file))
    known = trusting(certificates.ca_file)
    known.load_cert_chain(*certificates.client("billing"))
    with TlsClient(proxy.address, known) as client:
        client.log_in()
    for unknown in (None, (certificates.stranger_cert_file, certificates.stranger_key_file)):
        context = trusting(certificates.ca_file)
        if unknown is not None:
            context.load_cert_chain(*unknown)
        with TlsClient(proxy.address, context) as client, pytest.raises((ssl.SSLError, ConnectionResetError)):
            client.log_in()  # TLS 1.3 tells it only now
    reasons = [event.reason for event in (proxy.recorder.wait(events.ProtocolViolation, count=2),)]
    assert "certificate verify failed" in reasons[0]
    assert "did not return a certificate" in proxy.recorder.wait(events.ProtocolViolation).reason
    proxy.settle()
