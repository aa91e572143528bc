"""What a training run leaves behind while it runs: its log, and the state that it can go on from.

`train_log.jsonl` gets a line a step; `training_state.pt` is replaced now and then and removed at
the end. A run that was killed at any moment goes on from the last state as if nothing had happened:
what the log says beyond it is taken back.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from omni_msa.errors import ConfigError, ModelError, OmniMSAError
from omni_msa.files.atomic import replacing
from omni_msa.files.locks import OutputLock
from omni_msa.scoring.checkpoint import STATE
from omni_msa.training.event_files import EventFiles, remove_event_files

LOG = "train_log.jsonl"
CHECKPOINT = "omni_msa.json"
# What reading a state raises where it is damaged, or holds more than tensors and plain values.
UNREADABLE = (
    OSError, RuntimeError, ValueError, EOFError, UnpicklingError, KeyError, TypeError, IndexError,
    AttributeError,
)  # fmt: skip


class RunFolder:
    """The output folder of one run; a context manager that keeps other runs out.

    Args:
        fresh: start anew, whatever it holds.
        writes: only one process of a run writes.
        clears: starting anew removes a finished checkpoint at once, not when another is saved.
        tensorboard: the log's figures are also written to event files.

    Raises:
        ConfigError: it holds a finished checkpoint, or a run with other settings.
        ResultsError: another run is writing to it.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        fresh: bool,
        writes: bool = True,
        clears: bool = True,
        tensorboard: bool = False,
    ) -> None:
        self.folder = folder
        self.fingerprint = fingerprint
        self.writes = writes
        self.state: dict[str, Any] | None = None
        self._lock: OutputLock | None = None
        self._events: EventFiles | None = None
        if writes:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(
                    f"-o {folder}: the folder cannot be made ({error.strerror}); give another"
                ) from error
            self._lock = OutputLock(folder / LOG)
        try:
            if not fresh:
                self._resume()
            elif clears:
                self._clear()
            if tensorboard and writes:
                self._events = EventFiles(folder, folder / LOG)
        except OmniMSAError:
            self.__exit__()
            raise

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._events is not None:
            self._events.close()
        if self._lock is not None:
            self._lock.release()

    def log(self, event: str, **values: Any) -> None:
        """One line of the log, flushed."""
        if self.writes:
            row = {"event": event, **values}
            with (self.folder / LOG).open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            if self._events is not None:
                self._events.add(row)

    def save_state(self, state: dict[str, Any]) -> None:
        """Replaces the state that a rerun goes on from."""
        if not self.writes:
            return
        log = self.folder / LOG
        whole = {
            **state,
            "fingerprint": self.fingerprint,
            "log_bytes": log.stat().st_size if log.exists() else 0,
        }
        with replacing(self.folder / STATE, ".partial") as temporary:
            torch.save(whole, temporary)

    def finish(self) -> None:
        """The run is complete: its state is no longer needed."""
        if self.writes:
            (self.folder / STATE).unlink(missing_ok=True)

    def _clear(self) -> None:
        if self.writes:
            for name in (CHECKPOINT, STATE, LOG):
                (self.folder / name).unlink(missing_ok=True)
            remove_event_files(self.folder)

    def _resume(self) -> None:
        path = self.folder / STATE
        if not path.exists():
            if (self.folder / CHECKPOINT).exists():
                raise ConfigError(
                    f"{self.folder}: holds a finished checkpoint; give another -o (or, to make "
                    "it anew, --fresh)"
                )
            self._cut_log(0)
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            fingerprint, log_bytes = state["fingerprint"], int(state["log_bytes"])
        except UNREADABLE as error:
            raise ModelError(
                f"{path}: is damaged, the run cannot go on from it; --fresh starts anew"
            ) from error
        if fingerprint != self.fingerprint:
            raise ConfigError(
                f"{self.folder}: holds an unfinished run with other settings or data; repeat its "
                "command to go on, or give --fresh to start anew"
            )
        self.state = state
        self._cut_log(max(log_bytes, 0))

    def _cut_log(self, length: int) -> None:
        """Takes back what was logged after the state was saved."""
        path = self.folder / LOG
        if self.writes and path.exists():
            os.truncate(path, min(length, path.stat().st_size))


@contextmanager
def gentle_interrupt(num_processes: int = 1) -> Iterator[Callable[[], bool]]:
    """Ctrl-C is only noted, so that the step in hand is finished; a second one ends at once.

    Several processes would not end at the same step: for them it stays as it is.
    """
    signals: list[int] = []

    def note(number: int, _: Any) -> None:
        if signals:
            raise KeyboardInterrupt
        signals.append(number)

    main = threading.current_thread() is threading.main_thread()
    if num_processes > 1 or not main:
        yield lambda: False
        return
    handler = signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(signals)
    finally:
        signal.signal(signal.SIGINT, handler)
