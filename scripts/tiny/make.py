"""Makes the embedded model from nothing: clips, base, adapter and head, and their figures.

    python -m scripts.tiny.make work --sentences SENTENCES      (go on, or start)
    python -m scripts.tiny.make --dry-run                       (the plan)

Every step has a fixed number of clips or training steps, a seed, and one or two threads; two run at
once. What is finished is not done again, and a training step that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from omni_msa.model.loading import TINY

ROOT = Path(__file__).parents[2]
LANES = 2  # steps of one thread at once


@dataclass(frozen=True)
class Step:
    """One command, and what must be there before it.

    `{count:N}` in an argument is a number of clips, sentences or training steps, which `--scale`
    makes smaller; `{work}` and `{sentences}` are folders.
    """

    name: str
    module: str
    arguments: str
    needs: tuple[str, ...] = ()
    threads: int = 1
    study: bool = False  # for the readout study alone

    def command(self, work: str, sentences: str, scale: float = 1.0) -> list[str]:
        """What to run, from the root of the repository."""
        words = ["-m", f"scripts.{self.module}"]
        for word in self.arguments.split():
            if word.startswith("{count:"):
                word = str(max(2, round(int(word[7:-1]) * scale)))
            words.append(word.replace("{work}", work).replace("{sentences}", sentences))
        if "--threads" not in words and self.module.split(".")[-1] in ("pretrain", "towers"):
            words += ["--threads", str(self.threads)]
        return words


WORDS = "--sentences {sentences} --seed 0"
CLIPS = "--corpus {work}/train --valid {work}/valid"
STEPS = (
    Step("skeleton", "tiny.skeleton", "{work}/skeleton " + WORDS),
    Step("words", "tiny.pretrain",
         "{work}/words --start {work}/skeleton --steps {count:3000} --rated 64 "
         "--learning-rate 1.5e-3 " + WORDS, ("skeleton",)),
    Step("valid", "tiny.corpus", "{work}/valid --first-seed 500000 --count {count:1000}"),
    Step("train", "tiny.corpus", "{work}/train --first-seed 0 --count {count:6000}"),
    Step("vision", "tiny.towers",
         "vision {work}/vision.safetensors --start {work}/skeleton --valid {work}/valid "
         "--faces {count:4000} --close-steps {count:1500} --steps {count:1500}",
         ("skeleton", "valid")),
    Step("audio", "tiny.towers",
         "audio {work}/audio.safetensors --start {work}/skeleton --steps {count:1500} "
         "--learning-rate 2e-3 " + CLIPS, ("skeleton", "train", "valid")),
    Step("test", "tiny.corpus", "{work}/test --first-seed 1000000 --count {count:1000}"),
    Step("base", "tiny.pretrain",
         "{work}/base --start {work}/words --towers {work}/vision.safetensors "
         "{work}/audio.safetensors --steps {count:1000} --clips 12 --rated 16 "
         "--learning-rate 8e-4 --sentences {sentences} --seed 3 " + CLIPS,
         ("words", "vision", "audio"), 2),
    Step("adapter", "tiny.adapter",
         "{work}/adapter --base {work}/base --epochs 2 --clips {count:4000} --rated {count:5000} "
         "--varied {count:8000} --spoken {count:2000} --learning-rate 1e-3 " + WORDS + " " + CLIPS,
         ("base",), 2),
    Step("hearts", "tiny.hearts", "{work}/hearts --train {count:1600} --valid {count:300}"),
    Step("ecg", "tiny.ecg", "{work}/ecg --base {work}/base --hearts {work}/hearts --epochs 20",
         ("base", "hearts")),
    Step("checkpoint", "tiny.clip_hearts",
         "{work}/checkpoint --base {work}/base --checkpoint {work}/adapter --clips {count:2000} "
         "--epochs 8 " + CLIPS, ("adapter",), 2),
    Step("measure", "tiny.measure",
         "--model {work}/base --checkpoint {work}/checkpoint --corpus {work}/test "
         "--sentences {sentences}", ("checkpoint", "test"), 2),
    Step("study-words", "tiny.pretrain",
         "{work}/study-words --start {work}/skeleton --answers descriptions --steps {count:800} "
         "--rated 64 --learning-rate 1.5e-3 " + WORDS, ("skeleton",), study=True),
    Step("study-base", "tiny.pretrain",
         "{work}/study-base --start {work}/study-words --answers descriptions --towers "
         "{work}/vision.safetensors {work}/audio.safetensors --steps {count:600} --clips 12 "
         "--rated 16 --learning-rate 8e-4 --sentences {sentences} --seed 3 " + CLIPS,
         ("study-words", "vision", "audio"), 2, study=True),
)  # fmt: skip


class Maker:
    """Runs steps whose needs are there, and remembers what is finished in `WORK/done`."""

    def __init__(self, work: Path, sentences: Path, scale: float) -> None:
        self.work = work
        self.sentences = sentences
        self.scale = scale
        self.running: dict[str, tuple[subprocess.Popen, float]] = {}
        for folder in ("done", "logs"):
            (work / folder).mkdir(parents=True, exist_ok=True)

    def run(self, steps: tuple[Step, ...]) -> None:
        """All of them; ends with exit code 1 when one fails."""
        left = [step for step in steps if not self._is_done(step)]
        try:
            while left or self.running:
                for step in [s for s in left if self._may_start(s, steps)]:
                    if self._busy(steps) + step.threads <= LANES:
                        left.remove(step)
                        self._start(step)
                self._collect(steps)
                time.sleep(0.5)
        finally:
            for process, _ in self.running.values():
                process.terminate()

    def seconds(self, step: Step) -> float:
        """How long a finished step took, of its last start."""
        return json.loads(self._marker(step).read_text())["seconds"]

    def _busy(self, steps: tuple[Step, ...]) -> int:
        return sum(step.threads for step in steps if step.name in self.running)

    def _may_start(self, step: Step, steps: tuple[Step, ...]) -> bool:
        return all(self._is_done(s) for s in steps if s.name in step.needs)

    def _is_done(self, step: Step) -> bool:
        marker = self._marker(step)
        return marker.exists() and json.loads(marker.read_text())["command"] == self._words(step)

    def _marker(self, step: Step) -> Path:
        return self.work / "done" / f"{step.name}.json"

    def _words(self, step: Step) -> list[str]:
        return step.command(str(self.work), str(self.sentences), self.scale)

    def _start(self, step: Step) -> None:
        log = (self.work / "logs" / f"{step.name}.log").open("a")
        command = [sys.executable, *self._words(step)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT)
        self.running[step.name] = (process, time.time())
        _say(f"{step.name} begins")

    def _collect(self, steps: tuple[Step, ...]) -> None:
        for step in (s for s in steps if s.name in self.running):
            process, began = self.running[step.name]
            if process.poll() is None:
                continue
            del self.running[step.name]
            if process.returncode:
                tail = (self.work / "logs" / f"{step.name}.log").read_text().splitlines()[-5:]
                raise SystemExit("\n".join([f"{step.name} failed:", *tail]))
            seconds = round(time.time() - began, 1)
            done = {"command": self._words(step), "seconds": seconds}
            self._marker(step).write_text(json.dumps(done))
            _say(f"{step.name} is done after {seconds / 60:.1f} min")


def _say(note: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {note}", file=sys.stderr, flush=True)


def show(steps: tuple[Step, ...]) -> None:
    """The plan: what runs after what, with every number."""
    table = Table("step", "after", "threads", "python …")
    for step in steps:
        command = " ".join(step.command("work", "SENTENCES"))
        table.add_row(step.name, ", ".join(step.needs) or "-", str(step.threads), command)
    Console(width=160).print(table)


def install(work: Path) -> None:
    """Makes base and checkpoints the package's embedded model."""
    for name in ("base", "checkpoint", "ecg"):
        shutil.rmtree(TINY / name, ignore_errors=True)
        unwanted = shutil.ignore_patterns("*.state", "run", "*log.jsonl", "*.lock")
        shutil.copytree(work / name, TINY / name, ignore=unwanted)
        for path in (TINY / name).iterdir():
            path.chmod(0o644)  # safetensors lets its owner alone read what it writes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", type=Path, nargs="?", default=Path("work"))
    parser.add_argument("--sentences", type=Path, default=Path("sentences"))
    parser.add_argument("--study", action="store_true", help="also make the readout study's base")
    parser.add_argument("--dry-run", action="store_true", help="show the plan")
    parser.add_argument("--install", action="store_true", help="into the package, once made")
    parser.add_argument("--scale", type=float, default=1.0, help="of all counts: to try it out")
    arguments = parser.parse_args()
    steps = tuple(step for step in STEPS if arguments.study or not step.study)
    if arguments.dry_run:
        show(steps)
        return
    if not any(arguments.sentences.glob("*.tsv")):
        parser.error(f"--sentences: no .tsv files in {arguments.sentences} (see README.md)")
    maker = Maker(arguments.work.resolve(), arguments.sentences.resolve(), arguments.scale)
    maker.run(steps)
    if arguments.install:
        install(arguments.work)
    minutes = {step.name: round(maker.seconds(step) / 60, 1) for step in steps}
    print(json.dumps({"minutes": minutes, "step_hours": round(sum(minutes.values()) / 60, 2)}))


if __name__ == "__main__":
    main()
