"""A session: settings, the audio's clock, dropped frames, muting, resume tokens."""
