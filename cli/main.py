"""`reco`: the command line. Each command is a file beside this one."""

from __future__ import annotations

import sys

import grpc
import psycopg
import typer

from cli import (
    dead_letters,
    dump,
    evaluate,
    events,
    explain,
    items,
    lake,
    load,
    models,
    profile,
    rebuild,
    recommend,
    surfaces,
    train,
    up,
)
from cli.output import told
from runtime.errors import RecoError
from runtime.lifecycle import EXIT_ERROR, EXIT_USAGE
from runtime.settings import SettingsError
from runtime.version import __version__
from training.dataset import DatasetError

app = typer.Typer(
    name="reco",
    help="A recommender that answers in about a millisecond and counts an event in the next request. Start with: reco up",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("up")(up.up)
app.command("load")(load.load)
app.command("dump")(dump.dump)
app.command("restore")(dump.restore)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("recommend")(recommend.recommend)
app.command("explain")(explain.explain)
app.command("profile")(profile.profile)
app.add_typer(events.app, name="events")
app.add_typer(items.app, name="items")
app.add_typer(models.app, name="models")
app.add_typer(surfaces.app, name="surfaces")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(lake.app, name="lake")
app.add_typer(rebuild.app, name="rebuild")


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def main() -> None:
    """Runs the command; whatever is foreseen ends in a few words on standard error and an exit code, never a traceback."""
    try:
        app(prog_name="reco")
    except SettingsError as error:
        _end(f"wrong settings\n{error}", EXIT_USAGE)
    except (RecoError, DatasetError) as error:
        _end(str(error), EXIT_ERROR)
    except grpc.RpcError as error:
        _end(told(error), EXIT_ERROR)
    except psycopg.OperationalError as error:
        _end(f"PostgreSQL does not answer: {str(error).splitlines()[0]}", EXIT_ERROR)
    except OSError as error:
        _end(f"{error.filename or 'the system'}: {error.strerror or error}", EXIT_ERROR)
    except KeyboardInterrupt:
        _end("stopped", 128 + 2)


def _end(message: str, code: int) -> None:
    print(f"reco: {message}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
