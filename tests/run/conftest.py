"""What the tests of TLS have: certificates."""

from tests.tls.conftest import certificates

__all__ = ["certificates"]
