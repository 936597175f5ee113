"""`python -m tests.bench [NAME]`: run one measurement, or all, and print JSON (a line each)."""

from __future__ import annotations

import importlib
import json
import sys

NAMES = ("document", "change", "event_to_dns", "serversets")


def main() -> int:
    """Run what is named on the command line."""
    wanted = sys.argv[1:] or list(NAMES)
    if unknown := [name for name in wanted if name not in NAMES]:
        print(f"no measurement called {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for name in wanted:
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        print(json.dumps(importlib.import_module(f"tests.bench.{name}").measure()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
