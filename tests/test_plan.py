"""The plan's tokens are those that are built; its bytes are those that are allocated."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from conftest import make_content

from omni_msa.__main__ import main
from omni_msa.errors import ConfigError, ModelError
from omni_msa.media.sampling import plan_frames
from omni_msa.modalities import Subset, all_subsets
from omni_msa.model.estimates import GIB, Holding, lora_parameters, model_size
from omni_msa.model.packing import pack
from omni_msa.model.published import published_thinker_config
from omni_msa.options import PROMPT_VERSION, MediaOptions
from omni_msa.scoring.planning import (
    PromptTokens,
    Workload,
    count_tokens,
    estimate,
    fit,
    make_plan,
)

SMALL = MediaOptions(max_pixels=16 * 784, max_frames=8)


@pytest.fixture(scope="module")
def size_7b():
    return model_size(published_thinker_config("7b"))


def content_of(work: Workload):
    """A clip as the reader would give it for this workload."""
    frames = plan_frames(work.extent().picture_track(), work.media)
    return make_content(
        "I love this film, it is wonderful.",
        work.seconds,
        len(frames.times_seconds),
        (frames.height, frames.width),
    )


@pytest.mark.parametrize("hidden", [set(), {"video"}, {"audio"}, {"text"}, {"video", "audio"}])
@pytest.mark.parametrize(("seconds", "width", "height"), [(3.0, 640, 480), (7.37, 360, 640)])
def test_tokens_are_those_that_are_built_and_packed(thinker, seconds, width, height, hidden):
    builder, prompt = thinker.builder(), PromptTokens.of(thinker.builder())
    shown: Subset = frozenset({"text", "audio", "video"} - hidden)
    work = Workload(seconds, 0, SMALL, width, height, shown)
    inputs = builder.build(content_of(work), SMALL, frozenset(hidden))
    text = inputs.num_tokens.get("text", prompt.lead_in) - prompt.lead_in
    tokens = count_tokens(replace(work, text_tokens=text), prompt)
    assert tokens.total == inputs.num_tokens["total"]
    for modality in shown:
        assert tokens.parts[modality].tokens == inputs.num_tokens[modality]
    assert tokens.packed == len(pack(inputs, all_subsets(shown)).token_ids)
    if "video" in shown:
        assert tokens.parts["video"].tower == len(inputs.features["video"].pixels)
    full = count_tokens(replace(work, text_tokens=text, subsets="full"), prompt)
    assert full.packed == full.total == tokens.total


def test_long_clips_are_cut_as_they_are_when_read(thinker):
    media = replace(SMALL, max_audio_seconds=2.0, max_text_tokens=5)
    prompt = PromptTokens.of(thinker.builder())
    tokens = count_tokens(Workload(60.0, 500, media), prompt)
    assert tokens.parts["audio"].tokens == 50 + 2
    assert tokens.parts["text"].tokens == 5 + prompt.lead_in


@pytest.mark.slow
def test_the_default_prompt_is_qwens(qwen_folder):
    from omni_msa.model.loading import load_thinker

    assert PromptTokens() == PromptTokens.of(load_thinker(str(qwen_folder)).builder())
    assert PROMPT_VERSION == "2", "count the prompt's tokens again"


def test_the_published_model_in_four_bits(size_7b):
    assert size_7b.parameters == 8_931_813_888
    assert lora_parameters(size_7b, Holding()) == 103_043_072
    assert lora_parameters(size_7b, Holding(lora_scope="language")) == 80_740_352
    whole = estimate(size_7b, Workload(8.0), Holding(quantize="none")).bytes
    assert whole.weights == 2 * 8_931_813_888
    packed = estimate(size_7b, Workload(8.0), Holding()).bytes  # auto: 4-bit
    linear = sum(a * b for _, a, b in size_7b.linears)
    assert 0.515 < (packed.weights - 2 * size_7b.others) / linear < 0.517
    on_cpu = estimate(size_7b, Workload(8.0), Holding(device="cpu", quantize="none")).bytes
    assert on_cpu.weights == 2 * whole.weights


def test_a_layer_of_bitsandbytes_takes_what_is_counted():
    from bitsandbytes.functional import quantize_4bit

    from omni_msa.model.estimates import _linear_bytes

    packed, state = quantize_4bit(torch.randn(100, 130), quant_type="nf4", compress_statistics=True)
    tensors = (packed, state.absmax, state.code, state.state2.absmax)
    held = sum(t.numel() * t.element_size() for t in tensors)
    counted = _linear_bytes(100 * 130, 100, Holding(device="cpu", quantize="4bit"))
    assert counted == held + 4 * 256  # the table of the second step, shared by all layers or not


def live_peak(job) -> int:
    """Peak of the bytes that are allocated while a job runs."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        job()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


