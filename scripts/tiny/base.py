"""The skeleton of the tiny base: Qwen2.5-Omni's own classes, file names and special tokens, small.

`build(folder, texts, seed)` writes a folder in the published layout (config, tokenizer, processor,
chat template, sharded `thinker.*` weights) whose weights are random; `pretrain.py` then gives them
meaning. `save_published` is also what the tests use to make folders of other sizes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import Qwen2_5OmniThinkerConfig, Qwen2_5OmniThinkerForConditionalGeneration
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

# In the order of Qwen2.5-Omni's own vocabulary, where they are 151643 to 151656.
SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>",
    "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_bos|>", "<|vision_eos|>",
    "<|vision_pad|>", "<|IMAGE|>", "<|VIDEO|>",
)  # fmt: skip
NAMED_TOKENS = {
    "image_token": "<|IMAGE|>",
    "audio_token": "<|AUDIO|>",
    "video_token": "<|VIDEO|>",
    "vision_bos_token": "<|vision_bos|>",
    "vision_eos_token": "<|vision_eos|>",
    "audio_bos_token": "<|audio_bos|>",
    "audio_eos_token": "<|audio_eos|>",
}
# The published template, without the parts for images, which we never send.
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'audio' or 'audio' in content %}<|audio_bos|><|AUDIO|><|audio_eos|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "<|vision_bos|><|VIDEO|><|vision_eos|>{% elif 'text' in content %}{{ content['text'] }}"
    "{% endif %}{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def plain_tokenizer(model: models.BPE) -> Tokenizer:
    """Byte-level BPE with Qwen's own normaliser and splitting rule, and no special tokens yet."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def add_special_tokens(tokenizer: Tokenizer) -> None:
    """Gives the special tokens the ids that follow the vocabulary's last one (in place)."""
    tokenizer.add_special_tokens([AddedToken(t, normalized=False) for t in SPECIAL_TOKENS])


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A tokenizer in Qwen's manner with a small vocabulary, learned from these texts."""
    tokenizer = plain_tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    add_special_tokens(tokenizer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> dict[str, int]:
    """Writes the published tokenizer files; returns the ids that `thinker_config` speaks of.

    These are the special tokens and `user`, which is 0 where the vocabulary lacks that word.
    """
    tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer.model.save(str(folder))  # vocab.json, merges.txt
    vocabulary = tokenizer.get_vocab()
    ids = {token: vocabulary[token] for token in SPECIAL_TOKENS}
    added = {
        str(i): {"content": t, "lstrip": False, "normalized": False, "rstrip": False,
                 "single_word": False, "special": True}
        for t, i in ids.items()
    }  # fmt: skip
    settings = {
        "added_tokens_decoder": added,
        "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "extra_special_tokens": NAMED_TOKENS,
        **NAMED_TOKENS,
        "model_max_length": 32768,
        "processor_class": "Qwen2_5OmniProcessor",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
    }
    _write_json(folder / "tokenizer_config.json", settings)
    special = {
        "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        **NAMED_TOKENS,
    }
    _write_json(folder / "special_tokens_map.json", special)
    _write_json(folder / "added_tokens.json", ids)
    return ids | {"user": vocabulary.get("user", 0)}


def save_processor(folder: Path) -> None:
    """The published `preprocessor_config.json` and chat template."""
    preprocessor = {
        "chunk_length": 300,
        "dither": 0.0,
        "feature_extractor_type": "WhisperFeatureExtractor",
        "feature_size": 128,
        "hop_length": 160,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_processor_type": "Qwen2VLImageProcessor",
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "max_pixels": 12845056,
        "merge_size": 2,
        "min_pixels": 3136,
        "n_fft": 400,
        "n_samples": 4800000,
        "nb_max_frames": 30000,
        "padding_side": "right",
        "padding_value": 0.0,
        "patch_size": 14,
        "processor_class": "Qwen2_5OmniProcessor",
        "return_attention_mask": True,
        "sampling_rate": 16000,
        "temporal_patch_size": 2,
    }
    _write_json(folder / "preprocessor_config.json", preprocessor)
    _write_json(folder / "chat_template.json", {"chat_template": CHAT_TEMPLATE})


def thinker_config(ids: dict[str, int], vocab_size: int, width: int = 192, layers: int = 4,
                   tower_width: int = 128, tower_layers: int = 3,
                   spread: float = 0.02) -> dict:  # fmt: skip
    """A `thinker_config` with the published keys. Heads are 64 wide in the language model.

    `spread` is the deviation of fresh weights: a wider one makes random models react more.
    """
    heads = width // 64
    text = {
        "model_type": "qwen2_5_omni_text", "vocab_size": vocab_size, "hidden_size": width,
        "intermediate_size": 3 * width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": 1, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0, "tie_word_embeddings": False, "use_sliding_window": False,
        "initializer_range": spread,
        "rope_scaling": {"mrope_section": [8, 12, 12], "rope_type": "default", "type": "default"},
    }  # fmt: skip
    vision = {
        "model_type": "qwen2_5_omni_vision_encoder", "depth": tower_layers,
        "hidden_size": tower_width, "num_heads": tower_width // 32,
        "intermediate_size": 3 * tower_width, "in_channels": 3, "in_chans": 3, "patch_size": 14,
        "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
        "out_hidden_size": width, "fullatt_block_indexes": list(range(tower_layers)),
        "tokens_per_second": 25, "initializer_range": spread,
    }  # fmt: skip
    audio = {
        "model_type": "qwen2_5_omni_audio_encoder", "d_model": tower_width,
        "encoder_layers": tower_layers, "encoder_attention_heads": tower_width // 32,
        "encoder_ffn_dim": 3 * tower_width, "num_mel_bins": 128, "max_source_positions": 1500,
        "n_window": 100, "output_dim": width, "initializer_range": spread,
    }  # fmt: skip
    return {
        "model_type": "qwen2_5_omni_thinker",
        "text_config": text, "vision_config": vision, "audio_config": audio,
        "audio_token_index": ids["<|AUDIO|>"], "image_token_index": ids["<|IMAGE|>"],
        "video_token_index": ids["<|VIDEO|>"], "audio_start_token_id": ids["<|audio_bos|>"],
        "audio_end_token_id": ids["<|audio_eos|>"],
        "vision_start_token_id": ids["<|vision_bos|>"],
        "vision_end_token_id": ids["<|vision_eos|>"], "bos_token_id": ids["<|im_start|>"],
        "eos_token_id": ids["<|im_end|>"], "pad_token_id": ids["<|endoftext|>"],
        "position_id_per_seconds": 25, "seconds_per_chunk": 2, "user_token_id": ids["user"],
        "initializer_range": spread,
    }  # fmt: skip


def new_thinker(config: dict, seed: int) -> Qwen2_5OmniThinkerForConditionalGeneration:
    """A Thinker of that configuration with freshly drawn fp32 weights."""
    torch.manual_seed(seed)
    return Qwen2_5OmniThinkerForConditionalGeneration._from_config(
        Qwen2_5OmniThinkerConfig(**config)
    )


def save_published(
    thinker: Qwen2_5OmniThinkerForConditionalGeneration,
    config: dict,
    folder: Path,
    shards: int = 1,
    dtype: torch.dtype = torch.bfloat16,
    extra: dict[str, torch.Tensor] | None = None,
) -> None:
    """Writes config and weights as Qwen2.5-Omni publishes them: `thinker.` keys, shards, an index.

    `extra` adds foreign tensors (`talker.*`), as the full releases hold.
    """
    top = {
        "architectures": ["Qwen2_5OmniForConditionalGeneration"],
        "model_type": "qwen2_5_omni",
        "enable_audio_output": False,
        "thinker_config": config,
        "torch_dtype": str(dtype).removeprefix("torch."),
    }
    _write_json(folder / "config.json", top)
    _write_json(folder / "generation_config.json", {"_from_model_config": True})
    tensors = {published_name(k): v.to(dtype).contiguous() for k, v in thinker.state_dict().items()}
    names = sorted(tensors | (extra or {}))
    tensors |= extra or {}
    weight_map: dict[str, str] = {}
    for i in range(shards):
        file = f"model-{i + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in names[i::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    _write_json(folder / "model.safetensors.index.json", index)


def published_name(key: str) -> str:
    """`model.language_model.layers.0…` (in memory) -> `thinker.model.layers.0…` (published)."""
    for memory, published in (
        ("model.language_model.", "thinker.model."),
        ("model.visual.", "thinker.visual."),
        ("model.audio_tower.", "thinker.audio_tower."),
        ("lm_head.", "thinker.lm_head."),
    ):
        if key.startswith(memory):
            return published + key.removeprefix(memory)
    raise ValueError(f"no published name is known for {key!r}")


def build(folder: Path, texts: Iterable[str], seed: int = 0, vocab_size: int = 5000, **sizes: Any):
    """A fresh base in the published layout; returns (thinker, thinker_config)."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(texts, vocab_size - len(SPECIAL_TOKENS))
    ids = save_tokenizer(tokenizer, folder)
    save_processor(folder)
    config = thinker_config(ids, vocab_size=tokenizer.get_vocab_size(), **sizes)
    thinker = new_thinker(config, seed)
    save_published(thinker, config, folder)
    return thinker, config


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
