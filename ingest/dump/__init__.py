"""Everything into a folder, and a folder into an empty system (docs/load.md has the format)."""
