"""The leash, with a clock that tests turn by hand."""
