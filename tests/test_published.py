"""The published layout with Qwen's real vocabulary: known ids, exact text, and a Thinker alone."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import make_content
from published import (
    FOREIGN_TENSORS,
    NUM_SHARDS,
    VOCAB_SIZE,
    read_ranks,
    vocabulary_file,
)

from omni_msa.modalities import all_subsets
from omni_msa.model.loading import load_thinker
from omni_msa.model.prompt import QUESTION, SYSTEM, render_frame
from omni_msa.model.thinker import Thinker
from omni_msa.options import MediaOptions

pytestmark = pytest.mark.slow

SPECIAL_IDS = {
    "<|endoftext|>": 151643, "<|im_start|>": 151644, "<|im_end|>": 151645, "<|AUDIO|>": 151646,
    "<|audio_bos|>": 151647, "<|audio_eos|>": 151648, "<|vision_bos|>": 151652,
    "<|vision_eos|>": 151653, "<|vision_pad|>": 151654, "<|IMAGE|>": 151655, "<|VIDEO|>": 151656,
}  # fmt: skip
FILES = {
    "added_tokens.json", "chat_template.json", "config.json", "generation_config.json",
    "merges.txt", "model.safetensors.index.json", "preprocessor_config.json",
    "special_tokens_map.json", "spk_dict.pt", "tokenizer.json", "tokenizer_config.json",
    "vocab.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def loaded(qwen_folder) -> Thinker:
    return load_thinker(str(qwen_folder))


@pytest.fixture(scope="module")
def tokenizer(loaded):
    return loaded.processor.tokenizer


def encode(tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


def test_the_folder_holds_what_a_release_holds(qwen_folder):
    names = {path.name for path in qwen_folder.iterdir()}
    shards = {f"model-{i + 1:05d}-of-{NUM_SHARDS:05d}.safetensors" for i in range(NUM_SHARDS)}
    assert names == FILES | shards
    weight_map = json.loads((qwen_folder / "model.safetensors.index.json").read_text())[
        "weight_map"
    ]
    assert {weight_map[name] for name in FOREIGN_TENSORS} == shards
    assert len(json.loads((qwen_folder / "vocab.json").read_text())) == 151_643
    merges = (qwen_folder / "merges.txt").read_text().splitlines()
    assert len([line for line in merges if not line.startswith("#version")]) == 151_643 - 256


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("user", [872]),
        ("Hello", [9707]),
        ("Hello, world!", [9707, 11, 1879, 0]),
        ("\n", [198]),
        ("2024", [17, 15, 17, 19]),
    ],
)
def test_text_has_the_ids_that_qwen_gives_it(tokenizer, text, ids):
    assert encode(tokenizer, text) == ids


@pytest.mark.parametrize(("token", "number"), SPECIAL_IDS.items())
def test_special_tokens_have_their_published_ids(tokenizer, token, number):
    assert encode(tokenizer, token) == [number]


@pytest.mark.parametrize(
    "text",
    [
        "I can't believe it; she'd gone.",
        "  two spaces\tand a tab \n\n  and lines\r\n",
        "这部电影真好看，我很喜欢！",
        "👩‍👩‍👧 🙂🇫🇷 so happy",
        "0123456789 and 3.14",
        "Ünïcödé — “quoted” … ﷽",
    ],
)
def test_text_comes_back_as_it_went_in_and_as_tiktoken_splits_it(tokenizer, text):
    tiktoken = pytest.importorskip("tiktoken", reason="comes with dashscope")
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    file = vocabulary_file()
    assert file is not None
    reference = tiktoken.Encoding(
        "qwen", pat_str=PRETOKENIZE_REGEX, mergeable_ranks=read_ranks(file), special_tokens={}
    )
    ids = encode(tokenizer, text)
    assert tokenizer.decode(ids) == text
    assert ids == reference.encode(text)


def test_each_digit_is_a_token(tokenizer):
    ids = encode(tokenizer, "9876543210")
    assert ids == [24, 23, 22, 21, 20, 19, 18, 17, 16, 15]


def test_no_token_reaches_from_the_question_into_what_follows(loaded, tokenizer):
    frame = render_frame(loaded.processor)
    assert frame.prefix == (f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{QUESTION}")
    assert frame.suffix == "<|im_end|>\n<|im_start|>assistant\n"
    prefix = encode(tokenizer, frame.prefix)
    assert prefix[0] == 151644 and 872 in prefix
    assert tokenizer.decode(prefix[-1]) == ".\n"
    for after in ("Words: yes", "<|vision_bos|>", "<|audio_bos|>", frame.suffix):
        joined = encode(tokenizer, frame.prefix + after)
        assert joined == prefix + encode(tokenizer, after)


def test_the_thinker_loads_alone(loaded):
    state = loaded.core.state_dict()
    assert not [name for name in state if "talker" in name or "token2wav" in name]
    assert loaded.core.get_input_embeddings().weight.shape == (VOCAB_SIZE, loaded.width)
    assert loaded.core.lm_head.weight.shape == (VOCAB_SIZE, loaded.width)
    assert loaded.pad_token_id == 151643
    assert loaded.config.user_token_id == 872
    assert (loaded.config.video_token_id, loaded.config.audio_token_id) == (151656, 151646)


def test_a_clip_goes_through_it(loaded):
    inputs = loaded.builder().build(make_content("真好看! I love it."), MediaOptions())
    subsets = all_subsets(inputs.present)
    with torch.inference_mode():
        hidden = loaded.forward(loaded.batch([inputs], [subsets]))
    assert hidden.shape == (1, len(subsets), loaded.width)
    assert torch.isfinite(hidden).all()
    assert len(hidden[0].unique(dim=0)) == len(subsets) == 8
