"""Becomes another program: `python launch.py PARENT SIGNAL UID GID COMMAND...`.

What must happen between fork and exec (change the account, then ask to end with the parent) happens here, in an interpreter
of its own: in the forked copy of a process with threads, gRPC's above all, no Python may run. UID -1 keeps the account.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1  # prctl(2); Linux only, elsewhere nothing is asked
EXIT_ORPHAN = 1


def main(parent: int, number: int, uid: int, gid: int, command: list[str]) -> None:
    """Does not return."""
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)  # after the change of account, which would clear it
    if os.getppid() != parent:
        raise SystemExit(EXIT_ORPHAN)  # it ended before we asked: no signal would ever come
    os.execv(command[0], command)  # noqa: S606 -- a command of ours, not of a caller


if __name__ == "__main__":
    given_parent, given_number, given_uid, given_gid = map(int, sys.argv[1:5])
    main(given_parent, given_number, given_uid, given_gid, sys.argv[5:])
