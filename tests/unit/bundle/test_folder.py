"""A bundle is whole or not there, and what was altered is refused by name."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
from reco.errors.v1 import error_reason_pb2

import bundle
from bundle import folder, manifest
from runtime.errors import DependencyError

ARRAYS = {"factors": np.arange(6, dtype=np.float32).reshape(3, 2), "forest": np.zeros((0, 1), dtype=np.int32)}


def write(models: Path, version: str = "v1", files: dict[str, Path] | None = None) -> Path:
    return bundle.write(models, version, ARRAYS, {"decay": 0.2}, {"ndcg": 0.1}, files or {}, 1_800_000_000.0)


def test_open_when_whole_gives_back_what_was_written(tmp_path: Path) -> None:
    source = tmp_path / "graph"
    source.write_bytes(b"graph")
    opened = bundle.open_bundle(write(tmp_path / "models", files={"index": source}))
    assert opened.manifest.params == {"decay": 0.2}
    assert opened.manifest.metrics == {"ndcg": 0.1}
    assert opened.files["index"].read_bytes() == b"graph"
    for name, array in ARRAYS.items():
        assert opened.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(opened.arrays[name], array)


def test_write_to_mapped_array_never_reaches_the_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    bundle.open_bundle(path).arrays["factors"][:] = 9
    np.testing.assert_array_equal(bundle.open_bundle(path).arrays["factors"], ARRAYS["factors"])


def test_write_when_version_exists_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    before = (write(tmp_path) / "manifest.json").read_bytes()
    with pytest.raises(FileExistsError, match="never overwritten"):
        write(tmp_path)
    assert (tmp_path / "v1" / "manifest.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["v1"]


@pytest.mark.parametrize("version", ["", "../v1", ".hidden", "a/b", "v" * 65])
def test_write_when_version_is_no_name_is_refused(tmp_path: Path, version: str) -> None:
    with pytest.raises(ValueError, match="no model version"):
        write(tmp_path, version)


def test_write_when_disk_is_full_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder, "_sync_file", full)
    with pytest.raises(DependencyError, match="free space") as caught:
        write(tmp_path)
    assert caught.value.reason == error_reason_pb2.ERROR_REASON_STORAGE_FULL
    assert list(tmp_path.iterdir()) == []


def test_write_when_a_crash_left_folders_behind_removes_the_old_ones(tmp_path: Path) -> None:
    old, young = tmp_path / ".writing-old", tmp_path / ".writing-young"
    for left in (old, young):
        left.mkdir()
        (left / "factors.npy").write_bytes(b"half")
    os.utime(old, (0, 0))
    write(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".writing-young", "v1"]


def refusal(path: Path, verify: bool = True) -> str:
    with pytest.raises(bundle.BundleError) as caught:
        bundle.open_bundle(path, verify)
    assert caught.value.reason == error_reason_pb2.ERROR_REASON_MODEL_REFUSED
    assert caught.value.metadata["version"] == path.name
    return caught.value.metadata["description"]


def test_open_when_array_is_truncated_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    file = path / "factors.npy"
    file.write_bytes(file.read_bytes()[:-4])
    assert refusal(path, verify=False).startswith("factors.npy: ")


def test_open_when_one_byte_is_altered_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path)
    file = path / "factors.npy"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert refusal(path) == "factors.npy: checksum differs"


@pytest.mark.parametrize("name", ["factors.npy", "manifest.json"])
def test_open_when_file_is_missing_names_it(tmp_path: Path, name: str) -> None:
    path = write(tmp_path)
    (path / name).unlink()
    assert refusal(path) == f"{name}: No such file or directory"


def test_open_when_folder_is_missing_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "v9").startswith("manifest.json: ")


def test_open_when_params_were_edited_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    file = path / "manifest.json"
    file.write_text(file.read_text().replace("0.2", "0.3"))
    assert refusal(path) == "manifest.json: checksum differs"


def test_open_when_manifest_is_truncated_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    file = path / "manifest.json"
    file.write_text(file.read_text()[:100])
    assert "truncated" in refusal(path)


def test_open_when_schema_is_foreign_names_both(tmp_path: Path) -> None:
    path = write(tmp_path)
    rewrite(path, schema_version=99)
    assert refusal(path) == "manifest.json: schema 99, this engine reads 1"


def test_open_when_folder_was_renamed_is_refused(tmp_path: Path) -> None:
    assert "'v1'" in refusal(write(tmp_path).rename(tmp_path / "v2"))


def test_open_when_manifest_names_a_path_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    body = json.loads((path / "manifest.json").read_text())
    body["arrays"]["factors"]["file"] = "../../secret.npy"
    rewrite(path, arrays=body["arrays"])
    assert "no file name" in refusal(path)


def test_open_when_shape_differs_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path)
    body = json.loads((path / "manifest.json").read_text())
    body["arrays"]["factors"]["shape"] = [2, 3]
    rewrite(path, arrays=body["arrays"])
    assert "factors.npy: <f4(3, 2), the manifest says <f4(2, 3)" in refusal(path)


def rewrite(path: Path, **changes: object) -> None:
    """Changes the manifest and makes its digest right again, as a program of another version would write it."""
    file = path / "manifest.json"
    body = {**json.loads(file.read_text()), **changes}
    del body["sha256"]
    file.write_text(json.dumps({**body, "sha256": manifest._digest(body)}))


@pytest.mark.parametrize(
    "change", [{"arrays": None}, {"arrays": {"factors": {}}}, {"unheard_of": 1}, {"params": ...}]
)
def test_open_when_manifest_is_whole_but_not_ours_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    path = write(tmp_path) / "manifest.json"
    body = {**json.loads(path.read_text()), **change}
    body = {name: value for name, value in body.items() if name != "sha256" and value is not ...}
    path.write_text(json.dumps({"sha256": manifest._digest(body), **body}))

    with pytest.raises(bundle.BundleError, match="not as this engine writes it"):
        bundle.open_bundle(path.parent)
