"""A running ingest, as the tests of ingest have it."""

from tests.integration.ingest.conftest import ingest, pool

__all__ = ["ingest", "pool"]
