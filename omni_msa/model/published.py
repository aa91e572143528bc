"""The published Thinkers' sizes: their configurations, without their weights.

Source: the `thinker_config` of the public Qwen2.5-Omni releases. The 7B one counts 8,931,813,888
parameters, which is what its safetensors index holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from omni_msa.errors import check_choice


@dataclass(frozen=True)
class _TextSize:
    """The language model's measures; everything else is the same in both releases."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    mlp_width: int
    vocabulary: int


_SIZES = {
    "7b": _TextSize(3584, layers=28, heads=28, kv_heads=4, mlp_width=18944, vocabulary=152064),
    "3b": _TextSize(2048, layers=36, heads=16, kv_heads=2, mlp_width=11008, vocabulary=151936),
}
SIZES = tuple(_SIZES)
# Ids in Qwen's tokenizer.
_SPECIAL = {
    "pad_token_id": 151643,
    "bos_token_id": 151644,
    "eos_token_id": 151645,
    "audio_token_index": 151646,
    "audio_start_token_id": 151647,
    "audio_end_token_id": 151648,
    "vision_start_token_id": 151652,
    "vision_end_token_id": 151653,
    "image_token_index": 151655,
    "video_token_index": 151656,
    "user_token_id": 872,
}


def published_thinker_config(size: str, **token_ids: int) -> Any:
    """The `Qwen2_5OmniThinkerConfig` of a published release.

    Args:
        size: "7b" or "3b".
        token_ids: ids of special tokens, where another tokenizer than the published is used.

    Raises:
        ConfigError: another size.
    """
    check_choice("published size", size, _SIZES)
    from transformers import Qwen2_5OmniThinkerConfig

    text = _SIZES[size]
    others: dict[str, Any] = {**_SPECIAL, **token_ids}
    return Qwen2_5OmniThinkerConfig(
        **others,
        text_config={
            "hidden_size": text.width,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.kv_heads,
            "intermediate_size": text.mlp_width,
            "vocab_size": text.vocabulary,
            "max_position_embeddings": 32768,
            "rope_theta": 1_000_000.0,
            "rope_scaling": {"mrope_section": [16, 24, 24], "rope_type": "default"},
            "tie_word_embeddings": False,
        },
        vision_config={
            "depth": 32,
            "hidden_size": 1280,  # the class default, 3584, is no release's
            "num_heads": 16,
            "intermediate_size": 3420,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31],
            "out_hidden_size": text.width,
        },
        audio_config={
            "d_model": 1280,
            "encoder_layers": 32,
            "encoder_attention_heads": 20,
            "encoder_ffn_dim": 5120,
            "num_mel_bins": 128,
            "max_source_positions": 1500,
            "n_window": 100,
            "output_dim": text.width,
        },
        position_id_per_seconds=25,
        seconds_per_chunk=2,
    )
