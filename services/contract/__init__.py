"""Rates, array formats, limits, messages and errors that client, services and tests share."""
