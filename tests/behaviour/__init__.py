"""What users rely on, against a real server, with real clients."""
