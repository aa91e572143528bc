"""Memory and time of the published Thinkers on this machine, beside what the planner says.

    python -m scripts.bench.thinker --size 7b|3b|tiny --device cpu|cuda [--steps 3] [--seconds 4 8]

7b and 3b have random weights that are drawn in the quantized form (NF4, double quantization), so
that no float copy of the model ever exists; what is not quantized is, as `omni-msa` loads it,
bfloat16 on a GPU and float32 on a CPU. tiny is the embedded base, unquantized. Each clip (noise for
picture and sound, twenty words) is scored, scored with its eight subsets in one pass, answered in
words (eight tokens, greedily), and trained on for a step. A peak is that of the phase: allocated
tensors on a GPU, resident memory of the process on a CPU. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from omni_msa.files.labels import LabelSpace
from omni_msa.media.sampling import plan_frames
from omni_msa.methods import Labels, Method, make_method
from omni_msa.methods.generative import greedy
from omni_msa.modalities import all_subsets
from omni_msa.model.estimates import GIB, Holding, model_size
from omni_msa.model.loading import TINY, load_thinker, quiet_loading
from omni_msa.model.lora import LoraSettings, add_lora
from omni_msa.model.memory import return_large_blocks
from omni_msa.model.packing import pack
from omni_msa.model.published import published_thinker_config
from omni_msa.model.thinker import LoadedBase, Thinker
from omni_msa.options import MediaOptions
from omni_msa.scoring.planning import PromptTokens, Workload, estimate
from omni_msa.values import SAMPLE_RATE, Clip, ClipContent, Frames, Transcript, Waveform
from scripts.bench.memory import PeakMeter

SCALE = LabelSpace()
WORDS = "I really did not expect to like it this much, and then the ending made me cry again."
# Two slow cores: four small frames, so that a 7B pass takes seconds and not minutes.
SMALL = MediaOptions(max_frames=4, max_pixels=32 * 784)
DEFAULT_SECONDS = {"cpu": (2.0, 4.0), "cuda": (4.0, 8.0, 16.0, 30.0)}
BATCH = {"cpu": 1, "cuda": 8}  # clips of the batched pass
HEADLINES = (  # of the longest clip, at the top of the JSON
    "peak_gib", "seconds_forward", "seconds_verbalizer", "seconds_generate", "seconds_packed",
    "seconds_train_step", "clips_per_second", "planned_gib",
)  # fmt: skip
NF4_DEVIATION = 0.45  # of a uniformly drawn NF4 code
MOVED = (  # ids that the model must share with the processor
    "audio_token_index", "image_token_index", "video_token_index", "audio_start_token_id",
    "audio_end_token_id", "vision_start_token_id", "vision_end_token_id", "pad_token_id",
    "bos_token_id", "eos_token_id", "user_token_id",
)  # fmt: skip


def element_type(device: str) -> torch.dtype:
    """What is not quantized, and what is computed in."""
    return torch.bfloat16 if device == "cuda" else torch.float32


def random_linear(linear: nn.Linear, device: str) -> Any:
    """A bitsandbytes layer of that shape whose packed NF4 weight is drawn, never quantized.

    The state is what `quantize_4bit(..., compress_statistics=True)` makes: a byte a block of 64,
    a float a block of 256 of those, and an offset. Scales lie within a fifth of what keeps the
    outputs as large as the inputs.
    """
    from bitsandbytes.functional import QuantState, create_dynamic_map, get_4bit_type
    from bitsandbytes.nn import Linear4bit, Params4bit

    outputs, inputs = linear.weight.shape
    count = outputs * inputs
    blocks = -(-count // 64)
    scale = inputs**-0.5 / NF4_DEVIATION
    nested = QuantState(
        absmax=torch.full((-(-blocks // 256),), 0.2 * scale, device=device),
        code=create_dynamic_map().to(device),
        blocksize=256,
        dtype=torch.float32,
    )
    state = QuantState(
        absmax=torch.randint(0, 256, (blocks,), dtype=torch.uint8, device=device),
        shape=torch.Size((outputs, inputs)),
        code=get_4bit_type("nf4", device=device),
        blocksize=64,
        quant_type="nf4",
        dtype=element_type(device),
        offset=torch.tensor(scale, device=device),
        state2=nested,
    )
    packed = torch.randint(0, 256, (-(-count // 2), 1), dtype=torch.uint8, device=device)
    layer = Linear4bit(
        inputs,
        outputs,
        bias=linear.bias is not None,
        compute_dtype=element_type(device),
        quant_type="nf4",
        device="meta",
    )
    layer.weight = Params4bit(packed, quant_state=state, quant_type="nf4", bnb_quantized=True)
    layer.quant_state = state
    if linear.bias is not None:
        layer.bias = nn.Parameter(torch.zeros(outputs, dtype=element_type(device), device=device))
    # On processors with AVX512-BF16 it would repack the weight at the first evaluation: that fails
    # for widths not in 32s (3420), and gradients no longer pass through the repacked layer.
    layer.support_avx512bf16_for_cpu = False
    return layer


def random_model(config: Any, device: str) -> Any:
    """A Thinker of that configuration: 4-bit linear layers, the rest as it is."""
    from transformers import Qwen2_5OmniThinkerForConditionalGeneration

    with torch.device("meta"):
        model = Qwen2_5OmniThinkerForConditionalGeneration._from_config(
            config, dtype=element_type(device)
        )
    modules = dict(model.named_modules())
    for name, module in modules.items():
        if isinstance(module, nn.Linear) and name != "lm_head":
            parent, _, child = name.rpartition(".")
            setattr(modules[parent], child, random_linear(module, device))
        else:
            module.to_empty(device=device, recurse=False)
            with torch.no_grad():
                model._init_weights(module)
    model.is_loaded_in_4bit = True  # what PEFT goes by
    return model.eval().requires_grad_(False)


def random_thinker(size: str, device: str) -> Thinker:
    """The published architecture, with the embedded model's processor."""
    from transformers import Qwen2_5OmniConfig, Qwen2_5OmniProcessor

    folder = TINY / "base"
    with quiet_loading():
        processor = Qwen2_5OmniProcessor.from_pretrained(folder)
        tiny_config = Qwen2_5OmniConfig.from_pretrained(folder).thinker_config
    config = published_thinker_config(size, **{name: getattr(tiny_config, name) for name in MOVED})
    return Thinker(
        random_model(config, device), processor, LoadedBase(size, folder, "4bit", device)
    )


