"""`reco surfaces`: the rules of surfaces, checked before they count, and shown as they are."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.output import Json, console, print_json
from runtime.lifecycle import EXIT_ERROR
from runtime.settings import SettingsError, load_settings
from serving.rules import PLAIN, Rules
from serving.surface_file import SurfaceFile, SurfaceFileError, read_file

app = typer.Typer(help="Check and show the rules of surfaces (docs/surfaces.md).", no_args_is_help=True)


@app.command()
def check(
    file: Annotated[
        Path | None, typer.Argument(help="The surface file; without it RECO_SURFACES_FILE.")
    ] = None,
    json: Json = False,
) -> None:
    """Check a surface file, and name every mistake in it. Ends with 1 if there is any.

    --json: {"version", "surfaces": ["..."], "mistakes": [{"place", "wrong", "allowed"}]}
    """
    path = file or _path()
    try:
        found = read_file(path)
    except SurfaceFileError as error:
        if json:
            print_json({"version": "", "surfaces": [], "mistakes": [asdict(each) for each in error.mistakes]})
        else:
            console.print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(EXIT_ERROR) from None
    if json:
        print_json({"version": found.version, "surfaces": list(found.surfaces), "mistakes": []})
        return
    console.print(
        f"{path}: version {found.version}, {len(found.surfaces)} surfaces, no mistakes", soft_wrap=True
    )


@app.command()
def show(
    surface: Annotated[str, typer.Argument(help="One of them; without it all.")] = "",
    json: Json = False,
) -> None:
    """Show the rules of surfaces, with what they have of the default's. Of RECO_SURFACES_FILE.

    --json: {"version", "surfaces": {"NAME": {"page_size", "filter", "diversity", "pins", ..}}}
    """
    found = read_file(_path())
    if surface and surface not in found.surfaces:
        raise SettingsError(f"there is no surface {surface!r}: the default's rules apply to it")
    chosen = {name: rules for name, rules in _named(found).items() if not surface or name == surface}
    if json:
        surfaces = {name: _as_dict(rules) for name, rules in chosen.items()}
        print_json({"version": found.version, "surfaces": surfaces})
        return
    for name, rules in chosen.items():
        console.print(name, style="bold green", markup=False)
        for line in _lines(rules):
            console.print(f"  {line}", markup=False, soft_wrap=True)
    console.print(f"version {found.version}")


def _path() -> Path:
    path = load_settings().surfaces_file
    if path is None:
        raise SettingsError("RECO_SURFACES_FILE is not set, and no file was named")
    return path


def _named(file: SurfaceFile) -> dict[str, Rules]:
    return {"default": file.default, **file.surfaces}


def _as_dict(rules: Rules) -> dict[str, Any]:
    return {name: value for name, value in asdict(rules).items() if name not in ("surface", "version")}


def _lines(rules: Rules) -> list[str]:
    """What is not as it is without any rule."""
    plain = _as_dict(PLAIN)
    said = {name: value for name, value in _as_dict(rules).items() if value != plain[name]}
    lines = []
    for name, value in said.items():
        parts = value if isinstance(value, tuple) and name != "turns" else [value]
        lines += [f"{name}: {_words(each)}" for each in parts]
    return lines or ["as without a surface file"]


def _words(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(
            f"{name} {_words(each)}" for name, each in value.items() if each not in (None, "", ())
        )
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
