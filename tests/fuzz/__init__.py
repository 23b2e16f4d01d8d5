"""Bytes that nobody would send, for everything that looks at bytes."""
