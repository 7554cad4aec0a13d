"""Where the schema's steps stand; runtime/migrate.py applies them."""

from pathlib import Path

MIGRATIONS = Path(__file__).parent / "migrations"
