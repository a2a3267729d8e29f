"""The face model and its fit to a photo."""
