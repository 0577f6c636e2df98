"""Names of the ways to explain a prediction; light, for the command line's help."""

METHODS = ("gradient", "integrated", "ism", "attention")
