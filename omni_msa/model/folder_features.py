"""Features from a Hugging Face encoder that the user names for a modality: RoBERTa, Data2Vec,
wav2vec2, HuBERT, ViT and their kin, by transformers' own auto classes.

Only safetensors are opened, code in a folder never runs, and the weights stay as they are.
Shapes: L steps, F frames, S samples, D width of the encoder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from omni_msa.errors import ConfigError, MediaError, ModelError, check_choice, first_line
from omni_msa.model.features import STORED, FeatureEncoder, StoredFeatures
from omni_msa.model.identity import folder_sha256
from omni_msa.model.language import FolderLanguage
from omni_msa.model.limits import check_files, check_weights, read_settings
from omni_msa.model.loading import UNLOADABLE, quiet_loading
from omni_msa.model.memory import is_out_of_memory
from omni_msa.model.thinker_features import words_of
from omni_msa.options import LANGUAGE, MediaOptions
from omni_msa.values import SAMPLE_RATE, FeatureSequence, Frames, Transcript, Waveform

if TYPE_CHECKING:
    from omni_msa.model.thinker import Thinker


MOST_SAID = 200  # characters of what transformers says: it may list every model that it knows


class FolderFeatures(FeatureEncoder):
    """An encoder and what prepares its inputs, from one folder.

    Attributes:
        takes: what the encoder is given, as transformers names it.
        needs: the file of the folder that says how it is prepared.
    """

    takes: tuple[str, ...]
    needs: str

    def __init__(self, name: str, device: torch.device) -> None:
        folder = Path(name)
        self.name = str(folder.resolve())
        self.device = device
        label = f"encoder {name}"
        settings = read_settings(label, folder / "config.json")
        if not (folder / self.needs).is_file():
            raise ModelError(
                f"{label}: a {settings.get('model_type')} without {self.needs}; this modality "
                f"takes an encoder of {' or '.join(self.takes)}, with its {self.needs}"
            )
        check_files(name, folder)
        try:
            with quiet_loading():
                self.model, missing = _load(folder, label)
                if self.model.main_input_name not in self.takes:
                    raise ModelError(
                        f"{label}: takes {self.model.main_input_name}; this modality takes an "
                        f"encoder of {' or '.join(self.takes)}"
                    )
                if getattr(self.model.config, "is_encoder_decoder", False):
                    raise ModelError(
                        f"{label}: encodes and decodes; this modality takes an encoder alone"
                    )
                self.processor = self._load_processor(folder)
        except UNLOADABLE as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"{label}: {first_line(error)[:MOST_SAID]}") from error
        if missing:
            raise ModelError(f"{label}: {len(missing)} weights are missing, such as {missing[0]}")
        self.model.to(device).eval().requires_grad_(False)
        self.width = getattr(self.model.config, "hidden_size", 0)
        if not isinstance(self.width, int) or self.width < 1:
            raise ModelError(
                f"{label}: a {settings.get('model_type')}, which has not one hidden_size in its "
                "config.json; give a transformer"
            )
        self.identity = f"folder {folder_sha256(folder)}"

    def _load_processor(self, folder: Path) -> Any:
        raise NotImplementedError

    def adapt(self, config: Any) -> tuple[int, int]:
        from peft import inject_adapter_in_model
        from peft.tuners.lora import LoraLayer

        total = sum(p.numel() for p in self.model.parameters())
        with suppress(ValueError):  # no layer of these names
            inject_adapter_in_model(config, self.model)
        layers = {n: m for n, m in self.model.named_modules() if isinstance(m, LoraLayer)}
        if not {"q", "k", "v"} <= {name.rpartition(".")[2][0] for name in layers}:
            raise ModelError(
                f"encoder {self.name}: its attention does not have queries, keys and values of a "
                "known name to put an adapter on; with --set tuning=frozen there is none"
            )
        self.trained = nn.ModuleList(
            part for m in layers.values() for part in (m.lora_A, m.lora_B, m.lora_dropout)
        )
        self.is_frozen = False
        trainable = sum(p.numel() for p in self.trained.parameters())
        return trainable, total + trainable

    def unfreeze(self) -> None:
        """All of its weights are trained."""
        self.model.requires_grad_(True)
        self.trained, self.is_frozen = nn.ModuleList([self.model]), False


class WordEncoder(FolderFeatures):
    """A text encoder: a step a token, the special ones too."""

    takes = ("input_ids",)
    needs = "tokenizer_config.json"

    def _load_processor(self, folder: Path) -> Any:
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)

    def prepare(self, part: Any, options: MediaOptions) -> tuple[Any, tuple[str, ...]]:
        words = words_of(part) if isinstance(part, FeatureSequence) else part
        assert isinstance(words, Transcript)
        ids = self.processor(words.text, verbose=False)["input_ids"]
        limit = min(options.max_text_tokens, self._most_tokens())
        if len(ids) <= limit:
            return torch.tensor(ids), ()
        remark = f"transcript truncated: {limit} of {len(ids)} tokens shown"
        ids = self.processor(words.text, verbose=False, truncation=True, max_length=limit)
        return torch.tensor(ids["input_ids"]), (remark,)

    def _most_tokens(self) -> int:
        """Positions that the encoder has; RoBERTa's begin after its padding token's."""
        config = self.model.config
        positions = getattr(config, "max_position_embeddings", None) or 10**9
        is_shifted = config.model_type in ("roberta", "xlm-roberta", "camembert", "data2vec-text")
        return positions - (config.pad_token_id + 1 if is_shifted else 0)

    def encode(self, items: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        longest = max(map(len, items))
        ids = torch.full((len(items), longest), self.processor.pad_token_id or 0)
        mask = torch.zeros_like(ids)
        for row, item in enumerate(items):
            ids[row, : len(item)], mask[row, : len(item)] = item, 1
        states = self.model(
            input_ids=ids.to(self.device), attention_mask=mask.to(self.device)
        ).last_hidden_state
        return [row[: len(item)] for row, item in zip(states, items, strict=True)]


class VoiceEncoder(FolderFeatures):
    """A speech encoder: a clip at a time, since some of them see padding."""

    takes = ("input_values", "input_features")
    needs = "preprocessor_config.json"

    def _load_processor(self, folder: Path) -> Any:
        from transformers import AutoFeatureExtractor

        extractor = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
        rate = getattr(extractor, "sampling_rate", SAMPLE_RATE)
        if rate != SAMPLE_RATE:
            raise ModelError(
                f"encoder {self.name}: takes sound of {rate} Hz; clips are read at {SAMPLE_RATE} Hz"
            )
        return extractor

    def prepare(self, part: Any, options: MediaOptions) -> tuple[Any, tuple[str, ...]]:
        _require(part, Waveform)
        values = self.processor(
            part.samples, sampling_rate=SAMPLE_RATE, return_tensors="pt", padding=False
        )
        return values[self.model.main_input_name], ()

    def encode(self, items: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        return [self._encode(item.to(self.device)) for item in items]

    def _encode(self, values: torch.Tensor) -> torch.Tensor:
        try:
            return self.model(values).last_hidden_state[0]
        except RuntimeError as error:  # a kernel that is longer than the sound
            if is_out_of_memory(error):
                raise
            raise MediaError(
                f"sound of {values.shape[-1]} samples is too short for the encoder "
                f"({first_line(error)})",
                code="features",
            ) from error


CLASS_TOKENS = ("cls_token", "class_embedding")  # the weight's name in ViT and in CLIP


class FaceEncoder(FolderFeatures):
    """An image encoder: of each frame, the state of its class token (ViT), or, where it has none
    (Swin), the mean of all."""

    takes = ("pixel_values",)
    needs = "preprocessor_config.json"

    def __init__(self, name: str, device: torch.device) -> None:
        super().__init__(name, device)
        names = [name for name, _ in self.model.named_parameters()]
        self.has_class = any(name.endswith(CLASS_TOKENS) for name in names)
        self.identity += "" if self.has_class else " mean"

    def _load_processor(self, folder: Path) -> Any:
        from transformers import AutoImageProcessor

        return AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)

    def prepare(self, part: Any, options: MediaOptions) -> tuple[Any, tuple[str, ...]]:
        _require(part, Frames)
        return self.processor(list(part.rgb), return_tensors="pt")["pixel_values"], ()

    def encode(self, items: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        states = self.model(torch.cat(list(items)).to(self.device)).last_hidden_state
        states = states[:, 0] if self.has_class else states.mean(1)
        return states.split([len(item) for item in items])


FOLDER_FEATURES: dict[str, Callable[[str, torch.device], FolderFeatures]] = {
    "text": WordEncoder,
    "audio": VoiceEncoder,
    "video": FaceEncoder,
}


def load_encoders(thinker: Thinker, choices: Mapping[str, str]) -> None:
    """Loads what was named in place of the Thinker's own parts (in place).

    Args:
        choices: by modality, a folder, or `stored:WIDTH`; by "language", a folder.

    Raises:
        ConfigError: no such modality, or no width.
        ModelError: no such folder, or one of another kind, or damaged.
    """
    for modality, name in choices.items():
        if modality == LANGUAGE:
            thinker.language = FolderLanguage(name, thinker.base.quantize, thinker.base.device)
            continue
        check_choice("--encoder", modality, FOLDER_FEATURES)
        if name.startswith(STORED):
            width = name.removeprefix(STORED)
            if not width.isdecimal() or not 1 <= int(width) <= 100_000:
                raise ConfigError(
                    f"--encoder {modality}={name}: {STORED} is followed by the width of the "
                    f"features, such as {STORED}74"
                )
            thinker.encoders[modality] = StoredFeatures(modality, int(width))
        elif Path(name).is_dir():
            thinker.encoders[modality] = FOLDER_FEATURES[modality](name, thinker.device)
        else:
            raise ModelError(
                f"encoder {name!r}: no such folder; give one in the layout of the Hugging Face hub "
                "(config.json, its preprocessor's or tokenizer's files, *.safetensors)"
            )


def _load(folder: Path, label: str) -> tuple[Any, list[str]]:
    """The model in fp32, and which of its weights the folder does not hold, poolers left aside."""
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        empty = AutoModel.from_config(config, trust_remote_code=False)
    check_weights(label, folder, sum(p.numel() for p in empty.parameters()))
    result: Any = AutoModel.from_pretrained(
        folder,
        config=config,
        trust_remote_code=False,
        use_safetensors=True,
        dtype=torch.float32,
        output_loading_info=True,
    )
    model, info = result
    return model, sorted(key for key in info["missing_keys"] if "pooler" not in key)


def _require(part: Any, kind: type) -> None:
    if not isinstance(part, kind):
        raise MediaError(
            "holds features that were extracted elsewhere, and the checkpoint's encoder looks at "
            "media; give the clip itself",
            code="features",
        )
