"""A session without a network: settings, playout, frame dropping, muting, resume tokens."""
