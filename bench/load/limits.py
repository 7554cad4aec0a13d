"""How much load one run may be, and how long it may take: each bound named once."""

from __future__ import annotations

RATE_MAX = 20_000.0  # calls/s; one Python client ends well below, and says so by its own lateness
SECONDS_MAX = 600.0  # one run, warm-up included
CALLS_MAX = 1_000_000  # of one run: 100 MB of times and stage texts, which are kept until its end
CONNECTIONS_MAX = 64
IN_FLIGHT_MAX = (
    1_000  # calls without an answer; below the server's own bound of 1,024, which would refuse them
)
CALLERS_MAX = 256  # of a closed loop
TIMEOUT_S = 5.0  # of one call
DRAIN_S = 1.0  # beyond the timeout of the last call, until the run ends whatever happens
CONNECT_S = 5.0
USERS_MAX = 5_000_000
BODY_BYTES_MAX = 16 * 1024 * 1024  # of an HTTP answer; a peer that sends more is cut off

LATE_MS_WARN = (
    1.0  # p99 of the generator's own lateness from which its figures are the generator's, not the server's
)
CPU_SHARE_WARN = 0.9  # of a core: beyond it the generator, which has one, may be what is slow
NICE_MAX = 19
SATURATION_CALLERS = (8, 16, 32)
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}

# Histograms count whole microseconds, to three digits, up to ten minutes.
HISTOGRAM_MIN_US, HISTOGRAM_MAX_US, HISTOGRAM_DIGITS = 1, 600_000_000, 3

assert HISTOGRAM_MAX_US >= SECONDS_MAX * 1e6, "a stall as long as the whole run still has a place"
assert CALLERS_MAX <= IN_FLIGHT_MAX
