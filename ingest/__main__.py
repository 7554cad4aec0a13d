"""`python -m ingest`: the ingest server."""

from ingest.server import main
from runtime import lifecycle

lifecycle.run("ingest", main)
