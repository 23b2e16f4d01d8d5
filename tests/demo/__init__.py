"""The demo's parts against the real Postgres that they start."""
