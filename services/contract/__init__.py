"""What client, services and tests agree on: rates, arrays, limits, messages and errors."""
