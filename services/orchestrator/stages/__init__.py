"""The stages as the orchestrator calls them: replicas, calls, streams, checkpoints, portraits."""
