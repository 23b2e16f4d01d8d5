"""Tests of naming the culprit: no database, no clock."""
