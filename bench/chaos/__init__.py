"""Faults of every kind under load, and a count afterwards of what was acknowledged. Start with `__main__.py`."""
