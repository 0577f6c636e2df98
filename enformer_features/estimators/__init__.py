"""scikit-learn estimators on top of the network."""
