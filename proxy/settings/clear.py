"""What to warn about: connections off this machine that are not encrypted, or to nobody knows whom."""

from proxy.settings.model import ClientTlsMode, Settings, UpstreamTlsMode

REMEDY = "upstream_tls.mode: verify-full with upstream_tls.ca_file makes sure of both"
UNPROTECTED = {
    UpstreamTlsMode.DISABLE: "nothing is encrypted",
    UpstreamTlsMode.ALLOW: "nothing is encrypted unless the server insists",
    UpstreamTlsMode.PREFER: "nothing is encrypted if the server, or somebody in between, refuses it",
    UpstreamTlsMode.REQUIRE: "it is encrypted, but nobody makes sure that it leads to the server",
}


def in_the_clear(settings: Settings) -> list[str]:
    """One line for each leg that leaves this machine unprotected."""
    problems = []
    mode = settings.upstream_tls_mode
    verified = mode is UpstreamTlsMode.REQUIRE and settings.upstream_tls.ca_file  # libpq's require, given a CA
    if not settings.upstream.is_local and mode in UNPROTECTED and not verified:
        problems.append(
            f"upstream_tls.mode is {mode} for {settings.upstream}, off this machine: {UNPROTECTED[mode]}; {REMEDY}"
        )
    exposed = [address for address in settings.listen if not address.is_local]
    if exposed and settings.client_tls.mode is ClientTlsMode.DISABLE:
        problems.append(
            f"client_tls.mode is disable and {exposed[0]} is open to other machines: clients cannot encrypt; "
            "client_tls.mode: require with cert_file and key_file lets them"
        )
    if settings.client_tls.cert_file and settings.client_tls.mode is ClientTlsMode.DISABLE:
        problems.append("client_tls.cert_file has no effect: client_tls.mode is disable; set it to allow or require")
    return problems
