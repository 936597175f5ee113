"""`python -m tests.bench [NAME] [OPTIONS]`: run one measurement, or all, and print JSON (a line each).

Options follow the one name of a measurement that has any (`dns --help`).
"""

from __future__ import annotations

import importlib
import json
import signal
import sys

NAMES = (
    "document",
    "change",
    "event_to_dns",
    "event_to_traffic",
    "serversets",
    "dns",
    "resolver",
    "ipvs",
    "proxy",
    "http",
    "autoscale",
)


def main() -> int:
    """Run what is named on the command line."""
    words = sys.argv[1:]
    given = next((place for place, word in enumerate(words) if word.startswith("-")), len(words))
    wanted, options = words[:given] or list(NAMES), words[given:]
    if unknown := [name for name in wanted if name not in NAMES]:
        print(f"no measurement called {', '.join(unknown)}; there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended on the way out
    modules = {name: importlib.import_module(f"tests.bench.{name}") for name in wanted}
    if options and (len(wanted) > 1 or not hasattr(modules[wanted[0]], "options")):
        print("options follow one measurement that has any", file=sys.stderr)
        return 2
    for name, module in modules.items():
        arguments = module.options(options) if options else {}
        print(f"measuring {name} …", file=sys.stderr, flush=True)
        print(json.dumps(module.measure(**arguments)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
