"""What any process of the engine needs to start, be seen and stop."""
