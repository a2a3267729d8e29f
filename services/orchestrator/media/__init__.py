"""Audio and video formats: decoding what comes in, packaging what goes out."""
