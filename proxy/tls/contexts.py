"""What the options mean to OpenSSL.

Towards clients we are what a Postgres server with `ssl = on` is; towards the server we do what libpq does for the same
sslmode ("SSL Support" in the documentation of libpq): `require` and below verify the certificate only if there is a CA
to verify it with, `verify-ca` insists on one, `verify-full` on the name as well.
"""

import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from proxy.errors import SettingsError
from proxy.settings import SYSTEM_CA, ClientTls, ClientTlsMode, Settings, UpstreamTls, UpstreamTlsMode

Context = TypeVar("Context", bound=ssl.SSLContext)

ALPN: Final = "postgresql"  # libpq/pqcomm.h, PG_ALPN_PROTOCOL
WRONG_KEY: Final = "KEY_VALUES_MISMATCH"  # OpenSSL's X509_R_KEY_VALUES_MISMATCH

_certificate: Final = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class ClientsContext(ssl.SSLContext):
    """What clients get.

    Attributes:
        certificate: the certificate that they see (DER).
    """

    certificate: bytes


def check(settings: Settings) -> None:
    """Look whether the files are what they should be.

    Raises:
        SettingsError: with one line for each side whose files are not.
    """
    problems: list[str] = []
    if settings.client_tls.mode is not ClientTlsMode.DISABLE:
        problems += _problems(lambda: for_clients(settings.client_tls))
    problems += _problems(lambda: for_upstream(settings.upstream_tls))
    if problems:
        raise SettingsError(problems)


def _problems(make: Callable[[], object]) -> list[str]:
    try:
        make()
    except SettingsError as error:
        return error.problems
    return []


def for_clients(options: ClientTls) -> ClientsContext:
    """What clients get.

    Raises:
        SettingsError: a file is not what it should be.
    """
    context = _prepared(ClientsContext(ssl.PROTOCOL_TLS_SERVER))
    # Nobody resumes a session with Postgres. TLS 1.2 keeps its tickets, which cost us nothing: without them OpenSSL
    # remembers twenty thousand sessions instead.
    context.num_tickets = 0
    _load_own(context, "client_tls", options.cert_file, options.key_file)
    context.certificate = _certificate_in(options.cert_file or "")
    if options.ca_file:
        _load_authorities(context, "client_tls.ca_file", options.ca_file)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def for_upstream(options: UpstreamTls) -> ssl.SSLContext:
    """What the server gets.

    Raises:
        SettingsError: a file is not what it should be.
    """
    context = _prepared(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    context.check_hostname = options.mode is UpstreamTlsMode.VERIFY_FULL
    context.verify_mode = ssl.CERT_REQUIRED if options.ca_file else ssl.CERT_NONE
    if options.ca_file == SYSTEM_CA:
        context.load_default_certs()
    elif options.ca_file:
        _load_authorities(context, "upstream_tls.ca_file", options.ca_file)
    if options.cert_file:
        _load_own(context, "upstream_tls", options.cert_file, options.key_file)
    return context


def _certificate_in(file: str) -> bytes:
    """The first one, which is a server's own (DER)."""
    option = "client_tls.cert_file"
    match = _certificate.search(_read(option, file).decode("ascii", "replace"))
    if match is None:
        raise SettingsError([f"{option}: {file} holds no certificate; it has to be PEM"])
    return ssl.PEM_cert_to_DER_cert(match[0])


def _prepared(context: Context) -> Context:
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # as Postgres's ssl_min_protocol_version
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols([ALPN])
    return context


def _load_own(context: ssl.SSLContext, section: str, cert_file: str | None, key_file: str | None) -> None:
    cert, key = cert_file or "", key_file or cert_file or ""
    cert_option, key_option = f"{section}.cert_file", f"{section}.key_file"
    _load_authorities(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), cert_option, cert)  # says whether certificates are in it
    _read(key_option, key)
    asked: list[bool] = []
    try:
        context.load_cert_chain(cert, key, lambda: _no_passphrase(asked))
    except ssl.SSLError as error:
        if error.reason == WRONG_KEY:
            problem = f"{key} is not the key of the certificate in {cert}"
        elif asked:
            problem = f"{key} is protected by a passphrase, and there is nobody to ask; write the key without one"
        elif error.reason:
            problem = f"{key} and {cert} are not accepted: {error.reason.replace('_', ' ').lower()}"
        else:
            problem = f"{key} holds no private key; it has to be PEM"
        raise SettingsError([f"{key_option}: {problem}"]) from error


def _no_passphrase(asked: list[bool]) -> str:
    asked.append(True)
    return ""


def _load_authorities(context: ssl.SSLContext, option: str, file: str) -> None:
    _read(option, file)
    try:
        context.load_verify_locations(file)
    except ssl.SSLError as error:
        raise SettingsError([f"{option}: {file} holds no certificate; it has to be PEM"]) from error


def _read(option: str, file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:  # a name that cannot be one is a ValueError
        reason = error.strerror if isinstance(error, OSError) else "there can be no file of this name"
        raise SettingsError([f"{option}: {file!r} cannot be read: {reason}"]) from error
