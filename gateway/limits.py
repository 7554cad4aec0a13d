"""The gateway's limits, each with its reason."""

from __future__ import annotations

from typing import Final

from runtime.rpc import MESSAGE_BYTES_MAX, STOP_GRACE_S

BODY_BYTES_MAX: Final = MESSAGE_BYTES_MAX  # what gRPC would refuse anyway is refused at the door
BODY_WAIT_S_MAX: Final = 10.0  # a body that dribbles in slower than this holds a connection for nothing
PROTO_GROWTH_MAX: Final = (
    4  # a map entry of 6 bytes of JSON may be 14 of protobuf; above 1/4 the size is measured
)
DEPTH_MAX: Final = 32  # messages in messages; the contract's deepest is 4, the rest is an attack on the stack
QUERY_DEPTH_MAX: Final = 4  # dots in the name of a query parameter; deeper things belong in a body
QUERY_BYTES_MAX: Final = (
    32 * 1024
)  # 16 KiB hold a page token and an offset at their longest, twice that is kind
QUERY_PARAMETERS_MAX: Final = 1_100  # 1,000 excluded items, the contract's longest list, and the rest
HEAD_BYTES_MAX: Final = 64 * 1024  # request line and headers: the longest query and 32 KiB of headers

TIMEOUT_MS_DEFAULT: Final = 5_000  # long enough for 1,000 upserts, short enough that a person still waits
TIMEOUT_MS_MAX: Final = 30_000  # what most load balancers allow
HEALTH_WAIT_S_MAX: Final = 1.0  # probes are asked every few seconds
IN_FLIGHT_MAX: Final = (
    1_000  # calls at once: some 100 MB of bodies and answers; beyond it a queue would only hide it
)
IN_FLIGHT_SHEDDABLE_MAX: Final = IN_FLIGHT_MAX // 2  # the rest is for calls that may not be shed
RETRY_AFTER_S_DEFAULT: Final = 1  # when the one who refused did not say

RETRY_ATTEMPTS_MAX: Final = 3  # the first included; more only adds load to what is already down
RETRY_WAIT_S: Final = 0.05  # doubled each time, with gRPC's own jitter
RETRY_WAIT_S_MAX: Final = 0.5
RECONNECT_WAIT_MS_MAX: Final = (
    1_000  # an upstream that is back is found within a second, not gRPC's two minutes
)
KEEPALIVE_MS: Final = (
    60_000  # grpc servers allow a ping a minute with calls in flight without further settings
)
KEEPALIVE_WAIT_MS_MAX: Final = 5_000

CONNECTION_IDLE_S_MAX: Final = (
    75  # longer than a load balancer's 60 s, so that it closes first and nothing is lost
)
BACKLOG_MAX: Final = 1_024  # connections not yet accepted
STOP_S_MAX: Final = int(STOP_GRACE_S)

assert TIMEOUT_MS_DEFAULT <= TIMEOUT_MS_MAX
assert HEAD_BYTES_MAX >= 2 * QUERY_BYTES_MAX
assert 0 < IN_FLIGHT_SHEDDABLE_MAX <= IN_FLIGHT_MAX
assert BODY_BYTES_MAX <= MESSAGE_BYTES_MAX
assert RETRY_ATTEMPTS_MAX * RETRY_WAIT_S_MAX * 1000 < TIMEOUT_MS_DEFAULT
