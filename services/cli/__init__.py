"""The command line `talkingface`."""
