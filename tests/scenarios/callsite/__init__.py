"""The snippets of docs/attribution.md whose libraries not every machine has; the others are in tests/callsite."""
