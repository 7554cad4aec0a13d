"""Random bytes into everything that reads bytes of others: tests/README.md says how to run it for long."""
