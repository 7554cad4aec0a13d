"""What the documents say of the code is what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent


def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", REPOSITORY / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["settings.md", "metrics.md"])
def test_reference_page_when_made_anew_is_the_committed_one(name):
    assert generator().PAGES[name]() == (REPOSITORY / "docs" / name).read_text(), "run `make docs`"


def markdown_links():
    for page in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md"), *REPOSITORY.glob("tests/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if "://" not in target:
                yield page, target


@pytest.mark.parametrize(
    ("page", "target"), list(markdown_links()), ids=lambda value: getattr(value, "name", value)
)
def test_link_when_followed_leads_to_a_file(page, target):
    assert (page.parent / target).exists()


def test_readme_make_targets_when_named_exist():
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"`?make ([a-z-]+)", (REPOSITORY / "README.md").read_text()))
    assert named
    assert named <= targets


def named_tests():
    """`tests/x.py::name` of the documents; `::name` alone is of the file that was named before it."""
    for page in sorted(REPOSITORY.glob("docs/*.md")):
        file = None
        for path, name in re.findall(r"`(tests/[\w/]+\.py)?(?:::(\w+))?`", page.read_text()):
            file = path or file
            if file:
                yield page.name, file, name


@pytest.mark.parametrize(("page", "file", "name"), sorted(set(named_tests())))
def test_test_that_a_document_names_is_there(page, file, name):
    text = (REPOSITORY / file).read_text()
    assert re.search(rf"def {name}\(", text) or not name, f"{page} names {file}::{name}"
