"""What docs/attribution.md shows, as programs that run: the code's place, the route or the job in SQL comments."""
