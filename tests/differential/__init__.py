"""The same script directly and through the proxy: every byte that the client gets is the same."""
