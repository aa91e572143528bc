"""The Thinker: loading it (and only it), quantizing, LoRA, and the one packed forward pass.

Shapes: B clips, K subsets, L tokens of a tree, H width of the language model.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from omni_msa.config import offline, prefer_huge_pages
from omni_msa.errors import ConfigError, ModelError
from omni_msa.inputs import InputBuilder, ThinkerInputs
from omni_msa.packing import PackedBatch, collate, last_attended, pack, tree_attention
from omni_msa.values import Subset

TINY = Path(__file__).parent / "assets" / "tiny"
FOUR_BIT_ABOVE = 1_000_000_000  # parameters: what `--quantize auto` goes by
# What the libraries below raise on a damaged folder.
UNLOADABLE = (
    OSError, ValueError, KeyError, RuntimeError, ImportError, TypeError, SafetensorError
)  # fmt: skip
# Published and in-memory spellings of what may be absent from a Thinker-only folder.
NOT_THE_THINKER = ("talker.", "token2wav.")


@dataclass(frozen=True)
class LoadedBase:
    """Where the weights came from and how they are held."""

    name: str  # as the user wrote it: "tiny", a folder, or a hub id
    folder: Path
    quantize: str  # none, 4bit or 8bit: what was really done
    device: str

    @property
    def lasting_name(self) -> str:
        """How a checkpoint names its base: a folder by its whole path, wherever it is used."""
        return str(Path(self.name).resolve()) if self.folder == Path(self.name) else self.name


class Thinker:
    """Qwen2.5-Omni's understanding half, with the input builder that belongs to it."""

    def __init__(self, model: Any, processor: Any, base: LoadedBase) -> None:
        self.model = model  # Qwen2_5OmniThinkerForConditionalGeneration, or PEFT around it
        self.processor = processor
        self.base = base
        self.config = model.config
        self.builder = InputBuilder(processor, model.config)
        pad = processor.tokenizer.pad_token_id
        self.pad_token_id = pad if pad is not None else 0

    @property
    def adapted(self) -> bool:
        """Whether a LoRA adapter is on it."""
        return hasattr(self.model, "peft_config")

    @property
    def core(self) -> Any:
        """The transformers model itself, with any LoRA layers already inside it."""
        return self.model.get_base_model() if self.adapted else self.model

    def ask(self, question: str) -> None:
        """Puts another question before every clip that is built from now on."""
        self.builder = InputBuilder(self.processor, self.config, question)

    @property
    def width(self) -> int:
        return self.config.text_config.hidden_size

    @property
    def device(self) -> torch.device:
        return self.core.get_input_embeddings().weight.device

    def batch(
        self,
        clips: Sequence[ThinkerInputs],
        subsets: Sequence[Sequence[Subset]],
        padding_side: str = "right",
    ) -> PackedBatch:
        """Packs each clip's subsets and pads the trees to one length."""
        trees = [pack(clip, wanted) for clip, wanted in zip(clips, subsets, strict=True)]
        return collate(clips, trees, self.pad_token_id, padding_side)

    def forward(self, batch: PackedBatch) -> torch.Tensor:
        """Hidden states at the last non-padding token of every subset: [B, K, H].

        Towers run once a clip; the language model runs exactly once. Rows of subsets that a clip
        does not have (see `PackedBatch`) hold nothing of use.
        """
        hidden = self.states(batch)
        leaves = last_attended(batch.paths.to(self.device)).clamp(min=0)  # [B, K]
        return take(hidden, leaves)

    def states(self, batch: PackedBatch, cache: Any = None) -> torch.Tensor:
        """Hidden states of every token of the trees, in one pass: [B, L, H].

        With a transformers cache, keys and values are kept for `step`.
        """
        allowed = tree_attention(batch.paths.to(self.device))  # [B, 1, L, L]
        return self._language(self.embed(batch), allowed, batch.positions, cache)

    def step(
        self, token_ids: torch.Tensor, positions: torch.Tensor, allowed: torch.Tensor, cache: Any
    ) -> torch.Tensor:
        """One more token behind each leaf: ids [B, K], positions [3, B, K], and which of the
        tokens so far each of them sees, [B, 1, K, L + K * steps]. Gives hidden states [B, K, H]."""
        embeddings = self.core.get_input_embeddings()(token_ids.to(self.device))
        return self._language(embeddings, allowed.to(self.device), positions, cache)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """What comes next, over the vocabulary: hidden [..., H] -> [..., V] in fp32."""
        head = self.core.lm_head
        return head(hidden.to(head.weight.dtype)).float()

    def _language(
        self, embeddings: torch.Tensor, allowed: torch.Tensor, positions: torch.Tensor, cache: Any
    ) -> torch.Tensor:
        bias = torch.zeros(allowed.shape, dtype=embeddings.dtype, device=self.device)
        bias = bias.masked_fill(~allowed, torch.finfo(embeddings.dtype).min)
        return self.core.model.language_model(
            inputs_embeds=embeddings,
            attention_mask=bias,
            position_ids=positions.to(self.device),
            past_key_values=cache,
            use_cache=cache is not None,
        ).last_hidden_state

    def embed(self, batch: PackedBatch) -> torch.Tensor:
        """Token embeddings with what the towers saw and heard in their places: [B, L, H]."""
        token_ids = batch.token_ids.to(self.device)
        embeddings = self.core.get_input_embeddings()(token_ids)
        for token_id, features in (
            (self.config.video_token_id, self.see(batch.clips)),
            (self.config.audio_token_id, self.hear(batch.clips)),
        ):
            # A part that stands on several branches of a clip's tree is the same part each time.
            rows = []
            for tokens, feature in zip(batch.token_ids, features, strict=True):
                count = int((tokens == token_id).sum())
                if count:
                    assert feature is not None and count % len(feature) == 0, "tokens, no features"
                    rows.append(feature.repeat(count // len(feature), 1))
            if rows:
                mask = (token_ids == token_id)[..., None]
                embeddings = embeddings.masked_scatter(mask, torch.cat(rows).to(embeddings.dtype))
        return embeddings

    def see(self, clips: Sequence[ThinkerInputs]) -> list[torch.Tensor | None]:
        """Vision tower, all clips in one call: [tokens, H] a clip, None without a picture."""
        shown = [(clip.patches, clip.grid_thw) for clip in clips if clip.patches is not None]
        if not shown:
            return [None] * len(clips)
        patches = torch.cat([p for p, _ in shown if p is not None]).to(self.device)
        grids = torch.tensor([g for _, g in shown], device=self.device)
        out = self.core.model.get_video_features(patches, grids, return_dict=True).pooler_output
        features = iter(out)
        return [next(features) if clip.patches is not None else None for clip in clips]

    def hear(self, clips: Sequence[ThinkerInputs]) -> list[torch.Tensor | None]:
        """Audio tower, all clips in one call: [tokens, H] a clip, None without sound."""
        mels = [clip.mel for clip in clips if clip.mel is not None]
        if not mels:
            return [None] * len(clips)
        lengths = torch.tensor([m.shape[1] for m in mels], device=self.device)
        tower = self.core.model.audio_tower
        after_conv, num_tokens = tower._get_feat_extract_output_lengths(lengths)
        heard = tower(
            torch.cat(mels, dim=1).to(self.device), feature_lens=lengths, aftercnn_lens=after_conv
        ).last_hidden_state
        features = iter(heard.split(num_tokens.tolist()))
        return [next(features) if clip.mel is not None else None for clip in clips]


def take(hidden: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Rows of hidden states: [B, L, H] at places [B, K] -> [B, K, H]."""
    return hidden.gather(1, places[..., None].expand(-1, -1, hidden.shape[-1]))


def load_thinker(name: str, quantize: str = "auto", device: str = "auto") -> Thinker:
    """Loads a base in the published layout: the embedded `tiny`, a folder, or a hub id.

    Only `thinker.*` tensors are read; the Talker never takes memory. Nothing may be missing.

    Raises:
        ModelError: not found, not a Qwen2.5-Omni folder, damaged, or out of memory.
        ConfigError: the device or quantization is not available here.
    """
    prefer_huge_pages()
    folder = base_folder(name)
    config = _thinker_config(name, folder)
    where = _device(device)
    how = resolve_quantize(quantize, config)
    from transformers import Qwen2_5OmniProcessor, Qwen2_5OmniThinkerForConditionalGeneration

    try:
        with quiet_loading():
            processor = Qwen2_5OmniProcessor.from_pretrained(folder)
            loaded: Any = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
                folder,
                config=config,
                dtype=torch.bfloat16 if where == "cuda" else torch.float32,
                quantization_config=quantization_config(how, where),
                device_map=where if how != "none" or where == "cuda" else None,
                output_loading_info=True,
            )
    except UNLOADABLE as error:
        raise ModelError(f"model {name}: {_first_line(error)}") from error
    model, info = loaded
    foreign = [k for k in info["unexpected_keys"] if not k.startswith(NOT_THE_THINKER)]
    if info["missing_keys"] or foreign or info["mismatched_keys"]:
        wrong = sorted(info["missing_keys"]) + foreign + sorted(map(str, info["mismatched_keys"]))
        raise ModelError(
            f"model {name}: {len(wrong)} tensors are missing, foreign or of another shape, "
            f"such as {wrong[0]}; the folder must hold a whole Qwen2.5-Omni Thinker"
        )
    if where == "cpu":
        keep_packing(model)
    model.eval().requires_grad_(False)
    return Thinker(model, processor, LoadedBase(name, folder, how, where))


def keep_packing(model: Any) -> None:
    """Stops bitsandbytes from repacking 4-bit weights at their first use on a CPU (in place).

    Its packing for AVX512 refuses the published vision tower's 3420 columns, and lets no gradient
    through to the layers below, without a word.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def local_folder(name: str) -> Path | None:
    """The folder that a name means on this machine; None for what may be a hub id.

    Raises:
        ModelError: it is neither.
    """
    if name == "tiny":
        return TINY / "base"
    if Path(name).is_dir():
        return Path(name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise ModelError(
            f"model {name!r}: no such folder; give 'tiny', a folder in the Qwen2.5-Omni layout, "
            "or a hub id such as Qwen/Qwen2.5-Omni-7B"
        )
    return None


def base_folder(name: str) -> Path:
    """The folder that holds the base; a hub id is downloaded without its Talker."""
    if (folder := local_folder(name)) is not None:
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                name,
                local_files_only=offline(),
                allow_patterns=["*.json", "*.jinja", "*.txt", "*.safetensors"],
            )
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise ModelError(
            f"model {name}: not in the local cache and the hub could not be reached "
            f"({_first_line(error)}); check the id and the network, or give a folder"
        ) from error


def resolve_quantize(quantize: str, thinker_config: Any) -> str:
    """What `auto` means for this base: 4-bit above a billion parameters, none below."""
    if quantize != "auto":
        return quantize
    return "4bit" if count_parameters(thinker_config) > FOUR_BIT_ABOVE else "none"


def count_parameters(thinker_config: Any) -> int:
    """Parameters of a Thinker of this configuration, counted without allocating any."""
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    with torch.device("meta"):
        model = Qwen2_5OmniThinkerForConditionalGeneration._from_config(thinker_config)
    return sum(p.numel() for p in model.parameters())


def quantization_config(how: str, device: str) -> Any:
    """bitsandbytes settings: NF4 with double quantization, or LLM.int8; None for none.

    The language-model head is left alone: its skip list names it, because giving any list replaces
    the library's own.
    """
    if how == "none":
        return None
    from transformers import BitsAndBytesConfig

    skip = ["lm_head"]
    if how == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skip)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if device == "cuda" else torch.float32,
        llm_int8_skip_modules=skip,
    )


def _thinker_config(name: str, folder: Path) -> Any:
    """The `thinker_config` of a published folder (or of a Thinker-only one)."""
    from transformers import Qwen2_5OmniThinkerConfig

    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model {name}: {path.name} cannot be read ({_first_line(error)}); "
            "a base folder holds config.json, the tokenizer files and *.safetensors"
        ) from error
    kind = config.get("model_type")
    if kind not in ("qwen2_5_omni", "qwen2_5_omni_thinker"):
        raise ModelError(
            f"model {name}: model_type is {kind!r}; only qwen2_5_omni (7B, 3B, tiny) is supported"
        )
    thinker = config.get("thinker_config", config)
    return Qwen2_5OmniThinkerConfig(**thinker)


def _device(device: str) -> str:
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda: no CUDA GPU is visible to torch; use --device cpu or auto")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keeps library chatter off the user's screen: progress bars, remarks, deprecations."""
    from transformers.utils import logging as hf_logging

    # For good: it remarks on an optional kernels package when imported, and, for 8-bit layers that
    # are given fp32 (as they are on a CPU), at every matrix product.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

    bars = hf_logging.is_progress_bar_enabled()
    verbosity = hf_logging.get_verbosity()
    hf_logging.disable_progress_bar()
    hf_logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
