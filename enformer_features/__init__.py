"""Enformer features for scikit-learn: predict your own measurement from DNA."""

from __future__ import annotations

__version__ = "0.1.0"
