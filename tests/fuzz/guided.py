"""`python -m tests.fuzz.guided NAME ...`: one target under libFuzzer, which keeps what finds new paths. Ends with its process.

Needs atheris (the extra `fuzz`). Kernels are machine code, so their paths are not seen; they check their bounds instead.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris

# Their bytecode is changed, so no module with a kernel of numba's may be among them.
WATCHED = {
    "bundle.manifest", "gateway.decode", "gateway.encode", "gateway.scalars", "gateway.transcode", "gateway.wellknown",
    "ingest.dead_letter_files", "ingest.events", "ingest.lake.manifest", "ingest.lake.table", "ingest.texts", "profiles.codec", "profiles.item_news", "profiles.offsets",
    "runtime.frames", "runtime.front", "runtime.limiter", "runtime.redis_connection", "serving.filter_syntax",
    "serving.filters", "serving.rules", "serving.surface_file", "serving.surface_reader", "serving.tokens",
}  # fmt: skip
PACKAGES = sorted({name.partition(".")[0] for name in WATCHED})


def _others() -> list[str]:
    """The modules of these packages that are not watched: atheris takes packages in, and modules out."""
    paths = [path for package in PACKAGES for path in Path(package).rglob("*.py")]
    names = {".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in paths}
    return sorted(names - WATCHED)


with atheris.instrument_imports(include=PACKAGES, exclude=_others()):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name].run)
    atheris.Fuzz()
