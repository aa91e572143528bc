"""The one family of errors a user can cause.

Each member is also the builtin a Python caller would expect to catch, carries the exit code the
command line ends with, and reads as one line: what was given, what is allowed, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable


def first_line(error: BaseException) -> str:
    """What an error says, without what libraries add below; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class OmniMSAError(Exception):
    """Base of every error that is shown as one line instead of a traceback."""

    exit_code = 3


class MediaError(OmniMSAError, ValueError):
    """A clip could not be read: missing, damaged, encrypted, or nothing in it can be scored."""


class TranscriptError(OmniMSAError, ValueError):
    """A transcript file was named or found but could not be read."""


class ManifestError(OmniMSAError, ValueError):
    """A manifest has bad rows; the message lists all of them."""

    exit_code = 2


class ConfigError(OmniMSAError, ValueError):
    """An option, or a combination of options, is not allowed."""

    exit_code = 2


class ResultsError(OmniMSAError, ValueError):
    """An output file cannot be used: unknown type, or rows from other settings in it."""

    exit_code = 2


class ModelError(OmniMSAError, RuntimeError):
    """The base model or the checkpoint could not be loaded."""

    exit_code = 4


class TrainingError(OmniMSAError, ArithmeticError):
    """Training cannot go on: no number came out, or memory does not even hold one clip."""

    exit_code = 5


def check_choice(option: str, name: object, choices: Iterable[str]) -> None:
    """An option names one of its choices.

    Raises:
        ConfigError: it does not; the message lists them.
    """
    names = list(choices)
    if name not in names:
        raise ConfigError(f"{option} {name!r} is not known; choose one of: {', '.join(names)}")
