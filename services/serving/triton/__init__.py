"""Triton: the embedded server, the client and their shared memory."""
