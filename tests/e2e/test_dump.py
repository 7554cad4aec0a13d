"""A whole system into a folder, and from there into another one, which answers the same user as the first did."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.system import System, wait_until

pytestmark = pytest.mark.e2e


@pytest.fixture
def second() -> Iterator[System]:
    """Another system that was never started."""
    made = Path(tempfile.mkdtemp(prefix="reco-e2e-"))
    system = System(made)
    yield system
    system.close()
    shutil.rmtree(made)


def test_restore_when_profiles_are_rebuilt_answers_as_the_system_that_was_dumped(
    fresh: System, second: System, tmp_path: Path
) -> None:
    rows = [f"u{n % 7},film-{n % 11},{1_700_000_000 + n}" for n in range(200)]
    (tmp_path / "events.csv").write_text("\n".join(["user,item,time", *rows]))
    fresh.start()
    assert fresh.reco_json("load", str(tmp_path / "events.csv"))["events_accepted"] == 200
    written = fresh.reco_json("dump", str(tmp_path / "dump"))
    shown = ids_of(fresh)
    fresh.stop()

    second.start()
    result = second.reco("restore", str(tmp_path / "dump"), "--json")
    assert "reco rebuild profiles" in result.stderr
    refused = second.reco("restore", str(tmp_path / "dump"), code=1)
    assert "this system is not empty" in refused.stderr
    assert second.reco_json("rebuild", "profiles")["events"] == 200
    second.reco_json("dump", str(tmp_path / "again"))

    assert written["counts"]["events"] == 200
    wait_until(lambda: ids_of(second) == shown)
    for name in ("items", "users", "events/*"):
        for path in (tmp_path / "dump/tables").glob(f"{name}.jsonl.zst"):
            twin = tmp_path / "again" / path.relative_to(tmp_path / "dump")
            assert twin.read_bytes() == path.read_bytes()


def ids_of(system: System) -> list[str]:
    return [item["item_id"] for item in system.reco_json("recommend", "u1", "-n", "5")["items"]]
