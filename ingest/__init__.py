"""Takes events and the catalogue in, and carries them to the sinks."""
