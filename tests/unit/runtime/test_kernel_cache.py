"""Compiled kernels never outlive the sources that they were made of."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from numba.core.registry import CPUDispatcher

from runtime import kernel_cache
from runtime.kernel_cache import FOLDER_COUNT_MAX, PACKAGES, PREFIX, ROOT, choose, folder_name, sources

KERNEL = """
from numba import njit
from vectorizer.limits import LIMIT

@njit(cache=True)
def limit():
    return LIMIT
"""
PROGRAM = "from vectorizer.kernels import limit; print(limit(), sum(limit.stats.cache_hits.values()))"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout with one kernel, which takes a constant from another file."""
    for package in ("runtime", "vectorizer"):
        (tmp_path / package).mkdir()
    (tmp_path / "runtime" / "__init__.py").touch()
    shutil.copy(kernel_cache.__file__, tmp_path / "runtime")
    (tmp_path / "vectorizer" / "__init__.py").write_text("import runtime.kernel_cache\n")
    (tmp_path / "vectorizer" / "kernels.py").write_text(KERNEL)
    (tmp_path / "vectorizer" / "limits.py").write_text("LIMIT = 1\n")
    (tmp_path / "vectorizer" / "other.py").write_text("OTHER = 1\n")
    return tmp_path


def _run(root: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "NUMBA_CACHE_DIR"}
    environment |= {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", PROGRAM]
    return subprocess.run(
        command, env=environment, cwd=root, check=True, capture_output=True, text=True
    ).stdout


def test_kernel_when_an_imported_constant_is_edited_is_compiled_again(root):
    assert _run(root) == "1 0\n"
    assert _run(root) == "1 1\n"
    (root / "vectorizer" / "limits.py").write_text("LIMIT = 2\n")
    assert _run(root) == "2 0\n"
    (root / "vectorizer" / "limits.py").write_text("LIMIT = 1\n")
    assert _run(root) == "1 1\n"


def test_folder_name_when_a_file_that_no_kernel_imports_is_edited_stays(root):
    before = folder_name(root)
    (root / "vectorizer" / "other.py").write_text("OTHER = 2\n")
    assert folder_name(root) == before
    (root / "vectorizer" / "limits.py").write_text("LIMIT = 3\n")
    assert folder_name(root) != before


def test_sources_of_this_project_hold_constants_that_kernels_import():
    found = {str(path.relative_to(ROOT)) for path in sources(ROOT)}
    assert {
        "vectorizer/limits.py",
        "vectorizer/table.py",
        "vectorizer/lanes.py",
        "profiles/limits.py",
    } <= found
    assert {"retrieval/kernels.py", "retrieval/lanes.py", "serving/kernels.py"} <= found


def test_packages_with_kernels_choose_the_folder_before_they_compile():
    roots = [p.parent for p in ROOT.glob("*/__init__.py") if p.parent.name not in ("tests", "bench")]
    having = {p.name for p in roots if any("@njit" in f.read_text() for f in p.rglob("*.py"))}
    assert having == set(PACKAGES)
    for package in PACKAGES:
        assert "import runtime.kernel_cache" in (ROOT / package / "__init__.py").read_text()


@pytest.mark.parametrize(
    "module", ["profiles.kernels", "vectorizer.features", "retrieval.kernels", "serving.kernels"]
)
def test_kernels_of_this_process_lie_in_the_folder(module):
    kernels = [each for each in vars(import_module(module)).values() if isinstance(each, CPUDispatcher)]
    folders = {str(Path(each._cache.cache_path).parent) for each in kernels if each._cache.cache_path}
    assert folders == {os.environ["NUMBA_CACHE_DIR"]}
    assert Path(os.environ["NUMBA_CACHE_DIR"]).name == folder_name(ROOT)


def test_choose_when_the_image_can_only_be_read_copies_what_it_holds(tmp_path):
    image, user = tmp_path / "image", tmp_path / "user"
    (image / "kernels-a" / "vectorizer_1").mkdir(parents=True)
    (image / "kernels-a" / "vectorizer_1" / "k.nbi").write_text("index")
    for _ in range(2):
        chosen = choose([image, user], "kernels-a", is_writable=lambda base: base != image and _made(base))
        assert chosen == user / "kernels-a"
        assert (chosen / "vectorizer_1" / "k.nbi").read_text() == "index"
    assert [p.name for p in user.iterdir()] == ["kernels-a"]


def _made(base: Path) -> bool:
    base.mkdir(exist_ok=True)
    return True


def test_choose_when_nothing_can_be_written_leaves_it_to_numba(tmp_path):
    (tmp_path / "file").touch()
    assert choose([tmp_path / "file" / "below"], "kernels-a") is None


def test_choose_when_there_were_many_states_keeps_the_newest(tmp_path):
    for i in range(FOLDER_COUNT_MAX + 3):
        folder = choose([tmp_path], f"{PREFIX}{i}")
        os.utime(folder, (i, i))
    newest = choose([tmp_path], f"{PREFIX}new")
    kept = sorted(p.name for p in tmp_path.iterdir())
    assert newest.name in kept
    assert len(kept) == FOLDER_COUNT_MAX
    assert f"{PREFIX}{FOLDER_COUNT_MAX + 2}" in kept


def test_bases_when_a_parent_process_chose_are_where_it_did(monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / (PREFIX + "abc")))
    assert kernel_cache.bases() == [tmp_path]
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "mine"))
    assert kernel_cache.bases() == [tmp_path / "mine"]