def verify(device: str) -> dict[str, float]:
    """Checks the drawn layers against bitsandbytes itself, and the backward pass through them.

    Returns:
        The largest relative difference between a layer and its unpacked product, and the norm of
        the gradient that reaches the first adapted layer.
    """
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit

    worst = 0.0
    for inputs, outputs in ((192, 576), (576, 192), (128, 100), (100, 128)):
        layer = random_linear(nn.Linear(inputs, outputs, device="meta"), device)
        packed, reference = quantize_4bit(
            torch.randn(outputs, inputs, device=device), quant_type="nf4", compress_statistics=True
        )
        state = layer.weight.quant_state
        for ours, theirs in (
            (layer.weight.data, packed),
            (state.absmax, reference.absmax),
            (state.code, reference.code),
            (state.offset, reference.offset),
            (state.state2.absmax, reference.state2.absmax),
            (state.state2.code, reference.state2.code),
        ):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), "not its layout"
        x = torch.randn(7, inputs, dtype=element_type(device), device=device)
        expected = x.float() @ dequantize_4bit(layer.weight.data, state).float().T
        difference = (layer(x).float() - expected).norm() / expected.norm()
        worst = max(worst, float(difference))
    assert worst < 0.02, f"a drawn layer is {worst:.3f} away from its own unpacked weight"
    return {"layer_error": worst, "gradient_norm": _gradient_norm(device)}


def _gradient_norm(device: str) -> float:
    """Norm of the gradient of the language model's first adapter through frozen 4-bit layers."""
    thinker = load_thinker("tiny", device=device)
    thinker.shared.model = random_model(thinker.config, device)
    add_lora(thinker, LoraSettings(4, 4, 0.0))
    readout = make_method("regression", thinker, SCALE)
    inputs = thinker.builder().build(clip_of(2.0, SMALL), SMALL)
    with torch.inference_mode():  # an evaluation first, as between epochs
        readout.read(thinker, [inputs], [[inputs.present]])
    thinker.model.train()
    one = Labels(torch.ones(1, 1, device=device))
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        readout.losses(thinker, [inputs], [[inputs.present]], one).sum().backward()
    (first,) = (
        p
        for name, p in thinker.model.named_parameters()
        if "language_model.layers.0.self_attn.q_proj.lora_B" in name
    )
    norm = float(first.grad.norm()) if first.grad is not None else 0.0
    assert np.isfinite(norm) and norm > 0, "no gradient passes through the 4-bit layers"
    return norm


def clip_of(seconds: float, media: MediaOptions) -> ClipContent:
    """A clip as the reader would give it, with noise for picture and sound."""
    rng = np.random.default_rng(0)
    plan = plan_frames(Workload(seconds).extent().picture_track(), media)
    shape = (len(plan.times_seconds), plan.height, plan.width, 3)
    frames = Frames(
        rng.integers(0, 256, shape, dtype=np.uint8), plan.times_seconds, plan.seconds_per_frame
    )
    sound = Waveform(rng.normal(0, 0.1, int(seconds * SAMPLE_RATE)).astype(np.float32))
    words = Transcript(WORDS, "option")
    return ClipContent(
        Clip(path=Path("bench.mp4")), "", {"video": frames, "audio": sound, "text": words}
    )


