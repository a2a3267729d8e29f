"""Training and evaluation of the renderer."""
