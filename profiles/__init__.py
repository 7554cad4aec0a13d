"""What is kept of a user: a bounded ring of recent events and the set of seen items, packed into at most 1 KiB."""
