"""Writes results to disk safely."""
