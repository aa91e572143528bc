"""The program `omni-msa`: runs a command, and turns a user's error into one line and an exit code.

0 all done, 1 a bug (traceback), 2 usage, 3 some or all clips failed, 4 no model, 5 training
stopped, 130 interrupted by Ctrl-C, 143 ended by SIGTERM in the same way.
"""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from omni_msa.environment import wait_passively
from omni_msa.errors import OmniMSAError
from omni_msa.foreign import printable_message


class _ClosedStream(io.TextIOBase):
    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "it is closed")


TERMINATED = 128 + signal.SIGTERM


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; a bug keeps its traceback."""
    wait_passively()

    def load() -> Callable[..., object]:
        from omni_msa.commands.app import app

        return app

    return run_program(load, "omni-msa", arguments)


def run_program(
    load: Callable[[], Callable[..., object]], name: str, arguments: Sequence[str] | None = None
) -> int:
    """Run one command line of a Typer program and return its exit code.

    Args:
        load: imports the program, when everything is ready for its errors.
    """
    # What was closed by whoever started the program: results that go nowhere are an error.
    sys.stdin = sys.stdin or open(os.devnull)
    sys.stdout = sys.stdout or _ClosedStream()
    sys.stderr = sys.stderr or open(os.devnull, "w")
    for stream in (sys.stdout, sys.stderr):
        # A file name may hold what the terminal's encoding cannot say: show it escaped.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with _termination_as_interrupt() as terminations:
        code = _run(load, name, arguments)
    return TERMINATED if terminations else code


def _run(
    load: Callable[[], Callable[..., object]], name: str, arguments: Sequence[str] | None
) -> int:
    """The command's exit code."""
    try:
        load()(args=None if arguments is None else list(arguments), prog_name=name)
    except OmniMSAError as error:
        print(printable_message(f"omni-msa: {error}"), file=sys.stderr)
        return error.exit_code
    except SystemExit as end:  # how Typer ends: 0, 2 for usage, 130 for Ctrl-C, or our own
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except KeyboardInterrupt:
        return 130
    return 0


@contextmanager
def _termination_as_interrupt() -> Iterator[list[int]]:
    """SIGTERM ends what runs as Ctrl-C does; the list holds the signals that came."""
    terminations: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        terminations.append(number)
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler):  # a shell that starts a program with & has Ctrl-C ignored
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)  # training finishes its step

    if threading.current_thread() is not threading.main_thread():  # signals are the main thread's
        yield terminations
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    show_unraisable = sys.unraisablehook

    def interrupt_again(unraisable: sys.UnraisableHookArgs) -> None:
        """In a destructor, where a signal may come as anywhere, exceptions are lost."""
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            return show_unraisable(unraisable)
        number = signal.SIGTERM if terminations else signal.SIGINT
        threading.Timer(0.05, os.kill, (os.getpid(), number)).start()

    sys.unraisablehook = interrupt_again
    try:
        yield terminations
    finally:
        sys.unraisablehook = show_unraisable
        signal.signal(signal.SIGTERM, before)


if __name__ == "__main__":
    sys.exit(main())
