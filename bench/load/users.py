"""Whom the calls are for."""

from __future__ import annotations

from pathlib import Path

from bench.load.limits import USERS_MAX

FORMAT = "user-{:07d}"  # of bench.generate's users


def read(text: str, form: str = FORMAT) -> list[str]:
    """The ids in a file, one a line, or of so many generated users. Raises ValueError."""
    if text.isdigit():
        count = int(text)
        if not 1 <= count <= USERS_MAX:
            raise ValueError(f"there are 1 to {USERS_MAX:,} users")
        return [form.format(number) for number in range(count)]
    try:
        users = [line.strip() for line in Path(text).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"the users' file {text} can't be read: {error}") from None
    if not 1 <= len(users) <= USERS_MAX:
        raise ValueError(f"the users' file {text} has {len(users):,} ids, it has to have 1 to {USERS_MAX:,}")
    return users
