"""Contexts that follow their files: a certificate is renewed without a restart.

A change is looked for when a connection begins, which costs a few microseconds where the handshake costs a thousand
times as much, and works with every way of replacing a file. While the new files do not fit together (the certificate
is there already, its key is not), the old ones go on.
"""

import ssl
from collections.abc import Callable
from typing import Generic, TypeVar

from proxy.errors import SettingsError
from proxy.report.events import ConfigRejected
from proxy.report.reporter import Reporter
from proxy.settings import SYSTEM_CA, ClientTls, Stamp, UpstreamTls, stamp
from proxy.tls import contexts

Made = TypeVar("Made")


class Followed(Generic[Made]):
    """Something that is made from files, and made anew when they change.

    Args:
        make: makes it.
        files: the files that it is made from.
        reporter: is told what is wrong with files that have changed; what was made before goes on.

    Raises:
        SettingsError: a file is not what it should be.
    """

    def __init__(self, make: Callable[[], Made], files: list[str | None], reporter: Reporter) -> None:
        self._make = make
        self._files = [file for file in files if file and file != SYSTEM_CA]
        self._reporter = reporter
        self._stamps = self._look()
        self._made = make()

    def current(self) -> Made:
        """The newest that could be made."""
        stamps = self._look()
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self._made = self._make()
            except SettingsError as error:
                self._reporter.emit(ConfigRejected(reason=str(error)))
        return self._made

    def _look(self) -> list[Stamp]:
        return [stamp(file) for file in self._files]


def for_clients(options: ClientTls, reporter: Reporter) -> Followed[contexts.ClientsContext]:
    """What clients get, by its files.

    Raises:
        SettingsError: a file is not what it should be.
    """
    files = [options.cert_file, options.key_file, options.ca_file]
    return Followed(lambda: contexts.for_clients(options), files, reporter)


def for_upstream(options: UpstreamTls, reporter: Reporter) -> Followed[ssl.SSLContext]:
    """What the server gets, by its files.

    Raises:
        SettingsError: a file is not what it should be.
    """
    files = [options.cert_file, options.key_file, options.ca_file]
    return Followed(lambda: contexts.for_upstream(options), files, reporter)
