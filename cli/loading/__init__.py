"""Bulk loads: a file of any size through the ingest service, a step at a time, each step remembered."""
