"""What runs inside the renderer's Triton: portrait preparation and frame synthesis."""