def timed(job: Callable[[], Any], device: str, steps: int) -> tuple[Any, float]:
    """What a job returns and its median seconds; on a GPU, after one that is not counted."""
    times = []
    result = None
    for i in range(steps + (device == "cuda")):
        start = time.perf_counter()
        result = job()
        if device == "cuda":
            torch.cuda.synchronize()
        if i or device != "cuda":
            times.append(time.perf_counter() - start)
    return result, round(statistics.median(times), 4)


def measure_scoring(
    thinker: Thinker, readouts: dict[str, Method], seconds: float, media: MediaOptions, steps: int
) -> dict[str, Any]:
    """One clip by each readout, with all its subsets, and in a batch: times and peaks."""
    inputs = thinker.builder().build(clip_of(seconds, media), media)
    whole, subsets = (inputs.present,), all_subsets(inputs.present)
    device = thinker.device.type
    meter = PeakMeter(device)
    row: dict[str, Any] = {
        "seconds": seconds,
        "text_tokens": inputs.num_tokens["text"] - PromptTokens.of(thinker.builder()).lead_in,
        "tokens": inputs.num_tokens["total"],
        "tokens_packed": len(pack(inputs, subsets).token_ids),
    }
    regression, batch = readouts["regression"], BATCH[device]
    jobs: dict[str, Callable[[], Any]] = {
        "forward": lambda: regression.read(thinker, [inputs], [whole]).scores,
        "probe": lambda: readouts["probe"].read(thinker, [inputs], [whole]).scores,
        "verbalizer": lambda: readouts["verbalizer"].read(thinker, [inputs], [whole]).scores,
        "packed": lambda: regression.read(thinker, [inputs], [subsets]).scores,
        # No token is -1: the answer is as long as it may be.
        "generate": lambda: greedy(thinker, thinker.batch([inputs], [whole]), end=-1)[0],
    }
    if batch > 1:
        jobs["batch"] = lambda: regression.read(thinker, [inputs] * batch, [whole] * batch).scores
    for name, job in jobs.items():
        meter.reset()
        with torch.inference_mode():
            result, row[f"seconds_{name}"] = timed(job, device, steps)
        assert bool(torch.isfinite(result).all()), f"{name} gave no numbers"
        row[f"peak_gib_{name}"] = meter.peak() / GIB
        note(f"{seconds:g} s, {name}: {row[f'seconds_{name}']} s")
    row["clips_per_second"] = round(
        batch / row["seconds_batch" if batch > 1 else "seconds_forward"], 3
    )
    return row


class TrainingStep:
    """Forward, backward and AdamW on the packed subsets of one clip, with checkpointing."""

    def __init__(self, thinker: Thinker, readout: Method, media: MediaOptions) -> None:
        return_large_blocks()  # as `train` does
        self.thinker, self.readout, self.media = thinker, readout, media
        # Whole layers are computed again, without the inputs having to ask for a gradient.
        thinker.core.gradient_checkpointing_enable(
            gradient_checkpointing_kwargs={"use_reentrant": False}
        )
        thinker.model.train()
        readout.train()
        parameters = [p for p in thinker.model.parameters() if p.requires_grad]
        parameters += readout.parameters()
        if thinker.device.type == "cuda":
            from bitsandbytes.optim import PagedAdamW8bit

            self.optimizer: Any = PagedAdamW8bit(parameters, lr=1e-4)
        else:
            self.optimizer = torch.optim.AdamW(parameters, lr=1e-4)
        # The Adam states, which every step but the first one holds throughout.
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def measure(self, seconds: float, steps: int) -> dict[str, Any]:
        """Seconds of a step and its peak."""
        thinker = self.thinker
        inputs = thinker.builder().build(clip_of(seconds, self.media), self.media)
        subsets = [all_subsets(inputs.present)]
        labels = Labels(torch.ones(1, len(subsets[0]), device=thinker.device))
        half = thinker.core.dtype == torch.bfloat16
        device = thinker.device.type

        def step() -> None:
            with torch.autocast(device, torch.bfloat16, enabled=half):
                loss = self.readout.losses(thinker, [inputs], subsets, labels).mean()
            loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

        meter = PeakMeter(device)
        meter.reset()
        _, step_seconds = timed(step, device, steps)
        note(f"{seconds:g} s, train: {step_seconds} s")
        return {"seconds_train_step": step_seconds, "peak_gib_train": meter.peak() / GIB}


