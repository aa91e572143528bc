"""What a run reports while it goes on: a callback gets a `TrainProgress` each time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from omni_msa.model.memory import peak_gib
from omni_msa.training.state import Position


@dataclass(frozen=True)
class TrainProgress:
    """One optimizer step's figures, or an epoch's validation, or something to know."""

    epoch: int
    step: int
    total_steps: int
    loss: float
    clips_per_second: float = 0.0
    seconds_left: float = 0.0
    memory_gib: float = 0.0
    metrics: dict[str, float] | None = None  # at the end of an epoch
    notice: str | None = None


class Reporter:
    """Fills in where the run is and calls the callback.

    Args:
        callback: gets every report.
        position: of the run; it is read at each report.
        total_steps: optimizer steps of the whole run.
        clips_a_step: clips that one optimizer step takes.
    """

    def __init__(
        self,
        callback: Callable[[TrainProgress], None],
        position: Position,
        total_steps: int,
        clips_a_step: int,
    ) -> None:
        self.callback = callback
        self.position = position
        self.total_steps = total_steps
        self.clips_a_step = clips_a_step

    def step(self, loss: float, rate: float) -> None:
        """An optimizer step: the recent mean loss, and clips a second."""
        self._report(loss, rate=rate)

    def epoch(self, metrics: dict[str, float]) -> None:
        """The validation of an epoch; the first metric stands for the loss."""
        self._report(next(iter(metrics.values())), metrics=metrics)

    def notice(self, text: str) -> None:
        """A line to know."""
        self._report(0.0, notice=text)

    def _report(
        self,
        loss: float,
        rate: float = 0.0,
        metrics: dict[str, float] | None = None,
        notice: str | None = None,
    ) -> None:
        clips_left = (self.total_steps - self.position.step) * self.clips_a_step
        self.callback(
            TrainProgress(
                epoch=self.position.epoch,
                step=self.position.step,
                total_steps=self.total_steps,
                loss=loss,
                clips_per_second=rate,
                seconds_left=clips_left / rate if rate else 0.0,
                memory_gib=peak_gib(),
                metrics=metrics,
                notice=notice,
            )
        )
