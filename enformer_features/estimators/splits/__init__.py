"""Splits that keep test rows apart from training rows, and what leaks through them."""
