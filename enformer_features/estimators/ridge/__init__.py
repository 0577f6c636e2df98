"""Ridge regression of many targets, from sums that add over rows and folds."""
