"""The lake: what was accepted, for good, as Parquet that any engine reads as a partitioned table."""
