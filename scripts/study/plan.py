"""What a study will do, written down before it does anything, and compared when it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from omni_msa.errors import ConfigError, check_choice
from omni_msa.evaluation.evaluate import family_of
from omni_msa.evaluation.metrics import Family
from omni_msa.evaluation.resampling import Units, units_of
from omni_msa.files.atomic import replacing
from omni_msa.files.labels import LabelSpace
from omni_msa.files.leaks import leaks
from omni_msa.media.feed import FileFeed
from omni_msa.model.folders import base_folder
from omni_msa.model.identity import base_sha256
from omni_msa.options import EvaluateOptions, MediaOptions, ModelOptions
from omni_msa.scoring.checkpoint import package_versions
from omni_msa.scoring.trained_clips import clip_keys
from omni_msa.training.data import data_sha256
from omni_msa.values import Clip
from scripts.study.arms import Arm

PLAN = "plan.json"
SPLITS = ("train", "valid", "test")
NOT_COMPARED = ("arguments", "versions")  # what may differ when a study goes on
STOPPING = (
    "of each run the epoch with the lowest validation error is kept (MAE, of classes the error "
    "rate); it stops after `patience` epochs without a better one, at the latest after `epochs`. "
    "The study ends when every run has ended; every run is trained before a test clip is scored."
)
TEST = (
    "each arm against the first one: 95 % interval of the difference by a paired bootstrap over "
    "{unit}, on the test clips that all of their runs have scored, of the means over their runs; "
    "two-sided p value from the same draws, by Holm's correction for all planned comparisons of "
    "the primary metric. The intervals are not corrected, {unit} are taken as independent, and the "
    "deviation over seeds has no part in them."
)


@dataclass(frozen=True)
class Study:
    """Everything that a study's numbers follow from.

    Attributes:
        arms: the rows of the table; the first is what the others are compared with.
        clips: labelled, by split.
        primary: the metric that arms are compared by; None for the first of the family.
    """

    arms: tuple[Arm, ...]
    clips: Mapping[str, Sequence[Clip]]
    label_space: LabelSpace
    model: ModelOptions
    media: MediaOptions
    options: EvaluateOptions
    primary: str | None = None

    def __post_init__(self) -> None:
        if empty := [name for name in SPLITS if not self.clips.get(name)]:
            raise ConfigError(
                f"no clip of split {' and '.join(empty)}; a study needs train, valid and test: "
                "`omni-msa data split` makes them"
            )
        for clips in self.clips.values():
            self.label_space.check(clips)
        if self.primary is not None:
            check_choice("--primary", self.primary, self.family.titles)

    @cached_property
    def family(self) -> Family:
        """The metrics."""
        return family_of(self.clips["test"], self.options.family, self.label_space)[0]

    @property
    def metric(self) -> str:
        """The primary one."""
        return self.primary or next(iter(self.family.titles))

    @property
    def units(self) -> Units:
        """What the bootstrap draws of the test clips."""
        return units_of(self.clips["test"], self.options.intervals_over)

    @property
    def test(self) -> str:
        """How arms are compared, in words."""
        return TEST.format(unit=self.units.unit)

    @property
    def measuring(self) -> EvaluateOptions:
        """How arms are measured: over the same units, whichever of their clips could be scored."""
        return replace(self.options, intervals_over=self.units.unit)

    def plan(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """The whole plan, as JSON values. Reads every file once, for its hash.

        Args:
            arguments: of the command line, the defaults too.
        """
        space = self.label_space
        return {
            "arguments": {k: _plain(v) for k, v in arguments.items()},
            "versions": package_versions(),
            "base": self.model.model,
            "base_sha256": base_sha256(base_folder(self.model.model or "tiny")),
            "quantize": self.model.quantize,
            "media": self.media.to_json(),
            "labels": {"range": list(space.range), "classes": list(space.classes)},
            "splits": {name: self._split(name) for name in SPLITS},
            "arms": [arm.to_json() for arm in self.arms],
            "primary_metric": self.family.titles[self.metric],
            "metrics": self.family.name,
            "stopping_rule": STOPPING,
            "test": self.test,
            "comparisons": len(self.arms) - 1,
            "resamples": self.options.resamples,
            "bootstrap_seed": self.options.seed,
        }

    def _split(self, name: str) -> dict[str, Any]:
        """Hashes of its clips in their order (null for a file that cannot be read), and of its
        names, words and labels."""
        clips = self.clips[name]
        feed = FileFeed(clips, self.media)
        hashes = [keys and keys.name for keys in clip_keys(clips)]
        return {"clips": len(clips), "data_sha256": data_sha256(rows=feed), "sha256": hashes}


def write_plan(folder: Path, plan: dict[str, Any]) -> bool:
    """Puts the plan into the study's folder; False if it is there already.

    Raises:
        ConfigError: the folder holds another plan, a damaged one or something else.
    """
    path = folder / PLAN
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: is damaged; give another -o") from error
        keys = [key for key in plan | before if key not in NOT_COMPARED]
        if unlike := [key for key in keys if before.get(key) != plan.get(key)]:
            raise ConfigError(
                f"-o {folder}: holds a study with another plan ({', '.join(unlike)}); repeat its "
                "command to go on, or give another -o"
            )
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"-o {folder}: is not empty and holds no {PLAN}; give another -o")
        with replacing(path) as temporary:
            text = json.dumps(plan, indent=1, ensure_ascii=False, allow_nan=False)
            temporary.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"-o {folder}: cannot be made ({error.strerror}); another?") from error
    return True


def warnings_of(study: Study) -> list[str]:
    """What a reader of the results should know: who or what is in two splits."""
    family = family_of(study.clips["test"], study.options.family, study.label_space)[1]
    leaking = leaks([clip for name in SPLITS for clip in study.clips[name]])
    return [*leaking, *filter(None, [family, study.units.remark])]


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value
