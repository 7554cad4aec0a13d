"""Who did it: a user, or the session of an anonymous visitor. And the partition that holds them."""

from __future__ import annotations

from zlib import crc32


def subject_of(user_id: str, session_id: str) -> str:
    """The subject of an event; with both ids it is the user's."""
    return f"u:{user_id}" if user_id else f"s:{session_id}"


def partition_of(subject: str, partition_count: int) -> int:
    """The partition of a subject: 0 to partition_count - 1. Stays as long as the count does."""
    return crc32(subject.encode()) % partition_count
