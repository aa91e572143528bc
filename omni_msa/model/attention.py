"""Attention along a token tree, in two calls of torch's own.

The idea: a tree's first tokens are a chain (`trunk` of them, usually the whole clip), so that they
need a causal kernel and no mask; only the tokens behind them are given one. So nothing of the size
L x L is made, and what a subset adds costs its own tokens.

Shapes: B clips, N tokens that ask, L tokens in all, A heads.
"""

from __future__ import annotations

from typing import Any

import torch

NAME = "token_tree"  # in transformers' table of attention functions


def attend_along_trees(language_model: Any) -> None:
    """Has a language model of transformers take `trunk` beside its mask (in place)."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, tree_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)  # for its forward without a `trunk`
    language_model.set_attn_implementation(NAME)


def tree_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    trunk: int = 0,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers: queries [B, A, N, D] -> [B, N, A, D].

    Args:
        attention_mask: what the queries behind the trunk see: [B, 1, N - trunk, L] bool; None if
            there are none.
        trunk: so many of the first queries see the keys up to their own.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward as attend

    if not trunk:
        return attend(module, query, key, value, attention_mask, **options)
    q, k, v = (part[:, :, :trunk] for part in (query, key, value))
    states, _ = attend(module, q, k, v, None, is_causal=True, **options)
    if trunk < query.shape[2]:
        rest, _ = attend(module, query[:, :, trunk:], key, value, attention_mask, **options)
        states = torch.cat([states, rest], dim=1)
    return states, None
