"""The one family of errors a user can cause.

Each member is also the builtin a Python caller would expect to catch, carries the exit code the
command line ends with, and reads as one line: what was given, what is allowed, what to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

# What `error.code` of a record, and the attribute `code` of an error, can be.
ERROR_CODES = {
    "missing": "there is no such file",
    "denied": "the file may not be read by this user",
    "damaged": "the file is no media, is cut off, or nothing of it decodes",
    "unsupported": "a folder, a pipe or another thing that is no file, or a format that is refused",
    "too_large": "larger than any file that is read: pixels, frames, streams, channels, bytes",
    "timeout": "reading took longer than the time limit of a clip",
    "crashed": "the process that read the clip ended, as a damaged file can make it do",
    "no_words": "words alone were to be scored, and there are none",
    "nothing_to_score": "nothing is left: the clip is empty, or all that it has is hidden",
    "window": "the time window begins after the file has ended",
    "transcript": "the file with its words cannot be read",
    "memory": "memory did not suffice for this clip alone",
    "features": "a feature file cannot be used, or features stand where media are looked at",
    "model": "the model cannot be loaded, or gave no number",
    "options": "an option, or a combination of options, is not allowed",
    "manifest": "a manifest has bad rows",
    "results": "an output file cannot be used",
    "training": "training cannot go on",
    "bug": "an error that nobody foresaw; please report its message",
}


def first_line(error: BaseException) -> str:
    """What an error says, without what libraries add below; its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class OmniMSAError(Exception):
    """Base of every error that is shown as one line instead of a traceback."""

    exit_code = 3
    code = "bug"  # a key of ERROR_CODES

    def __init__(self, *message: object, code: str | None = None) -> None:
        super().__init__(*message)
        if code is not None:
            self.code = code


class MediaError(OmniMSAError, ValueError):
    """A clip could not be read: missing, damaged, encrypted, or nothing in it can be scored."""

    code = "damaged"


class DecodeTimeout(MediaError):
    """Reading a clip took longer than `MediaOptions.deadline_seconds`."""

    code = "timeout"


class DecodeCrash(MediaError):
    """The process that read a clip ended."""

    code = "crashed"


class DecodeMemory(MediaError):
    """Reading a clip took more memory than there is."""

    code = "memory"


class TranscriptError(OmniMSAError, ValueError):
    """A transcript file was named or found but could not be read."""

    code = "transcript"


class ManifestError(OmniMSAError, ValueError):
    """A manifest has bad rows; the message lists all of them."""

    exit_code = 2
    code = "manifest"


class ConfigError(OmniMSAError, ValueError):
    """An option, or a combination of options, is not allowed."""

    exit_code = 2
    code = "options"


class ResultsError(OmniMSAError, ValueError):
    """An output file cannot be used: unknown type, or rows from other settings in it."""

    exit_code = 2
    code = "results"


class ModelError(OmniMSAError, RuntimeError):
    """The base model or the checkpoint could not be loaded."""

    exit_code = 4
    code = "model"


class TrainingError(OmniMSAError, ArithmeticError):
    """Training cannot go on: no number came out, or memory does not even hold one clip."""

    exit_code = 5
    code = "training"


def code_of_class(name: str) -> str:
    """The code of a class of errors by its name; of one that is none of ours, that of a bug."""
    codes = {kind.__name__: kind.code for kind in _subclasses(OmniMSAError)}
    return codes.get(name, OmniMSAError.code)


def _subclasses(kind: type[OmniMSAError]) -> Iterator[type[OmniMSAError]]:
    """All of them, at any depth."""
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def check_choice(option: str, name: object, choices: Iterable[str]) -> None:
    """An option names one of its choices.

    Raises:
        ConfigError: it does not; the message lists them.
    """
    names = list(choices)
    if name not in names:
        raise ConfigError(f"{option} {name!r} is not known; choose one of: {', '.join(names)}")
