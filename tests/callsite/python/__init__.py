"""An application, with what it has copied from docs/attribution.md in `callsite`."""
