"""What an operator sets, from the environment (`RECO_...`). Wrong configuration does not start.

Every process reads the same settings; docs/settings.md is made from the descriptions here.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from runtime import redis_url

# A write's offset names each partition that it touched, in some 24 characters, and minimum_offset takes 4,096.
PARTITION_COUNT_MAX = 128
# One a core is all that helps; each holds ten connections of Postgres' hundred or more.
RANKING_PROCESSES_MAX = 32
# More than partitions and sinks would idle; each holds as many connections of Redis as it has readers.
CONSUMER_PROCESSES_MAX = 32
# More than anybody runs of one primary; each adds to what a write waits for.
DURABILITY_REPLICAS_MAX = 16


class Settings(BaseSettings):
    """All settings. Frozen: a running process does not change its mind."""

    model_config = SettingsConfigDict(env_prefix="RECO_", frozen=True, extra="ignore")

    data_dir: Path = Field(
        Path("data"), description="Where the embedded stores, the lake and the models live."
    )
    redis_url: str = Field(
        "",
        description="Redis or Valkey: redis://, rediss://, unix://, redis+sentinel://host:port,.../NAME or redis+cluster://host:port,... (docs/redis.md); empty: an embedded Valkey under data_dir.",
    )
    durability: Literal["always", "everysec", "replicas"] = Field(
        "always",
        description="What an acknowledged event has survived (docs/redis.md). `always`: it is on the disk of the primary. `everysec`: up to a second may be lost with the machine's power, up to two when Redis is killed while a sync is slow. `replicas`: durability_replicas replicas have it.",
    )
    durability_replicas: int = Field(
        1,
        ge=1,
        le=DURABILITY_REPLICAS_MAX,
        description="With durability `replicas`: how many must have an event before it is acknowledged.",
    )
    postgres_url: str = Field("", description="PostgreSQL; empty: an embedded one under data_dir.")
    lake_url: str = Field(
        "",
        description="Where events go for good: a folder, or s3://bucket/path with AWS's usual variables (docs/lake.md); empty: data_dir/lake.",
    )
    models_url: str = Field("", description="Where models are published: a folder; empty: data_dir/models.")

    host: str = Field(
        "127.0.0.1", description="The address that servers bind. Loopback, until there is authentication."
    )
    ingest_port: int = Field(7101, ge=0, le=65535, description="gRPC: IngestService.")
    ranking_port: int = Field(7102, ge=0, le=65535, description="gRPC: RankingService and ModelService.")
    ranking_processes: int = Field(
        1,
        ge=1,
        le=RANKING_PROCESSES_MAX,
        description="Serving processes behind ranking_port. Each connection stays with one of them: let clients open several channels.",
    )
    ingest_target: str = Field(
        "", description="host:port where the gateway finds ingest; empty: host and ingest_port."
    )
    ranking_target: str = Field(
        "", description="host:port where the gateway finds ranking; empty: host and ranking_port."
    )
    gateway_port: int = Field(7100, ge=0, le=65535, description="REST.")
    metrics_port_base: int = Field(
        7110,
        ge=1024,
        le=65000,
        description="Prometheus: ingest at this port, consumer +1 (further ones +51, +52, ...), ranking +2 (its further processes +11, +12, ...), worker +3; the gateway serves its own at /metrics.",
    )
    consumer_processes: int = Field(
        1,
        ge=1,
        le=CONSUMER_PROCESSES_MAX,
        description="Consumer processes that `reco up` starts. They share the partitions out among themselves, wherever they run.",
    )
    consumer_index: int = Field(
        0,
        ge=0,
        lt=CONSUMER_PROCESSES_MAX,
        description="Which of several consumers on this machine a process is: each needs a metrics port of its own. `reco up` sets it.",
    )

    partition_count: int = Field(
        4,
        ge=1,
        le=PARTITION_COUNT_MAX,
        description="Partitions of the event stream. Fixed once events exist.",
    )
    postgres_event_days: int = Field(
        90,
        ge=0,
        le=36_500,
        description="Days of events that Postgres keeps; older ones leave it once the lake has the same. 0: all.",
    )
    lake_keep_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="Events leave the lake when their day ended so many days ago, more than postgres_event_days; 0: never.",
    )
    profile_ttl_days: int = Field(
        180, ge=1, le=3650, description="A profile that is not touched for so long is dropped."
    )
    model_margin: float = Field(
        0.02,
        ge=0,
        le=1,
        description="A new model whose NDCG@10 is relatively worse by more than this is held, not activated.",
    )
    model_bytes_max: int = Field(
        0,
        ge=0,
        description="A bundle that takes more memory is refused and the model before it goes on; 0: as much as is free.",
    )
    model_keep_count: int = Field(
        5,
        ge=2,
        le=1_000,
        description="Bundles kept on disk: the newest so many, and the active one and those before it that a roll back reaches, as many again.",
    )
    surfaces_file: Path | None = Field(
        None,
        description="The rules of surfaces (docs/surfaces.md); read again when it changes. Empty: none.",
    )
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="How much is logged.")

    @field_validator("lake_keep_days")
    @classmethod
    def _lake_outlasts_postgres(cls, days: int, info: ValidationInfo) -> int:
        if 0 < days <= info.data.get("postgres_event_days", 0):
            raise ValueError(
                "it must exceed RECO_POSTGRES_EVENT_DAYS: a day leaves Postgres only if the lake has it"
            )
        return days

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, url: str) -> str:
        if url:
            redis_url.parse(url)
        return url

    @field_validator("lake_url")
    @classmethod
    def _is_folder_or_bucket(cls, url: str) -> str:
        if "://" in url and not url.startswith(("file:///", "s3://")):
            raise ValueError("only a folder (a path, or file:///path) and s3://bucket/path are supported")
        if url.startswith("s3://") and not url.removeprefix("s3://").partition("/")[0]:
            raise ValueError("s3:// needs a bucket: s3://bucket/path")
        return url

    @field_validator("models_url")
    @classmethod
    def _is_folder(cls, url: str) -> str:
        if "://" in url and not url.startswith("file:///"):
            raise ValueError("only a folder (a path, or file:///path) is supported")
        return url

    @field_validator("surfaces_file", mode="before")
    @classmethod
    def _is_file(cls, path: object) -> object:
        return path or None

    @property
    def replica_count(self) -> int:
        """Replicas that must have an event before it is acknowledged."""
        return self.durability_replicas if self.durability == "replicas" else 0

    @property
    def models_dir(self) -> Path:
        """The folder that models are published to."""
        return Path(self.models_url.removeprefix("file://")) if self.models_url else self.data_dir / "models"


class SettingsError(Exception):
    """The operator's fault: a setting can't be used. The message names each one and its rule."""


def load_settings(**overrides: Any) -> Settings:
    """Reads the settings from the environment; raises SettingsError with one line for each wrong one."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        lines = [
            f"RECO_{e['loc'][0]!s}".upper() + f": {e['msg']} (got {_shown(e['input'])})"
            for e in error.errors()
        ]
        raise SettingsError("\n".join(lines)) from None


def _shown(value: object) -> str:
    """A wrong value without the password that a URL may hold."""
    return re.sub(r"//[^@]*@", "//***@", repr(value))
