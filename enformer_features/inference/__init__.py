"""Runs a network over windows and pools its bins."""
