"""The program: ``python -m vreid_cli``, and the console script ``vreid``."""

from __future__ import annotations

import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType


def main() -> None:
    """Run the command line. What it needs is imported here, so that Ctrl-C is met with words from the beginning."""
    # Modules are never garbage, and looking for some among them is a quarter of what importing torch takes. A command
    # that has its modules turns this on again (cli/command.py).
    gc.disable()
    interrupted = False
    try:
        import signal

        def interrupt(number: int, frame: FrameType | None) -> None:
            nonlocal interrupted
            interrupted = True
            signal.default_int_handler(number, frame)

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, interrupt)
        from vreid_cli.cli.app import run

        code = run(sys.argv[1:])
    except BaseException as error:
        # Compiled code that Ctrl-C meets may make another exception of it, as pydantic does.
        if not (interrupted or isinstance(error, KeyboardInterrupt)):
            raise
        from vreid_cli.cli.output import say_interrupted

        code = say_interrupted(as_json="--json" in sys.argv)
    sys.exit(code)


def program() -> None:
    """Run the command line as a process of its own, which ends without taking apart what Python has in memory.

    After a command that needs torch that would take a tenth of a second. Threads, and what ``atexit`` was given, come
    to their end before.
    """
    import atexit

    code: object = None

    def leave() -> None:
        try:
            for stream in filter(None, (sys.stdout, sys.stderr)):
                stream.flush()
        except (OSError, ValueError):
            return  # the end that Python makes of it says what is wrong
        if isinstance(code, int):
            os._exit(code)

    atexit.register(leave)  # what is registered first is called last
    try:
        main()
    except SystemExit as end:
        code = end.code
        raise


if __name__ == "__main__":
    program()
