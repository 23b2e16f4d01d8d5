"""Other people's test suites, run against a server directly and through the proxy, and compared test by test."""
