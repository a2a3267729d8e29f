"""What every service is built from: start-up, settings, admission, health, metrics, streams."""
