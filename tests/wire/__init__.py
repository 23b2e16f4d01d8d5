"""The wire: transcripts of both sides, run whole, byte by byte, and cut at every place."""