def planned(thinker: Thinker, seconds: float, text_tokens: int, media: MediaOptions) -> dict:
    """What the estimator says of the same passes. A GPU's peak is compared without overhead."""
    device, how = thinker.device.type, thinker.base.quantize
    half = thinker.core.dtype == torch.bfloat16
    holding = Holding(device=device, quantize=how, adam_8bit=device == "cuda", bf16=half)
    size, prompt = model_size(thinker.config), PromptTokens.of(thinker.builder())
    work = Workload(seconds, text_tokens, media)
    result: dict[str, Any] = {}
    for name, workload in (
        ("forward", replace(work, subsets="full")),
        ("packed", work),
        ("train", replace(work, purpose="train")),
    ):
        need = estimate(size, workload, holding, prompt)
        result[f"planned_gib_{name}"] = (
            need.bytes.total if device == "cpu" else need.bytes.tensors
        ) / GIB
    result["planned_tokens_packed"] = need.tokens.packed
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=("tiny", "3b", "7b"), default="tiny")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--seconds", type=float, nargs="+")
    arguments = parser.parse_args()
    quiet()
    device, steps = arguments.device, arguments.steps
    lengths = sorted(arguments.seconds or DEFAULT_SECONDS[device])
    media = MediaOptions() if device == "cuda" else SMALL
    torch.manual_seed(0)
    result: dict[str, Any] = {
        "size": arguments.size,
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "threads": torch.get_num_threads(),
        "verified": verify(device),
    }
    start = time.perf_counter()
    thinker = (
        load_thinker("tiny", device=device)
        if arguments.size == "tiny"
        else random_thinker(arguments.size, device)
    )
    result["seconds_build"] = round(time.perf_counter() - start, 2)
    note(f"built in {result['seconds_build']} s")
    size = model_size(thinker.config)
    add_lora(thinker, LoraSettings(32, 32, 0.1))
    thinker.model.eval()
    readouts = {
        name: make_method(name, thinker, SCALE).eval()
        for name in ("regression", "probe", "verbalizer")
    }
    trainable = sum(p.numel() for p in thinker.model.parameters() if p.requires_grad)
    result |= {
        "parameters": size.parameters,
        "trainable": trainable,
        "trainable_percent": round(100 * trainable / (size.parameters + trainable), 4),
        "max_frames": media.max_frames,
        "max_pixels": media.max_pixels,
    }
    # All scoring before any training: what training leaves behind would be counted.
    rows = [measure_scoring(thinker, readouts, s, media, steps) for s in lengths]
    training = TrainingStep(thinker, readouts["regression"], media)
    for row in rows:
        row |= training.measure(row["seconds"], steps)
        row |= planned(thinker, row["seconds"], row["text_tokens"], media)
    report(result, rows)


def report(result: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """A small table, then everything as one line of JSON."""
    print(
        f"{result['size']}: {result['parameters']:,} parameters, {result['trainable']:,} trained "
        f"({result['trainable_percent']} %), {result['device']}, {result['threads']} threads; "
        f"at most {result['max_frames']} frames of {result['max_pixels']} pixels"
    )
    print("clip   pass       tokens   seconds   peak GiB   planned   planned/peak")
    for row in rows:
        for name, count in (
            ("forward", "tokens"),
            ("probe", "tokens"),
            ("verbalizer", "tokens"),
            ("generate", "tokens"),
            ("batch", "tokens"),
            ("packed", "tokens_packed"),
            ("train", "tokens_packed"),
        ):
            if name == "batch" and "seconds_batch" not in row:
                continue
            seconds = row["seconds_train_step" if name == "train" else f"seconds_{name}"]
            peak, plan = row[f"peak_gib_{name}"], row.get(f"planned_gib_{name}")
            beside = f"{plan:9.2f}   {plan / peak:9.2f}" if plan else ""
            cells = f"{row[count]:7} {seconds:9.3f} {peak:10.2f} {beside}"
            print(f"{row['seconds']:3g} s  {name:9} {cells}")
        row["peak_gib"] = max(row[k] for k in row if k.startswith("peak_gib_"))
        row["planned_gib"] = row["planned_gib_train"]
    rounded = [
        {k: round(v, 3) if k.startswith(("peak", "planned")) else v for k, v in row.items()}
        for row in rows
    ]
    longest = {key: rounded[-1][key] for key in HEADLINES}
    print(json.dumps(result | longest | {"clips": rounded}))


def note(line: str) -> None:
    """Says on stderr how far it is: on a CPU, 7B takes minutes."""
    print(line, file=sys.stderr, flush=True)


def quiet() -> None:
    """Keeps the libraries' remarks out of the table."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")


if __name__ == "__main__":
    main()
