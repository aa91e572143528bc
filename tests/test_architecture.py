"""The published sizes, counted to the parameter, and no others."""

from __future__ import annotations

import pytest

from omni_msa.errors import ConfigError
from omni_msa.model.loading import count_parameters
from omni_msa.model.published import published_thinker_config


@pytest.mark.slow
def test_the_3b_thinker_has_the_same_towers_and_a_smaller_language_model():
    large, small = published_thinker_config("7b"), published_thinker_config("3b")
    for tower in ("vision_config", "audio_config"):
        a, b = getattr(large, tower).to_dict(), getattr(small, tower).to_dict()
        different = {k for k in a if a[k] != b[k]}
        assert different == {"out_hidden_size" if tower == "vision_config" else "output_dim"}
    assert small.vision_config.out_hidden_size == small.audio_config.output_dim == 2048
    text = small.text_config
    assert text.hidden_size // text.num_attention_heads == 128
    assert count_parameters(small) < count_parameters(large)


def test_token_ids_can_be_another_tokenizers():
    config = published_thinker_config("3b", video_token_index=7)
    assert config.video_token_id == 7
    assert config.audio_token_id == 151646
    assert config.vision_start_token_id == 151652


def test_a_size_that_was_not_published():
    with pytest.raises(ConfigError, match="'13b' is not known; choose one of: 7b, 3b"):
        published_thinker_config("13b")
