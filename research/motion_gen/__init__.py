"""Training and evaluation of the motion generator."""
