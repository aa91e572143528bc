"""What a scorer is, as far as its records say it: known without torch, before it is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omni_msa.media.identity import json_sha256
from omni_msa.modalities import Subset, in_order, others
from omni_msa.model.folders import EMBEDDED, local_folder
from omni_msa.options import AblationOptions, MediaOptions, ModelOptions
from omni_msa.scoring.checkpoint import CheckpointInfo, media_options, read_info

NO_DEVICE = "no medical device: what a model says of a heart is no diagnosis"


@dataclass(frozen=True)
class ScorerIdentity:
    """Everything but the clip that changes a row; a zero-shot base has no folder."""

    base: str  # its name as the user or the checkpoint gives it
    folder: Path | None
    info: CheckpointInfo
    method: str
    quantize: str  # what is really done: none, 4bit or 8bit
    media: MediaOptions
    hidden: Subset  # modalities that it never shows
    options: dict[str, Any]  # of the method, that change a score and are not in the weights

    @property
    def remarks(self) -> tuple[str, ...]:
        """What every record says of the way it was scored."""
        if self.folder is None:
            return (f"zero-shot: no checkpoint, {self.base} is read by {self.method}",)
        remarks, info = [], self.info
        if info.label_space.findings:
            remarks.append(NO_DEVICE)
        if info.hide:
            names = " and ".join(in_order(frozenset(info.hide)))
            remarks.append(f"trained without {names}: the checkpoint is not shown it")
        if self.quantize != info.quantize:
            how = f"trained with {info.quantize}, scored with {self.quantize}"
            remarks.append(f"other quantization: {how}")
        if (trained := info.media.get("denoise", "none")) != self.media.denoise:
            how = f"trained with {trained}, scored with {self.media.denoise}"
            remarks.append(f"other denoising: {how}")
        return tuple(remarks)

    def describe(self) -> dict[str, Any]:
        """The `model` object of a record, without its fingerprint."""
        folder = str(self.folder) if self.folder is not None else None
        own = {str(folder): name for name, folder in EMBEDDED.items()}
        return {
            "base": self.base,
            "checkpoint": own.get(folder, folder) if folder is not None else None,
            "readout": self.method,
            "quantize": self.quantize,
        }

    def fingerprint(self, ablation: AblationOptions, hide: Subset = frozenset()) -> str:
        """Hash of everything but the clip that changes a row: rows of one file share it."""
        info = self.info
        parts = {
            "base": info.base_sha256,
            "adapter": info.adapter_sha256,
            "readout": [self.method, info.readout_sha256, info.label_space.to_json()],
            "quantize": self.quantize,
            "media": self.media.to_json(),
            "prompt": info.prompt_version,
            "ablation": [ablation.enabled, sorted(ablation.drop)],
            # what a method never looks at beside tokens is not hidden from it
            "hide": sorted((hide | self.hidden) - (others() & self.hidden)),
        }
        if self.options:
            parts["options"] = self.options
        if info.encoders:
            parts["encoders"] = {name: row["identity"] for name, row in info.encoders.items()}
        if info.intervals:
            parts["intervals"] = info.intervals
        return json_sha256(parts)[:16]


def unused_of(info: CheckpointInfo) -> Subset:
    """The modalities that a checkpoint's method cannot use, by its own account."""
    uses, unused = (frozenset(info.scoring.get(key, ())) for key in ("uses", "unused"))
    return unused | (others() - uses)


def named_checkpoint(options: ModelOptions) -> Path | None:
    """The checkpoint that the options mean; None for a bare base."""
    name = "tiny" if options.embedded else options.checkpoint
    return None if name is None else EMBEDDED.get(name, Path(name))


def identity_before_loading(
    options: ModelOptions, media: MediaOptions | dict[str, Any] | None = None
) -> ScorerIdentity | None:
    """What `Scorer.load` would give, by the checkpoint's own account; None if only loading tells.

    Raises:
        ModelError: the base is not there, or the checkpoint's account cannot be read.
        ConfigError: the options do not fit together.
    """
    if options.model is not None:
        local_folder(options.model)  # a wrong path is the first thing to say
    folder = named_checkpoint(options)
    if folder is None:
        return None
    info = read_info(folder)
    quantize = info.quantize if options.quantize == "auto" else options.quantize
    if quantize == "auto":
        return None
    if options.readout not in (None, info.method):
        return None
    return ScorerIdentity(
        options.model or info.base,
        folder,
        info,
        info.method,
        quantize,
        media_options(info, media),
        frozenset(info.hide) | unused_of(info),
        info.scoring.get("options", {}),
    )
