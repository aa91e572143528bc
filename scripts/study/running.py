"""Runs of a study: made once, scored once, kept in its folder, every attempt written down.

A run's folder is named by a hash of all that it is made with. `runs.jsonl` gets a line when an
attempt begins and one when it ends, also when it fails.
"""

from __future__ import annotations

import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from omni_msa.commands.clips import load_scorer, score_clips
from omni_msa.commands.flags import ShowFlags
from omni_msa.commands.labelled import CachedBatchFlags, ReadFlags, file_feed
from omni_msa.display.progress import count_progress, train_progress
from omni_msa.errors import first_line
from omni_msa.files.columns import one_line
from omni_msa.files.record import Record
from omni_msa.files.result_formats import read_records
from omni_msa.media.feed import Feed
from omni_msa.methods import TrainedBy, method_named, parse_options
from omni_msa.options import AblationOptions, FitOptions
from omni_msa.scoring.scorer import Scorer
from omni_msa.training.data import TrainingData
from omni_msa.values import Clip
from scripts.study.arms import Run
from scripts.study.making import fit_once, is_made, train_once
from scripts.study.plan import Study

LOG = "runs.jsonl"


@dataclass(frozen=True)
class Workshop:
    """Where the runs of a study are made, and how clips are read meanwhile."""

    study: Study
    folder: Path
    read: ReadFlags
    show: ShowFlags
    tensorboard: bool = False

    def run_folder(self, run: Run) -> Path:
        return self.folder / "runs" / run.name

    def rows(self, run: Run) -> Path:
        """The file with a run's scored test clips."""
        return self.folder / "scores" / f"{run.name}.jsonl"

    def make_all(self, runs: Sequence[Run]) -> dict[str, str]:
        """Makes every run that is not made; what failed, by the run's name."""
        return self._all("make", runs, self.make, self._is_made)

    def score_all(self, runs: Sequence[Run]) -> dict[str, str]:
        """Scores the test clips with every run that has not; what failed, by the run's name."""
        return self._all("score", runs, self.score, self._is_scored)

    def make(self, run: Run) -> None:
        """Trains or fits a run."""
        study, folder = self.study, self.run_folder(run)
        train = self._feed(study.clips["train"], run)
        if run.way is TrainedBy.FIT:
            options = FitOptions(run.readout, run.options.method_options)
            with count_progress("reading", len(train.clips), self.show.quiet) as progress:
                fit_once(folder, study.model, study.media, train, study.label_space, run.hide,
                         progress=progress, options=options)  # fmt: skip
            return
        valid = self._feed(study.clips["valid"], run)
        data = TrainingData(train, valid, study.label_space, run.hide)
        with train_progress(self.show.quiet) as progress:
            train_once(folder, study.model, run.options, study.media, data, progress=progress,
                       tensorboard=self.tensorboard)  # fmt: skip

    def score(self, run: Run) -> None:
        """Scores the test clips with all that the run is shown; where an arm needs it, in the same
        pass with every part of that."""
        self.rows(run).parent.mkdir(exist_ok=True)
        arms = [arm for arm in self.study.arms if run.name in [r.name for r in arm.runs]]
        ablation = AblationOptions(enabled=any(arm.shown != run.shown for arm in arms))
        read = {name: getattr(self.read, name) for name in ("cache", "cache_gb", "workers")}
        batch = CachedBatchFlags(output=self.rows(run), **read)
        scorer = self._scorer(run)
        score_clips(scorer, self.study.clips["test"], ablation, run.hide, batch, self.show)

    def records(self, run: Run) -> list[Record | None]:
        """A record each test clip, in their order."""
        records = {one_line(record.clip): record for record in read_records(self.rows(run))}
        return [records.get(one_line(clip.name)) for clip in self.study.clips["test"]]

    def num_attempts(self) -> Counter[str]:
        """How often each run was begun to be made or, where nothing is made, scored."""
        path = self.folder / LOG
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        events = [json.loads(line) for line in lines]
        counts = Counter((e["run"], e["step"]) for e in events if e["event"] == "begin")
        numbers: Counter[str] = Counter()
        for (name, _), count in counts.items():
            numbers[name] = max(numbers[name], count)
        return numbers

    def _all(
        self,
        step: str,
        runs: Sequence[Run],
        work: Callable[[Run], None],
        is_ended: Callable[[Run], bool],
    ) -> dict[str, str]:
        failures = {}
        for number, run in enumerate(runs, start=1):
            if is_ended(run):
                continue
            self.show.note(f"{step} {number} of {len(runs)}: {run.name}")
            try:
                with self._attempt(run, step):
                    work(run)
            except Exception as error:  # one failed arm does not stop the others
                failures[run.name] = f"{step}: {first_line(error)}"
                self.show.note(f"{run.name} failed: {first_line(error)}")
        return failures

    @contextmanager
    def _attempt(self, run: Run, step: str) -> Iterator[None]:
        """The lines of an attempt in the log."""
        start_time, facts = time.perf_counter(), {"run": run.name, "step": step}
        self._log(facts | {"event": "begin"})
        try:
            yield
        except BaseException as error:
            name, trace = type(error).__name__, traceback.format_exc()
            end = {"outcome": "failed" if isinstance(error, Exception) else "interrupted"}
            self._log(facts | end | {"event": "end", "error": f"{name}: {error}", "trace": trace})
            raise
        seconds = round(time.perf_counter() - start_time, 1)
        self._log(facts | {"event": "end", "outcome": "done", "seconds": seconds})

    def _log(self, line: dict[str, Any]) -> None:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with (self.folder / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"time": now, **line}, ensure_ascii=False) + "\n")

    def _is_made(self, run: Run) -> bool:
        """A zero-shot run needs no making."""
        return run.way is TrainedBy.NOTHING or is_made(self.run_folder(run))

    def _is_scored(self, run: Run) -> bool:
        """Every test clip has a row."""
        return self.rows(run).exists() and None not in self.records(run)

    def _feed(self, clips: Sequence[Clip], run: Run) -> Feed:
        method = method_named(run.readout)
        unused = method.unused_modalities(parse_options(method, run.options.method_options))
        return file_feed(clips, self.study.media, self.read, unused | run.hide)

    def _scorer(self, run: Run) -> Scorer:
        study, model = self.study, self.study.model
        if run.way is TrainedBy.NOTHING:
            space = study.label_space
            labels = {"classes": space.classes} if space.classes else {"label_range": space.range}
            model = replace(model, readout=run.readout, **labels)
        else:
            model = replace(model, checkpoint=str(self.run_folder(run)))
        return load_scorer(model, study.media, replace(self.show, quiet=True))
