"""How large a profile may be: bytes per user are a contract (docs/capacity.md), so each part has its bound."""

from __future__ import annotations

PROFILE_BYTES_MAX = 1024  # what one user may cost in Redis, key and bookkeeping of the store included
HEADER_BYTES = 24
RING_EVENTS_MAX = 64  # the fold-in weighs by exp(-0.3 * position): the 64th event hardly counts
RING_EVENT_BYTES = 8
SEEN_BYTES_MAX = 344  # some 300 items of a catalogue of 100,000, or 1,000 of one of 2,000
SEEN_BASE_BYTES = 4  # the largest key stands in front, whole
VALUE_BYTES_MAX = HEADER_BYTES + RING_EVENTS_MAX * RING_EVENT_BYTES + SEEN_BYTES_MAX
STORE_BYTES_MAX = (
    144  # key name of a user id of up to 36 characters, hash slot, expiry, rounding of the allocator
)

ITEM_KEY_BITS = 28
ITEM_KEY_MAX = (1 << ITEM_KEY_BITS) - 1  # also the migration's MAXVALUE of items.key
# Events of one second have no order among them. In the ring they stand by their keys multiplied by this (odd, so that it can
# be undone): by the keys themselves, the newest items of the catalogue would always count as the user's latest.
KEY_MIX = 0x9E3779B
KEY_UNMIX = pow(KEY_MIX, -1, 1 << ITEM_KEY_BITS)
RICE_K_MAX = ITEM_KEY_BITS
SEEN_KEYS_MAX = 1 + (SEEN_BYTES_MAX - SEEN_BASE_BYTES) * 8  # a run of neighbours costs one bit each

SEQUENCE_MAX = (1 << 16) - 1  # the stream never numbers higher within a millisecond (ingest/stream.py)

TRENDING_ITEMS_MAX = 1_000  # per week; serving shows some dozens
TRENDING_TAU_S = 86_400.0  # a day: what was done yesterday counts 1/e
TRENDING_TTL_S = 15 * 86_400  # this week and the last are read
SWAP_TRIES_MAX = 5  # of one profile's compare-and-set; a partition has one writer, so even the second is rare

assert VALUE_BYTES_MAX + STORE_BYTES_MAX <= PROFILE_BYTES_MAX
assert SEEN_KEYS_MAX < 1 << 16, "seen_count is a u16"
assert RING_EVENTS_MAX < 1 << 8, "ring_count is a u8"
