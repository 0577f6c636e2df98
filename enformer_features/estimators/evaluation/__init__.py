"""Models beside their baselines, on splits that keep them honest."""
