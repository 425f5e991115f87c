"""The program: ``python -m vreid_cli``, and the console script ``vreid``."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line. What it needs is imported here, so that Ctrl-C is met with words from the beginning."""
    # Modules are never garbage, and looking for some among them is a quarter of what importing torch takes. A command
    # that has its modules turns this on again (cli/command.py).
    gc.disable()
    try:
        from vreid_cli.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:
        from vreid_cli.cli.output import say_interrupted

        code = say_interrupted(as_json="--json" in sys.argv)
    gc.freeze()  # the same when Python ends: all memory goes with the process
    sys.exit(code)


if __name__ == "__main__":
    main()
