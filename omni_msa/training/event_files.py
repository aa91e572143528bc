"""A run's figures as TensorBoard reads them: what the log says, in event files beside it.

The files follow from the log: a run that goes on writes them anew from what its log still holds, so
that no step is in them twice. The package `tensorboard` is an extra, imported where it is used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from omni_msa.errors import ConfigError

PATTERN = "events.out.tfevents.*"
KINDS = ("step", "epoch")  # of events that have figures, drawn over the number of the same name
NOT_FIGURES = ("event", "epoch", "step")


def require_tensorboard() -> None:
    """What can be said before anything is loaded.

    Raises:
        ConfigError: the package is not installed.
    """
    if find_spec("tensorboard") is None:
        raise ConfigError(
            '--tensorboard needs tensorboard; pip install "omni-msa[tensorboard]" installs it'
        )


def remove_event_files(folder: Path) -> None:
    """Those of a run that is started anew."""
    for path in folder.glob(PATTERN):
        path.unlink(missing_ok=True)


class EventFiles:
    """The event files of one run, made anew from its log, then added to.

    Args:
        folder: of the run.
        log: of the run, as far as it is to be kept.

    Raises:
        ConfigError: the package is not installed.
    """

    def __init__(self, folder: Path, log: Path) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        remove_event_files(folder)
        self._writer = SummaryWriter(str(folder))
        if log.exists():
            for line in log.read_text(encoding="utf-8").splitlines():
                self.add(json.loads(line))

    def add(self, event: Mapping[str, Any]) -> None:
        """The figures of one line of the log: `step/loss` over steps, `epoch/mae` over epochs."""
        kind = event["event"]
        if kind not in KINDS:
            return
        for name, value in event.items():
            if name not in NOT_FIGURES and isinstance(value, int | float):
                self._writer.add_scalar(f"{kind}/{name}", value, event[kind])
        if kind == "epoch":
            self._writer.flush()

    def close(self) -> None:
        """Everything is on the disk."""
        self._writer.close()
