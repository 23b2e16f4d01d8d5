"""What people are told: the log and the ledger."""
