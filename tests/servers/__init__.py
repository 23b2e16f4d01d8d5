"""Real servers of every supported major version, with TLS: programs from npm, certificates from trustme."""
