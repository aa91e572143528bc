"""One training run: its epochs, their validation, and the checkpoint of the best one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

import torch

from omni_msa.errors import ManifestError, TrainingError
from omni_msa.media.feed import Feed
from omni_msa.model.memory import in_passes, peak_gib
from omni_msa.options import TrainOptions
from omni_msa.scoring.checkpoint import CheckpointInfo, read_info, save_checkpoint
from omni_msa.scoring.intervals import intervals_record
from omni_msa.training.data import LabelledInputs, TrainingData
from omni_msa.training.examples import ExampleBuilder
from omni_msa.training.model import TrainedModel, make_optimizer
from omni_msa.training.order import plan_epoch
from omni_msa.training.processes import Processes
from omni_msa.training.progress import Reporter, TrainProgress
from omni_msa.training.run_folder import RunFolder, gentle_interrupt
from omni_msa.training.state import Position, pack_state, restore_state
from omni_msa.training.step import StepFigures, Stepper
from omni_msa.training.validation import Miss, clip_misses, residuals_of, validation_metrics

RECENT = 50  # steps that the shown loss is averaged over


class Run:
    """One run in one folder, where its state left off or at the beginning.

    Args:
        model: what is trained, with the weights that the run begins with.
        options: how it is trained.
        data: what it is trained and validated on.
        folder: the run's folder, open; its state, if it has one, is restored here.
        info: what the checkpoint will say of itself, but for what training finds out.
        processes: that share the work.
        progress: gets every step, every epoch and every notice.
    """

    def __init__(
        self,
        model: TrainedModel,
        options: TrainOptions,
        data: TrainingData,
        folder: RunFolder,
        info: CheckpointInfo,
        processes: Processes,
        progress: Callable[[TrainProgress], None] = lambda _: None,
    ) -> None:
        self.model = model
        self.options = options
        self.data = data
        self.folder = folder
        self.info = info
        self.processes = processes
        self.optimizer = make_optimizer(model, options)
        self.position = Position(micro=options.batch_size)
        if folder.state is not None:
            self.position = restore_state(folder.state, model.weights(), self.optimizer)
        steps_an_epoch = math.ceil(len(data.train.clips) / options.clips_a_step)
        self.reporter = Reporter(
            progress, self.position, options.epochs * steps_an_epoch, options.clips_a_step
        )
        self.examples = ExampleBuilder(model, self.reporter.notice)
        self.train_feed = model.feed(data.train, self.reporter.notice)
        self.valid_feed = model.feed(data.valid, self.reporter.notice)
        self.stepper = Stepper(
            model, self.optimizer, options, processes, self.position, self.reporter
        )

    def train(self) -> CheckpointInfo:
        """Trains to the end, and returns what the best epoch's `omni_msa.json` says.

        Raises:
            TrainingError: the loss is no number, or memory does not hold one clip.
            ManifestError: too many clips cannot be used.
        """
        self._begin()
        self.processes.wait()
        position, options = self.position, self.options
        while position.epoch <= options.epochs and position.waited < options.patience:
            try:
                self._train_epoch()
                start_time = time.perf_counter()
                misses = self.validate(self.valid_feed)
                position.seconds += time.perf_counter() - start_time
                self._end_epoch(misses)
            except TrainingError as error:
                raise self._stop(error) from error
        self.folder.finish()
        self.processes.wait()
        return read_info(self.folder.folder)

    @torch.inference_mode()
    def validate(self, feed: Feed) -> list[Miss]:
        """How far the scores of whole clips are off, and those of their subsets, for intervals."""
        model, position = self.model, self.position
        packed = not self.data.label_space.names  # which have no intervals
        model.set_training(False)
        model.method.figures()  # of these clips alone
        share = self.processes.share(list(range(len(feed.clips))))
        position.unseen = {}
        misses: list[Miss] = []
        batch: list[LabelledInputs] = []
        for n, (i, content) in enumerate(zip(share, feed.read(share), strict=True), start=1):
            item = self.examples.build(feed.clips[i], content, position.unseen, packed)
            batch += [item] if item else []
            if len(batch) >= position.micro or n == len(share):
                passes = in_passes(
                    lambda part: clip_misses(model.thinker, model.method, part),
                    batch,
                    position.micro,
                )
                misses += [miss for part in passes for miss in part]
                batch = []
        position.unseen = self.processes.merge(position.unseen)
        return self.processes.gather(misses)

    # --- epochs --------------------------------------------------------------------------------

    def _begin(self) -> None:
        """The first line of the log and the first state, or a notice that the run goes on.

        Of a method that scores untrained, no training at all counts as an epoch, number 0.
        """
        position = self.position
        if self.folder.state is None:
            self.folder.log("start", lora=self.info.lora, **asdict(self.options))
            self._save_state()  # from here on the folder is unfinished
        else:
            self.reporter.notice(
                f"going on after step {position.step} of {self.reporter.total_steps}"
            )
        if self.model.method.is_zero_shot and not position.step and math.isinf(position.best):
            self._judge(self.validate(self.valid_feed), epoch=0)
            self._save_state()

    def _train_epoch(self) -> None:
        """The rest of the epoch that the position is in."""
        position, options, clips = self.position, self.options, self.train_feed.clips
        steps = plan_epoch(self.train_feed.sizes(), position.epoch, options)
        shares = [self.processes.share(places) for places in steps[position.place :]]
        if not position.place:
            position.left_out = {}
            position.loss_sum, position.num_clips, position.seconds = 0.0, 0, 0.0
        contents = self.train_feed.read([i for share in shares for i in share])
        self.model.set_training(True)
        packed = options.subsets == "packed"
        start_time, num_clips, seconds_before = time.perf_counter(), 0, position.seconds
        losses: list[float] = []
        with gentle_interrupt(self.processes.count) as is_interrupted:
            for share in shares:
                batch = [
                    self.examples.build(clips[i], next(contents), position.left_out, packed)
                    for i in share
                ]
                figures = self.stepper.take([item for item in batch if item is not None])
                position.step, position.place = position.step + 1, position.place + 1
                num_clips += figures.clips
                position.loss_sum += figures.loss * figures.clips
                position.num_clips += figures.clips
                losses = [*losses, figures.loss][-RECENT:]
                elapsed_seconds = time.perf_counter() - start_time
                position.seconds = seconds_before + elapsed_seconds
                rate = num_clips / elapsed_seconds
                self.reporter.step(sum(losses) / len(losses), rate)
                self._log_step(figures, rate)
                stop = is_interrupted()
                due = position.step % options.save_every == 0 and position.place < len(steps)
                if stop or due:
                    position.left_out = self.processes.merge(position.left_out)
                    self._save_state()
                if stop:
                    raise KeyboardInterrupt
        self._check_left_out()
        self._save_state()  # whatever happens in validation

    def _log_step(self, figures: StepFigures, rate: float) -> None:
        """A step's line in the log."""
        self.folder.log(
            "step",
            epoch=self.position.epoch,
            step=self.position.step,
            clips=figures.clips,
            loss=round(figures.loss, 6),
            grad_norm=round(figures.gradient_norm, 6),
            learning_rate=self.optimizer.param_groups[0]["lr"],
            clips_per_second=round(rate, 3),
            memory_gib=round(peak_gib(), 3),
        )

    def _check_left_out(self) -> None:
        """What all processes have left out; more than half of the clips is too much."""
        position, num_clips = self.position, len(self.train_feed.clips)
        position.left_out = self.processes.merge(position.left_out)
        if len(position.left_out) > num_clips / 2:
            raise ManifestError(
                f"{len(position.left_out)} of {num_clips} training clips cannot be used, such as: "
                f"{next(iter(position.left_out.values()))}"
            )

    def _end_epoch(self, misses: Sequence[Miss]) -> None:
        """Judges the epoch, and moves on."""
        position = self.position
        position.waited += 1
        self._judge(misses, position.epoch)
        position.epoch, position.place = position.epoch + 1, 0
        self._save_state()

    def _judge(self, misses: Sequence[Miss], epoch: int) -> None:
        """Reports how an epoch was validated, and keeps its weights if they are the best so far."""
        position = self.position
        metrics = validation_metrics(misses, self.model.method)
        self.reporter.epoch(metrics)
        left_out = position.left_out | position.unseen
        self._log_epoch(metrics, left_out, epoch)
        error = next(iter(metrics.values()))
        if error < position.best:
            position.best, position.waited = error, 0
            training = self.info.training | {"left_out": sorted(left_out), "best_epoch": epoch}
            intervals = {}
            if not self.data.label_space.names:
                intervals = intervals_record(residuals_of(misses))
            info = replace(self.info, metrics=metrics, training=training, intervals=intervals)
            self._save_checkpoint(info)

    def _log_epoch(self, metrics: dict[str, float], left_out: dict[str, str], epoch: int) -> None:
        """An epoch's line in the log: the mean loss of its steps, and its validation."""
        position = self.position
        lora, *own = (group["lr"] for group in self.optimizer.param_groups)
        self.folder.log(
            "epoch",
            epoch=epoch,
            step=position.step,
            training_loss=round(position.loss_sum / max(position.num_clips, 1), 6),
            lora_learning_rate=lora,
            head_learning_rate=own[0] if own else None,
            seconds=round(position.seconds, 3),
            left_out=left_out,
            **metrics,
            **self.model.method.figures(),
        )

    # --- the folder ----------------------------------------------------------------------------

    def _save_state(self) -> None:
        self.folder.save_state(pack_state(self.position, self.model.weights(), self.optimizer))

    def _save_checkpoint(self, info: CheckpointInfo) -> bool:
        """Writes the checkpoint; False when these weights give no numbers."""
        check = self.model.self_check()
        good = all(map(math.isfinite, check["scores"].values()))
        if good and self.processes.leads:
            save_checkpoint(
                self.folder.folder,
                self.model.thinker,
                self.model.method,
                replace(info, self_check=check),
            )
        return good

    def _stop(self, error: TrainingError) -> TrainingError:
        """The error with where the last good weights are; they are saved if none were yet."""
        position = self.position
        self.folder.log("stopped", step=position.step, why=str(error))
        if math.isfinite(position.best):
            rest = f"holds the best epoch so far (validation error {position.best:.4f})"
        elif self._save_checkpoint(replace(self.info, metrics={})):
            rest = f"holds the weights of step {position.step}, which were never validated"
        else:
            return TrainingError(f"{error}; there were no good weights to keep")
        self.folder.finish()
        return TrainingError(f"{error}; {self.folder.folder} {rest}")
