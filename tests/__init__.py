"""Tests of pgleash."""
