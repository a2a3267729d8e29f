"""Training, evaluation and measurement, installed beside the package `talkingface`."""
