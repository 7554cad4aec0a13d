"""Where numba keeps compiled kernels: one folder for each state of their sources. Importing this module chooses it.

Numba itself notices an edit of the file that a kernel stands in, but not of what that file imports: a constant or a helper
changed elsewhere, and the old machine code ran on, after an upgrade in place too. So the folder's name is a digest of all
files with kernels and of all that they import. Each package with kernels imports this module first, in its __init__.
"""

from __future__ import annotations

import ast
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PACKAGES = ("profiles", "vectorizer", "retrieval", "serving")  # those with kernels
FOLDER_COUNT_MAX = 4  # states whose kernels are kept, some 10 MB each: two branches, and who is still running
PREFIX = "kernels-"
ROOT = Path(__file__).resolve().parent.parent  # of the checkout, or site-packages


def sources(root: Path) -> list[Path]:
    """The files with kernels and the project's files that they import, directly or not; sorted."""
    left = [p for name in PACKAGES for p in sorted((root / name).rglob("*.py")) if _has_kernels(p)]
    found: set[Path] = set()
    while left:
        path = left.pop()
        if path not in found:
            found.add(path)
            left.extend(_imported(path, root))
    return sorted(found)


def _has_kernels(path: Path) -> bool:
    text = path.read_bytes()
    return b"njit" in text or b"intrinsic" in text


def _imported(path: Path, root: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            file = root.joinpath(*name.split(".")).with_suffix(".py")
            if name.split(".")[0] in PACKAGES and file.is_file():
                yield file


def folder_name(root: Path) -> str:
    """The folder's name: a digest of paths and contents."""
    digest = hashlib.sha256()
    for path in sources(root):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return PREFIX + digest.hexdigest()[:16]


def writable(folder: Path) -> bool:
    """Whether it is ours to write; it is made if need be. Machine code is loaded from it: not from others' folders."""
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder.stat().st_uid in (os.getuid(), 0)
    except OSError:
        return False


def choose(bases: Sequence[Path], name: str, is_writable: Callable[[Path], bool] = writable) -> Path | None:
    """The folder `name` in the first of `bases` that can be written; None: there is none, and numba decides.

    What was compiled in a base before it that can only be read, such as an image's, is copied: numba takes no folder that
    it can't write to, for another processor needs other code.
    """
    warm: Path | None = None
    for base in bases:
        if is_writable(base):
            if warm is not None and not (base / name).exists():
                _copy(warm, base / name)
            (base / name).mkdir(mode=0o755, exist_ok=True)
            os.utime(base / name)
            _remove_old(base)
            return base / name
        if warm is None and os.access(base / name, os.R_OK | os.X_OK):
            warm = base / name
    return None


def _copy(source: Path, target: Path) -> None:
    # Whole or not at all: two processes may start at once.
    made = Path(tempfile.mkdtemp(dir=target.parent))
    try:
        shutil.copytree(source, made, dirs_exist_ok=True)
        made.rename(target)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)


def _remove_old(base: Path) -> None:
    folders = sorted(base.glob(PREFIX + "*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for folder in folders[FOLDER_COUNT_MAX:]:
        shutil.rmtree(folder, ignore_errors=True)


def bases() -> list[Path]:
    """Where the folder may lie: where NUMBA_CACHE_DIR says, or beside the code, the user's cache, the temporary folder."""
    own = os.environ.get("NUMBA_CACHE_DIR", "")
    if own:
        given = Path(own)
        return [given.parent if given.name.startswith(PREFIX) else given]  # a parent process has chosen
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    shared = Path(tempfile.gettempdir()) / f"recommendation-engine-{os.getuid()}"
    return [ROOT / "runtime" / "__pycache__" / "kernels", user / "recommendation-engine", shared]


def _use() -> None:
    folder = choose(bases(), folder_name(ROOT))
    if folder is None:
        return
    os.environ["NUMBA_CACHE_DIR"] = str(folder)
    numba = sys.modules.get("numba")
    if numba is not None:
        numba.config.CACHE_DIR = str(folder)


_use()
