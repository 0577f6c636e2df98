"""The network: configuration, layers, checkpoints and the registry of weights."""
