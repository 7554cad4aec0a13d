"""Migrations hold no lock for long: our files keep to the rules, and the rules refuse what they are for."""

from __future__ import annotations

import pytest

from ingest.schema import MIGRATIONS
from tests.unit.ingest.migration_rules import File, refusals

BEFORE_THE_RULES = 5  # files that were applied before; they may not change


def test_our_migrations_hold_no_lock_for_long() -> None:
    files = [File(path.name, path.read_text()) for path in sorted(MIGRATIONS.glob("*.sql"))]

    assert len(files) > BEFORE_THE_RULES
    assert refusals(files, BEFORE_THE_RULES) == []


@pytest.mark.parametrize(
    "text",
    [
        "CREATE INDEX i ON events (a)",
        "create unique index if not exists i\n  on events (a)",
        "SELECT 1; CREATE INDEX i ON events (a);",
        "DROP INDEX i",
        "ALTER TABLE events ALTER COLUMN a TYPE bigint",
        "ALTER TABLE events ALTER a SET DATA TYPE bigint",
        "ALTER TABLE events ALTER a SET NOT NULL",
        "ALTER TABLE events ADD COLUMN a uuid DEFAULT gen_random_uuid()",
        "ALTER TABLE events ADD a double precision NOT NULL DEFAULT 1 + random()",
        "ALTER TABLE events ADD b int, ADD a timestamptz DEFAULT clock_timestamp()",
        "ALTER TABLE events ADD a bigserial",
        "ALTER TABLE events ADD a int GENERATED ALWAYS AS (b * 2) STORED",
        "ALTER TABLE events ADD PRIMARY KEY (a)",
        "ALTER TABLE events ADD CONSTRAINT u UNIQUE (a)",
        "ALTER TABLE events ADD CONSTRAINT c CHECK (a > 0)",
        "ALTER TABLE events ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES items",
        "ALTER TABLE ONLY events SET UNLOGGED",
        "UPDATE events SET a = 1",
        "DELETE FROM events WHERE a = 1",
        "VACUUM FULL events",
        "REINDEX TABLE events",
        "LOCK TABLE events",
        "/* a ; */ UPDATE events SET a = 'x;y' -- CREATE TABLE events (a int)",
    ],
)
def test_what_locks_for_long_is_refused_by_name(text: str) -> None:
    assert [each.partition(":")[0] for each in refusals([File("0006_x.sql", text)], 0)] == ["0006_x.sql"]


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE t (a int); CREATE INDEX i ON t (a); UPDATE t SET a = 1; ALTER TABLE t ALTER a SET NOT NULL",
        "-- concurrently\nCREATE INDEX CONCURRENTLY IF NOT EXISTS i ON events (a);",
        "-- CREATE INDEX i ON events (a)\nSELECT 'UPDATE events SET a = 1'",
        "CREATE FUNCTION f() RETURNS trigger AS $$ BEGIN UPDATE events SET a = 1; END $$ LANGUAGE plpgsql",
        "ALTER TABLE events ADD COLUMN a int NOT NULL DEFAULT 0, ADD b timestamptz DEFAULT now()",
        "ALTER TABLE events ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID",
        "ALTER TABLE events ADD CONSTRAINT k PRIMARY KEY USING INDEX i",
    ],
)
def test_what_takes_a_moment_is_let_through(text: str) -> None:
    assert refusals([File("0006_x.sql", text)], 0) == []


def test_a_column_may_be_not_null_once_its_check_was_validated_by_an_earlier_file() -> None:
    add = File("1", "ALTER TABLE events ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID")
    validate = File("2", "ALTER TABLE events VALIDATE CONSTRAINT c")
    other = File("2", "ALTER TABLE events VALIDATE CONSTRAINT d")
    set_it = File("3", "ALTER TABLE events ALTER COLUMN a SET NOT NULL")

    assert refusals([add, validate, set_it], 0) == []
    assert len(refusals([add, other, set_it], 0)) == 1
    assert len(refusals([add, set_it], 0)) == 1
