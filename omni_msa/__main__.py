"""The program `omni-msa`: runs a command, and turns a user's error into one line and an exit code.

0 all done, 1 a bug (traceback), 2 usage, 3 some or all clips failed, 4 no model, 5 training
stopped, 130 interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from omni_msa.errors import OmniMSAError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; a bug keeps its traceback."""
    for stream in (sys.stdout, sys.stderr):
        # A file name may hold what the terminal's encoding cannot say: show it escaped.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        from omni_msa.commands.app import app

        app(args=None if arguments is None else list(arguments), prog_name="omni-msa")
    except OmniMSAError as error:
        print(f"omni-msa: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as end:  # how Typer ends: 0, 2 for usage, 130 for Ctrl-C, or our own
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