@pytest.mark.slow
@pytest.mark.parametrize("task", ["score", "train"])
def test_activations_are_near_what_is_allocated(task):
    """The embedded model, with its published adapter and checkpointing as in training."""
    from omni_msa.files.labels import LabelSpace
    from omni_msa.methods import Labels, make_method
    from omni_msa.model.loading import load_thinker
    from omni_msa.model.lora import LoraSettings, add_lora

    thinker = load_thinker("tiny")
    add_lora(thinker, LoraSettings(32, 32, 0.1))
    readout = make_method("regression", thinker, LabelSpace())
    thinker.model.train(task == "train")
    thinker.core.gradient_checkpointing_enable({"use_reentrant": False})
    work = Workload(8.0, purpose=task)
    inputs = thinker.builder().build(content_of(work), work.media)
    subsets = all_subsets(inputs.present)
    size, prompt = model_size(thinker.config), PromptTokens.of(thinker.builder())
    work = replace(work, text_tokens=inputs.num_tokens["text"] - prompt.lead_in)
    holding = Holding(device="cpu", quantize="none")
    planned = estimate(size, work, holding, prompt).bytes.activations

    def score() -> None:
        with torch.inference_mode():
            readout.read(thinker, [inputs], [subsets])

    def train() -> None:
        labels = torch.ones(1, len(subsets))
        readout.losses(thinker, [inputs], [subsets], Labels(labels)).mean().backward()

    job = {"score": score, "train": train}[task]
    if task == "train":
        planned += 4 * lora_parameters(size, holding)  # the gradients
    assert 0.8 < planned / live_peak(job) < 1.5


def test_what_is_asked_for_more_costs_more(size_7b):
    def total(work: Workload, holding: Holding | None = None) -> int:
        return estimate(size_7b, work, holding or Holding()).bytes.total

    work = Workload(8.0, purpose="train")
    assert total(work) > total(replace(work, purpose="score"))
    assert total(work) < total(replace(work, batch_size=4)) < total(replace(work, batch_size=8))
    assert total(work) > total(replace(work, subsets="full"))
    assert total(work) < total(replace(work, seconds=30.0))
    assert total(work) > total(work, Holding(lora_scope="language"))
    assert total(work) > total(work, Holding(adam_8bit=True))
    assert total(work) < total(work, Holding(checkpointing=False))


def test_fit_gives_up_batch_then_pixels_then_frames(size_7b):
    holding = Holding(adam_8bit=True)
    asked = Workload(16.0, purpose="train", batch_size=8)
    ample = fit(80 * GIB, size_7b, asked, holding)
    assert ample == asked
    smaller = fit(16 * GIB, size_7b, asked, holding)
    assert smaller.batch_size < 8 and smaller.media == asked.media
    assert estimate(size_7b, smaller, holding).bytes.total <= 16 * GIB
    alone = estimate(size_7b, replace(asked, batch_size=1), holding).bytes.total
    tight = fit(alone - 1, size_7b, asked, holding)
    assert tight.media.max_pixels < asked.media.max_pixels
    assert tight.media.max_frames == asked.media.max_frames


def test_nothing_fits(size_7b):
    with pytest.raises(ConfigError, match=r"budget of 4\.0 GiB is too small.*needs \d+\.\d GiB"):
        fit(4 * GIB, size_7b, Workload(16.0, purpose="train"), Holding())


def test_a_plan_says_all_that_there_is_to_print(base_folder):
    row = make_plan("7b", Workload(8.0, purpose="train"), Holding(), 24 * GIB).to_json()
    assert row["trainable_percent"] == 1.1405
    assert row["gib"]["total"] <= 0.95 * row["budget_gib"] and row["budget_gib"] == 24.0
    assert row["holding"]["quantize"] == "4bit"
    assert row["tokens"]["packed"] > row["tokens"]["total"]
    assert make_plan("Qwen/Qwen2.5-Omni-7B", Workload(8.0), Holding()).parameters == 8_931_813_888
    assert make_plan(str(base_folder), Workload(8.0), Holding()).holding.quantize == "none"


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("no/such/folder", ModelError, "no such folder"),
        ("someone/another", ModelError, "its sizes are not known here; give 7b or 3b"),
    ],
)
def test_models_that_cannot_be_planned(model, error, message):
    with pytest.raises(error, match=message):
        make_plan(model, Workload(8.0), Holding())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Workload(0.0),
        lambda: Workload(8.0, purpose="dream"),
        lambda: Workload(8.0, subsets="some"),
        lambda: Workload(8.0, modalities=frozenset({"smell"})),
        lambda: Holding(device="tpu"),
        lambda: Holding(lora_scope="half"),
    ],
)
def test_what_cannot_be_asked_for(wrong):
    with pytest.raises(ConfigError):
        wrong()


def test_what_is_not_trained_is_not_planned_to_be_computed_again(capsys):
    for method, expected in (("mse-adapter", False), ("regression", True)):
        command = ["plan", "--model", "7b", "--task", "train", "--method", method]
        assert main([*command, "--seconds", "5", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["holding"]["checkpointing"] == expected


@pytest.mark.parametrize(("more", "scope"), [([], "language"), (["--lora-scope", "all"], "all")])
def test_the_scope_is_the_methods_own_unless_it_is_given(capsys, more, scope):
    command = ["plan", "--model", "7b", "--task", "train", "--method", "lrcmt", "--seconds", "5"]
    assert main([*command, *more, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["holding"]["lora_scope"] == scope


def test_what_looks_at_nothing_of_a_clip_is_not_planned():
    with pytest.raises(ConfigError, match="ecg-mamba looks at no text or audio or video"):
        make_plan("7b", Workload(8.0, method="ecg-mamba"), Holding())
