"""A folder as Qwen2.5-Omni is published, with Qwen's real vocabulary and a small random model.

Import `qwen_folder` into a test module to use it as a fixture:

    from published import qwen_folder  # noqa: F401

The vocabulary is `qwen.tiktoken` of the package dashscope. Only that file is read: the package is
never imported, which would take seconds.
"""

from __future__ import annotations

import base64
import importlib.util
import json
from pathlib import Path

import pytest

VOCAB_SIZE = 152_064  # rows of the embedding: more than there are tokens, as published for 7B
NUM_SHARDS = 3
# What a full release holds beside the Thinker; sorted by name, they come to lie in all shards.
FOREIGN_TENSORS = {
    "talker.codec_head.weight": (96, 64),
    "talker.model.layers.0.self_attn.q_proj.weight": (64, 64),
    "talker.thinker_to_talker_proj.weight": (64, 64),
    "token2wav.code2wav_dit_model.x": (32, 32),
}

Ranks = dict[bytes, int]


def vocabulary_file() -> Path | None:
    """Qwen's ranks, one `base64 rank` a line; None where dashscope is not installed."""
    package = importlib.util.find_spec("dashscope")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "resources" / "qwen.tiktoken"
    return path if path.is_file() else None


def read_ranks(path: Path) -> Ranks:
    """Token bytes -> rank, which is also the token's id."""
    pairs = (line.split() for line in path.read_bytes().splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in pairs}


def last_merge(token: bytes, ranks: Ranks) -> tuple[bytes, bytes]:
    """The two parts that a token of several bytes is merged from last.

    Ranks alone do not say it: it is what byte-pair encoding leaves of the token when only merges
    of lower rank are allowed. So each token has one merge, as in the published merges.txt.
    """
    limit = ranks[token]
    parts = [token[i : i + 1] for i in range(len(token))]
    while len(parts) > 2:
        merged = [left + right for left, right in zip(parts, parts[1:], strict=False)]
        first = min(range(len(merged)), key=lambda i: ranks.get(merged[i], limit))
        parts[first : first + 2] = [merged[first]]
    left, right = parts
    return left, right


def qwen_tokenizer(ranks: Ranks):
    """A `tokenizers.Tokenizer` with Qwen's vocabulary, merges and special tokens."""
    from tokenizers import models
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    from scripts.tiny import base

    letters = bytes_to_unicode()

    def spelled(token: bytes) -> str:
        return "".join(letters[byte] for byte in token)

    tokens = sorted(ranks, key=ranks.__getitem__)
    merges = [last_merge(token, ranks) for token in tokens if len(token) > 1]
    tokenizer = base.plain_tokenizer(
        models.BPE(
            {spelled(token): rank for token, rank in ranks.items()},
            [(spelled(left), spelled(right)) for left, right in merges],
        )
    )
    base.add_special_tokens(tokenizer)
    return tokenizer


def build_published(folder: Path, ranks: Ranks, seed: int = 3) -> None:
    """Writes the whole folder: a 64-wide, 2-layer Thinker, a Talker's tensors, three shards."""
    import torch

    from scripts.tiny import base

    ids = base.save_tokenizer(qwen_tokenizer(ranks), folder)
    base.save_processor(folder)
    config = base.thinker_config(ids, VOCAB_SIZE, width=64, layers=2, tower_width=64,
                                 tower_layers=2, spread=0.1)  # fmt: skip
    thinker = base.new_thinker(config, seed)
    foreign = {name: torch.ones(shape, dtype=torch.bfloat16)
               for name, shape in FOREIGN_TENSORS.items()}  # fmt: skip
    base.save_published(thinker, config, folder, shards=NUM_SHARDS, extra=foreign)
    _add_talker(folder)


def _add_talker(folder: Path) -> None:
    """The Talker's part of the configuration, and the file of its voices."""
    import torch
    from transformers import Qwen2_5OmniTalkerConfig, Qwen2_5OmniToken2WavConfig

    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["enable_audio_output"] = True
    config["talker_config"] = Qwen2_5OmniTalkerConfig().to_diff_dict()
    config["token2wav_config"] = Qwen2_5OmniToken2WavConfig().to_diff_dict()
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    torch.save({"Chelsie": {"bos_token": 151672}}, folder / "spk_dict.pt")


@pytest.fixture(scope="session")
def qwen_folder(tmp_path_factory) -> Path:
    """The folder, built once a session."""
    path = vocabulary_file()
    if path is None:
        pytest.skip("Qwen's vocabulary is in the package dashscope: pip install dashscope")
    folder = tmp_path_factory.mktemp("qwen")
    build_published(folder, read_ranks(path))
    return folder
