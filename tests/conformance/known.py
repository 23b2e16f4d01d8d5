"""What differs through any proxy whatever, suite by suite and test by test, and why."""

from collections.abc import Mapping

EXPLAINED: Mapping[str, Mapping[str, str]] = {}
