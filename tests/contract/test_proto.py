"""The contract keeps its form: linted, compatible with what was there before, generated code up to date, every reason explained."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from gateway.comments import DESCRIPTORS, read_comments

ROOT = Path(__file__).resolve().parents[2]
BUF = Path(sys.executable).parent / "buf"
SAMPLE = re.compile(r"\{.*\}$")
# RPCs that REST does not carry, with the reason.
GRPC_ONLY = {
    "reco.ingest.v1.IngestService.ImportEvents": "client stream: bulk needs flow control from end to end"
}


def run(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([str(part) for part in arguments], cwd=ROOT, capture_output=True, check=False)


def image_of(proto: Path, path: Path) -> Path:
    """An image of the protos in a folder, as buf reads it."""
    done = run(sys.executable, ROOT / "proto" / "generate.py", "--proto", proto, "--image", path)
    assert done.returncode == 0, done.stderr.decode()
    return path


def lint(image: Path) -> subprocess.CompletedProcess[bytes]:
    return run(BUF, "lint", image, "--config", ROOT / "buf.yaml", "--path", "reco")


def breaking(image: Path, against: Path) -> subprocess.CompletedProcess[bytes]:
    return run(BUF, "breaking", image, "--against", against, "--config", ROOT / "buf.yaml", "--path", "reco")


def git(*arguments: str) -> str:
    """What git says, or nothing when it can't."""
    done = run("git", *arguments)
    return done.stdout.decode().strip() if done.returncode == 0 else ""


def earlier_commit() -> str:
    """What the contract must stay compatible with: the last release, else where this branch left main, else the commit
    before this one, else this one (then only uncommitted changes are held against it)."""
    head = git("rev-parse", "HEAD")
    bases = [git("merge-base", "HEAD", name) for name in ("origin/main", "main")]
    found = [
        git("describe", "--tags", "--abbrev=0"),
        *(base for base in bases if base != head),
        git("rev-parse", "HEAD~1"),
    ]
    return next((commit for commit in found if commit and git("ls-tree", commit, "proto/reco")), head)


def edited(proto: Path, file: str, old: str, new: str) -> Path:
    """A copy of the contract with one edit."""
    shutil.copytree(ROOT / "proto" / "reco", proto / "reco")
    path = proto / "reco" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return proto


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return image_of(ROOT / "proto", tmp_path / "now.binpb")


def test_lint_when_run_on_the_contract_finds_nothing(image: Path) -> None:
    done = lint(image)
    assert done.returncode == 0, done.stdout.decode()


def test_lint_when_a_field_has_no_comment_and_a_bad_name_finds_both(tmp_path: Path) -> None:
    old = "  // The caller's identifier of this event"
    proto = edited(tmp_path / "proto", "ingest/v1/event.proto", old, f"  string badName = 99;\n{old}")
    done = lint(image_of(proto, tmp_path / "bad.binpb"))
    assert done.returncode != 0
    assert b"badName" in done.stdout
    assert b"comment" in done.stdout


def test_breaking_when_compared_with_the_earlier_contract_finds_nothing(image: Path, tmp_path: Path) -> None:
    commit = earlier_commit()
    if not commit:
        pytest.skip("no git history here (an archive?): there is no earlier contract to compare with")
    archive = run("git", "archive", "--format=zip", commit, "proto").stdout
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        files.extractall(tmp_path / "before")
    done = breaking(image, image_of(tmp_path / "before" / "proto", tmp_path / "before.binpb"))
    assert done.returncode == 0, done.stdout.decode()


def test_breaking_when_a_field_is_removed_finds_it(image: Path, tmp_path: Path) -> None:
    field = "  string surface = 10 [(buf.validate.field).string.max_len = 64];"
    proto = edited(tmp_path / "proto", "ingest/v1/event.proto", field, "")
    done = breaking(image_of(proto, tmp_path / "after.binpb"), image)
    assert done.returncode != 0
    assert b'"surface"' in done.stdout


def test_generated_code_when_made_again_is_the_same(tmp_path: Path) -> None:
    done = run(sys.executable, "proto/generate.py", "--out", tmp_path / "gen")
    assert done.returncode == 0, done.stderr.decode()
    made = {
        p.relative_to(tmp_path / "gen"): p.read_bytes() for p in (tmp_path / "gen").rglob("*") if p.is_file()
    }
    kept = {
        p.relative_to(ROOT / "gen"): p.read_bytes()
        for p in (ROOT / "gen").rglob("*")
        if p.is_file() and p.suffix != ".pyc"
    }
    assert sorted(made) == sorted(kept)
    assert [name for name in made if made[name] != kept[name]] == [], "gen/ is stale: run `make gen`"


def test_generated_code_when_a_message_is_gone_keeps_nothing_of_it(tmp_path: Path) -> None:
    stale = tmp_path / "gen" / "reco" / "gone_pb2.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    assert run(sys.executable, "proto/generate.py", "--out", tmp_path / "gen").returncode == 0
    assert not stale.exists()


def test_reason_when_in_the_contract_has_a_comment_with_a_sample() -> None:
    comments = read_comments()
    files = FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    reasons = next(e for f in files for e in f.enum_type if e.name == "ErrorReason")
    assert len(reasons.value) > 15
    for value in reasons.value:
        comment = comments[f"reco.errors.v1.ErrorReason.{value.name}"]
        if value.number:
            assert re.match(r"(The caller's|The operator's|A dependency's|Ours)[:,]", comment), value.name
            assert SAMPLE.search(comment), f"{value.name}: no sample ErrorInfo"


def test_rpc_when_in_the_contract_has_an_http_annotation_or_a_reason() -> None:
    files = FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    rpcs = {
        f"{file.package}.{service.name}.{rpc.name}": rpc.options.HasExtension(annotations_pb2.http)
        for file in files
        for service in file.service
        for rpc in service.method
    }
    assert {name for name, annotated in rpcs.items() if not annotated} == set(GRPC_ONLY)
    assert len(rpcs) > 10
