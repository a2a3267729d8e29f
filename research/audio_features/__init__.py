"""Training and evaluation of the speech encoder."""
