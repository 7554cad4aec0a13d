"""Everything that a request is answered with: the views that background tasks keep, and scratch memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.clock import Clock
from serving.candidates import Gatherer
from serving.catalogue import Catalogue
from serving.catalogue_follower import CatalogueFollower
from serving.drift import DriftWatch
from serving.effort import Pace
from serving.eligibility import BlockedKeys, EligibilityCache
from serving.learner import Learner
from serving.live_items import LiveItems
from serving.model_store import ModelStore
from serving.outbox import Outbox
from serving.profile import ProfileReader
from serving.surfaces import Surfaces
from serving.trending import Trending


@dataclass(frozen=True)
class Engine:
    """For the event loop's thread alone: between two awaits a request has the scratch arrays to itself."""

    catalogue: Catalogue
    follower: CatalogueFollower
    models: ModelStore
    profiles: ProfileReader
    trending: Trending
    eligibility: EligibilityCache
    drift: DriftWatch
    live: LiveItems
    clock: Clock
    random_bytes: Callable[[int], bytes]
    blocked: BlockedKeys = field(default_factory=BlockedKeys)
    gatherer: Gatherer = field(default_factory=Gatherer)
    pace: Pace = field(default_factory=Pace)
    surfaces: Surfaces = field(default_factory=Surfaces)
    outbox: Outbox | None = None  # None: nothing is written after an answer
    learner: Learner | None = None
