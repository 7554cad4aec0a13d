"""On a cluster a script, and a user's answer, find all their keys on one node."""

from __future__ import annotations

import pytest
from redis.crc import key_slot

from ingest import dead_letters, stream
from ingest.stream import SINKS
from profiles.store import profile_key
from serving.served import served_key


@pytest.mark.parametrize("subject", ["u:ann", "s:{ann}", "u:}{", "u:" + "é" * 64])
def test_all_keys_of_a_user_have_one_slot(subject: str) -> None:
    keys = [profile_key(subject), served_key(subject)]

    assert len({key_slot(key.encode()) for key in keys}) == 1


@pytest.mark.parametrize("partition", [0, 3, 127])
def test_all_keys_of_a_partition_have_one_slot(partition: int) -> None:
    key = stream.stream_key(partition)
    keys = [
        key, f"{key}:id:any-event", f"{key}:fence", stream.dead_letters_key(partition),
        dead_letters._leaving_key(partition), dead_letters._replayed_key(partition, "letters-1-2.parquet"),
        *(stream.lease_key(partition, sink) for sink in (*SINKS, "upkeep")),
    ]  # fmt: skip

    assert len({key_slot(each.encode()) for each in keys}) == 1


def test_users_and_partitions_spread_over_the_nodes() -> None:
    thirds = {key_slot(profile_key(f"u:{n}").encode()) * 3 >> 14 for n in range(100)}

    assert thirds == {0, 1, 2}
    assert len({key_slot(stream.stream_key(n).encode()) for n in range(128)}) == 128
