"""What a migration may not do to a table that others use: statements that hold a lock for as long as the table is large."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TOKEN = re.compile(r"--[^\n]*|/\*.*?\*/|'(?:[^']|'')*'|\$(\w*)\$.*?\$\1\$|;|[^-/'$;]+|.", re.DOTALL)
_TABLE = r"(?:ONLY )?(?:IF EXISTS )?(\w+)"
_VOLATILE = r"RANDOM|GEN_RANDOM_UUID|UUIDV\d|CLOCK_TIMESTAMP|TIMEOFDAY|NEXTVAL|PG_CURRENT_XACT_ID"

# What is refused for a table that the same file does not make, and what to do. Statements come in capitals, with single blanks.
_REFUSED = (
    (
        r"CREATE (?:UNIQUE )?INDEX (?!CONCURRENTLY)(?:IF NOT EXISTS )?\w+ ON (?:ONLY )?(\w+)",
        "an index is made CONCURRENTLY",
    ),
    (r"DROP (INDEX) (?!CONCURRENTLY)", "an index is dropped CONCURRENTLY"),
    (
        rf"ALTER TABLE {_TABLE} .*ALTER (?:COLUMN )?\w+ (?:SET DATA )?TYPE",
        "a changed type writes the table anew: add a column",
    ),
    (
        rf"ALTER TABLE {_TABLE} .*ADD (?:COLUMN )?(?:IF NOT EXISTS )?\w+ [^,]*DEFAULT [^,]*(?:{_VOLATILE}) ?\(",
        "a default that differs by row writes the table anew: fill in batches",
    ),
    (
        rf"ALTER TABLE {_TABLE} .*ADD (?:COLUMN )?\w+ (?:(?:BIG|SMALL)?SERIAL|[^,]*GENERATED)",
        "a generated column writes the table anew",
    ),
    (
        rf"ALTER TABLE {_TABLE} .*ADD (?:CONSTRAINT \w+ )?(?:PRIMARY KEY|UNIQUE) ?\(",
        "a key is made USING an INDEX that was made concurrently",
    ),
    (
        rf"ALTER TABLE {_TABLE} .*ADD (?:CONSTRAINT \w+ )?(?:CHECK|FOREIGN KEY)(?!.*NOT VALID)",
        "a check is added NOT VALID, and validated by a later file",
    ),
    (rf"ALTER TABLE {_TABLE} .*SET (?:LOGGED|UNLOGGED|TABLESPACE|ACCESS METHOD)", "this writes the table anew"),
    (r"UPDATE (\w+) SET", "rows are changed in batches by upkeep, not by a migration"),
    (r"DELETE FROM (\w+)", "rows are removed in batches by upkeep, not by a migration"),
    (r"(?:VACUUM FULL|CLUSTER|REINDEX (?!.*CONCURRENTLY)|LOCK TABLE|TRUNCATE)\s*(\w*)", "this locks the table for long"),
)  # fmt: skip
_NOT_NULL = re.compile(rf"ALTER TABLE {_TABLE} .*?ALTER (?:COLUMN )?(\w+) SET NOT NULL")
_MADE = re.compile(r"CREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?(\w+)")


@dataclass(frozen=True)
class File:
    """One migration."""

    name: str
    text: str

    @property
    def statements(self) -> list[str]:
        """Its statements in capitals, without comments and texts."""
        parts = [
            "" if _is_text(part) else part for part in (found[0] for found in _TOKEN.finditer(self.text))
        ]
        return [" ".join(each.upper().split()) for each in "".join(parts).split(";") if each.strip()]


def refusals(files: Sequence[File], first: int) -> list[str]:
    """What the files from position `first` on do and may not, each with the file's name and what to do."""
    return [
        f"{file.name}: {reason}"
        for at, file in enumerate(files)
        if at >= first
        for reason in _reasons(file, files[:at])
    ]


def _reasons(file: File, before: Sequence[File]) -> Iterator[str]:
    made = {table for each in file.statements for table in _MADE.findall(each)}
    for statement in file.statements:
        for pattern, reason in _REFUSED:
            found = re.match(pattern, statement)
            if found and found[1] not in made:
                yield reason
        for table, column in _NOT_NULL.findall(statement):
            if table not in made and not _is_checked(table, column, before):
                yield f"{column} is set NOT NULL before a CHECK ({column} IS NOT NULL) was validated"


def _is_checked(table: str, column: str, before: Sequence[File]) -> bool:
    """Whether an earlier file has added the check, and a later one of them validated it."""
    added: set[str] = set()
    for statement in (each for file in before for each in file.statements):
        added |= set(
            re.findall(
                rf"ALTER TABLE {table} .*ADD CONSTRAINT (\w+) CHECK \({column} IS NOT NULL\)", statement
            )
        )
        validated = re.match(rf"ALTER TABLE {table} VALIDATE CONSTRAINT (\w+)", statement)
        if validated and validated[1] in added:
            return True
    return False


def _is_text(part: str) -> bool:
    return part.startswith(("--", "/*", "'")) or (part.startswith("$") and len(part) > 1)
