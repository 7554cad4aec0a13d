"""A surface file says what it means, all its mistakes are told at once, and new content is taken over or refused as a whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from reco.ranking.v1.ranking_service_pb2 import Boost, RecommendRequest

from runtime.errors import CallerError
from serving.eligibility import EligibilityCache
from serving.rules import PLAIN, Boosting, Pin, Promotion, Quotas, Rotation, Rules, Served
from serving.surface_file import SurfaceFileError, read
from serving.surfaces import Surfaces, prepare_filters
from tests.unit.serving.items import catalogue_of, item

REPOSITORY = Path(__file__).parents[3]
SMALL = b'[surfaces.home]\npage_size = 5\nfilter = "tags:a"\n'


def mistakes_of(text: str) -> dict[str, str]:
    with pytest.raises(SurfaceFileError) as caught:
        read("s.toml", text.encode())
    assert len(str(caught.value).splitlines()) == len(caught.value.mistakes)
    return {mistake.place: f"{mistake.wrong}; {mistake.allowed}" for mistake in caught.value.mistakes}


def test_the_example_of_the_document_says_what_the_document_says() -> None:
    example = re.search(r"```toml\n(.*?)```", (REPOSITORY / "docs" / "surfaces.md").read_text(), re.DOTALL)
    assert example
    file = read("docs/surfaces.md", example[1].encode())
    home, letter = file.surfaces["home"], file.surfaces["newsletter"]
    assert file.default == Rules(version=file.version, served=Served(600, 512))
    assert (home.page_size, home.max_per_category, home.exploration, home.diversity) == (20, 4, 0.05, 0.2)
    assert home.quotas == Quotas(trending=40, new=10)
    assert home.rotation == Rotation(0.1, 86_400)
    assert home.boosts == (Boosting("this year", "create_time >= 2026-01-01", 0.2),)
    assert home.pins == (Pin("campaign", "sku-4711", 1),)
    assert home.promotions == (Promotion("own brand", 0.1, 'tags:"own-brand"'),)
    assert home.served == file.default.served
    assert (letter.turns, letter.served) == (("personal", "new", "trending"), Served(604_800, 200))
    assert re.fullmatch("[0-9a-f]{12}", file.version)


def test_every_field_of_the_document_is_a_field_of_the_file() -> None:
    page = (REPOSITORY / "docs" / "surfaces.md").read_text()
    described = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert described == set(Rules.__dataclass_fields__) - {"surface", "version"}


def test_file_with_many_mistakes_tells_all_of_them_with_what_is_allowed() -> None:
    found = mistakes_of("""
      colour = 1
      [default]
      page_size = 201
      [surfaces.home]
      diversity = "much"
      filter = "year >"
      merging = "turns"
      quotas = { personal = -1, promoted = 3 }
      served = { count = 5 }
      shelf = 3
      [[surfaces.home.boosts]]
      filter = ""
      weight = 3
      [[surfaces.home.boosts]]
      name = "request"
      filter = "tags:a"
      weight = true
      [[surfaces.home.pins]]
      item = "a"
      place = 2
      [[surfaces.home.pins]]
      item = "a"
      place = 2
      [[surfaces.home.promotions]]
      share = 0.7
      filter = "tags:a"
      [[surfaces.home.promotions]]
      share = 0.7
      [surfaces.other]
      pins = 3
      turns = ["personal", "personal"]
      min_score = nan
    """)
    assert found.keys() == {
        "colour",
        "default.page_size",
        "surfaces.home.diversity",
        "surfaces.home.filter",
        "surfaces.home.turns",
        "surfaces.home.quotas.personal",
        "surfaces.home.quotas.promoted",
        "surfaces.home.served.window_s",
        "surfaces.home.shelf",
        "surfaces.home.boosts[1].filter",
        "surfaces.home.boosts[1].weight",
        "surfaces.home.boosts[2].name",
        "surfaces.home.boosts[2].weight",
        "surfaces.home.pins",
        "surfaces.home.promotions",
        "surfaces.home.promotions[2]",
        "surfaces.other.pins",
        "surfaces.other.turns",
        "surfaces.other.min_score",
    }
    assert found["default.page_size"] == "it is 201; a whole number from 1 to 200"
    assert found["surfaces.home.boosts[1].weight"] == "it is 3; a number from -1 to 1"
    assert "position" in found["surfaces.home.filter"]
    assert found["surfaces.home.served.window_s"].startswith("it is missing; a whole number")
    assert found["colour"] == "there is no such field; default, surfaces"
    assert found["surfaces.home.promotions[2]"].endswith("either a filter or items, not both")


@pytest.mark.parametrize(
    "text", ["[default", "\xff", "x" * (1024 * 1024 + 1)], ids=["cut", "not UTF-8", "too large"]
)
def test_file_that_can_not_be_read_is_one_mistake(text: str) -> None:
    with pytest.raises(SurfaceFileError) as caught:
        read("s.toml", text.encode("latin-1"))
    assert len(caught.value.mistakes) == 1
    assert str(caught.value).startswith("s.toml: the file: ")


def test_surfaces_when_the_file_is_missing_say_so(tmp_path: Path) -> None:
    with pytest.raises(SurfaceFileError, match="No such file"):
        Surfaces(tmp_path / "none.toml")


def surfaces_of(path: Path, content: bytes) -> Surfaces:
    path.write_bytes(content)
    return Surfaces(path)


def test_rules_without_a_file_are_the_requests_own() -> None:
    surfaces = Surfaces()
    assert surfaces.rules_of(RecommendRequest()) == PLAIN
    assert surfaces.rules_of(RecommendRequest()).is_plain
    asked = RecommendRequest(
        page_size=7, filter="a=1", diversity=0.5, max_per_category=2, min_score=0.1, include_seen=True
    )
    expected = Rules(
        page_size=7, filter="a=1", diversity=0.5, max_per_category=2, min_score=0.1, include_seen=True
    )
    assert surfaces.rules_of(asked) == expected


def test_rules_when_the_request_says_something_too_let_it_win_and_join_filters_and_boosts(
    tmp_path: Path,
) -> None:
    content = b"""[default]
    page_size = 9
    diversity = 0.4
    [surfaces.home]
    filter = "tags:a"
    min_score = 1
    [[surfaces.home.boosts]]
    filter = "tags:b"
    weight = 0.5"""
    surfaces = surfaces_of(tmp_path / "s.toml", content)
    said = RecommendRequest(
        surface="home", filter="tags:c OR tags:d", diversity=0, boosts=[Boost(filter="tags:e", weight=-1)]
    )
    rules = surfaces.rules_of(said)
    assert rules.filter == "(tags:a) AND (tags:c OR tags:d)"
    assert (rules.page_size, rules.diversity, rules.min_score) == (9, 0.0, 1.0)
    assert rules.boosts == (Boosting("boost 1", "tags:b", 0.5), Boosting("request", "tags:e", -1.0))
    assert surfaces.rules_of(RecommendRequest(surface="nowhere")).diversity == 0.4
    kept = surfaces.rules_of(RecommendRequest(surface="home", page_size=3))
    assert surfaces.rules_of(RecommendRequest(surface="home", page_size=3)) is kept


async def test_look_when_the_content_changes_takes_it_over(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    surfaces = surfaces_of(path, SMALL)
    home = RecommendRequest(surface="home")
    before = surfaces.rules_of(home)
    assert not await surfaces.look()
    path.write_bytes(SMALL.replace(b"5", b"6"))
    assert await surfaces.look()
    assert (before.page_size, surfaces.rules_of(home).page_size) == (5, 6)
    assert before.version != surfaces.rules_of(home).version == surfaces.current.version


@pytest.mark.parametrize(
    "content", [b"[surfaces.home]\npage_size = 0", None, b"[surfaces.home]\nfilter = 'nobody = 1'"]
)
async def test_look_when_the_content_is_wrong_or_gone_goes_on_with_the_old(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "s.toml"
    surfaces = surfaces_of(path, SMALL)
    eligibility = EligibilityCache(catalogue_of(item(1, tags=["a"])))

    async def prepare(rules: Rules) -> None:
        await prepare_filters(eligibility, rules)

    surfaces.prepare = prepare
    before = surfaces.current
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert not await surfaces.look()
    assert surfaces.current is before
    path.write_bytes(SMALL + b"\n")
    assert await surfaces.look()


async def test_prepare_filters_when_done_leaves_nothing_for_the_request_to_compile() -> None:
    eligibility = EligibilityCache(catalogue_of(item(1, tags=["a"]), item(2)))
    rules = Rules(
        filter="tags:a",
        boosts=(Boosting("b", "title:x", 1),),
        promotions=(Promotion("p", 0.5, "NOT tags:b"),),
    )
    await prepare_filters(eligibility, rules)
    assert all(map(eligibility.bitmaps.has, (*rules.boost_filters, *rules.eligible_filters)))
    assert rules.promotion_filters == ("(tags:a) AND (NOT tags:b)",)
    with pytest.raises(CallerError, match="nobody"):
        await eligibility.prepare_bitmaps(["nobody=1"], 1.0)
