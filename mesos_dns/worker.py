"""The program of one DNS worker: `python -I -S worker.py TABLE DESK NUMBER SOCKET WRITER WILDCARD PID`.

It is started by `workers.py` with these numbers of inherited files. It gives up all its privileges, says
to its writer that it is ready, and answers until it is told to end. Nothing of Pharos but the native
extension is loaded.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

READY, FAULT = b"R", b"E"
"""What it says first: that it reads its socket now, or why it can't, as text."""


def main(arguments: list[str]) -> int:
    """The exit code: 0, the errno that ended the loop, or 1 for what its channel tells."""
    table, desk, number, socket, writer, wildcard, parent = map(int, arguments)
    try:
        sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
        from mesos_dns._native import confine, work

        confine(parent)
        return work(table, desk, number, socket, writer, bool(wildcard), READY)
    except (ImportError, OSError, ValueError) as error:
        os.write(writer, FAULT + str(error).encode(errors="replace")[:500])
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
