"""Triton: the embedded server, the client and the memory that they share."""
