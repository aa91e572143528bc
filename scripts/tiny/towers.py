"""Warms up one tower of the tiny base: what does the face do, how does the voice sound?

    python -m scripts.tiny.towers audio OUT --start BASE --corpus CORPUS --valid VALID --steps 2000
    python -m scripts.tiny.towers vision OUT --start BASE --valid VALID --steps 1000

A tower's tokens are mapped linearly to the generator's settings: mouth, brow and eyes, or pitch,
range, pace and loudness. The vision tower is shown freshly drawn faces, and each of its tokens also
learns where on the head it lies: whether a line slants up or down only means a smile once it is
known on which side of the mouth it is. The linear maps are thrown away; `pretrain.py` then teaches
the language model to read the tokens.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from omni_msa.model.encoders import hear, see
from omni_msa.model.inputs import ThinkerInputs
from omni_msa.model.loading import load_thinker
from omni_msa.model.thinker import Thinker
from omni_msa.values import Frames, Waveform
from scripts.tiny.clip_store import StoredClip, load_store
from scripts.tiny.clips import draw_motion
from scripts.tiny.examples import augment
from scripts.tiny.face import Expression, draw_look, turned
from scripts.tiny.loop import Loop, Schedule
from scripts.tiny.pretrain import media_options, quick_patches
from scripts.tiny.scene import film, head_coordinates

SHOWN_FRAMES = 4  # of a clip, a step: two temporal grids
SIZES = ((168, 168), (168, 168), (196, 112), (140, 168), (112, 196), (196, 140))
PLACE_WEIGHT = 0.5
MOUTH, BROWS = 0.56, -0.3  # heights, in head units
CROP = (56, 84)  # height and width of a close-up
CLOSE_UPS = 96  # a step
EASY = 0.24  # mean error below which the close-ups may lie a pixel further off


@dataclass(frozen=True)
class Lesson:
    """What a tower is shown, and what it should tell: settings, and a place for each token."""

    inputs: ThinkerInputs
    settings: tuple[float, ...]
    places: np.ndarray | None = None  # [tokens, 2], head units


def from_clip(thinker: Thinker, clip: StoredClip, which: str, rng: random.Random | None) -> Lesson:
    """A clip of the corpus; varied when `rng` is given."""
    content = augment(clip.content, rng) if rng else clip.content
    builder = thinker.builder()
    features: dict[str, Any] = {}
    if which == "vision":
        frames = content.parts["video"]
        assert isinstance(frames, Frames)
        features["video"] = builder.patches(replace(frames, rgb=frames.rgb[-SHOWN_FRAMES:]))
    else:
        sound = content.parts["audio"]
        assert isinstance(sound, Waveform)
        features["audio"] = builder.log_mel(sound)
    inputs = ThinkerInputs(builder.prefix, {}, builder.prefix, features)
    return Lesson(inputs, tuple((clip.face if which == "vision" else clip.voice).values()))


@dataclass(frozen=True)
class DrawnFace:
    """Four frames [4, H, W, 3], the settings, tokens' places, and where mouth and brows are."""

    rgb: np.ndarray
    settings: tuple[float, float, float]
    places: np.ndarray  # [tokens of two grids, 2], head units
    spots: np.ndarray  # [2 grids, mouth or brows, 2], pixels


def draw(seed: int) -> DrawnFace:
    """A fresh face, by its seed."""
    rng = np.random.default_rng([seed, 3])
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    shown = Expression(rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.65, 1.15))
    motion = replace(draw_motion(rng), starts_neutral=False)
    times = np.arange(SHOWN_FRAMES) * 0.5
    opening = rng.uniform(0, 1, SHOWN_FRAMES) * (rng.random() < 0.8)
    look = draw_look(rng)
    frames = film(look, shown, motion, opening, times, (width, height))
    y, x = np.mgrid[14:height:28, 14:width:28]
    centres = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    places = [
        head_coordinates(motion, (width, height), now, times[-1], centres) for now in times[::2]
    ]
    y, x = np.mgrid[0:height:2, 0:width:2]
    pixels = np.stack([x.ravel(), y.ravel()], axis=1).astype(float)
    across = turned(look)(0.0)  # where a turned head has its middle
    spots = []
    for now in times[::2]:
        fine = head_coordinates(motion, (width, height), now, times[-1], pixels)
        spots.append(
            [pixels[np.abs(fine - (across, spot)).sum(1).argmin()] for spot in (MOUTH, BROWS)]
        )
    settings = (shown.mouth, shown.brow, shown.eyes)
    return DrawnFace(np.stack(frames), settings, np.concatenate(places), np.array(spots))


def draw_faces(count: int, seed: int) -> list[DrawnFace]:
    """Many fresh faces, by two processes."""
    first = 10**7 * (seed + 1)
    with multiprocessing.Pool(2) as pool:
        return pool.map(draw, range(first, first + count), chunksize=20)


def drawn_lesson(thinker: Thinker, faces: list[DrawnFace], rng: random.Random) -> Lesson:
    """One of the drawn faces, mirrored and lit differently each time."""
    face = rng.choice(faces)
    rgb, places = face.rgb, face.places
    if rng.random() < 0.5:  # mirrored
        height, width = rgb.shape[1:3]
        rgb = rgb[:, :, ::-1]
        places = places.reshape(2, height // 28, width // 28, 2)[:, :, ::-1].reshape(-1, 2)
        places = places * np.array([-1.0, 1.0])
    frames = Frames(_light(rgb, rng), (0.0,) * SHOWN_FRAMES, 0.5)
    builder = thinker.builder()
    features = {"video": builder.patches(frames)}
    inputs = ThinkerInputs(builder.prefix, {}, builder.prefix, features)
    return Lesson(inputs, face.settings, places)


def _light(rgb: np.ndarray, rng: random.Random) -> np.ndarray:
    gain, lift = rng.uniform(0.8, 1.2), rng.uniform(-15, 15)
    return (np.arange(256) * gain + lift).clip(0, 255).astype(np.uint8)[rgb]


def close_ups(
    faces: list[DrawnFace],
    rng: random.Random,
    image: tuple[torch.Tensor, torch.Tensor],
    shift: int = 14,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A batch of mouths and brows, cut out at the size they have in the picture.

    A picture of 24 patches instead of 288 lets the tower see ten times as many.

    Returns:
        patches [B * 24, 1176], what to tell [B], and whether it is the mouth (0) or the brow (1).
    """
    height, width = CROP
    crops, targets, kinds = [], [], []
    while len(crops) < CLOSE_UPS:
        face = rng.choice(faces)
        grid, kind = rng.randrange(2), rng.randrange(2)
        x, y = face.spots[grid, kind]
        left = int(x) - width // 2 + rng.randint(-shift, shift)
        top = int(y) - height // 2 + rng.randint(-shift, shift)
        frames = face.rgb[2 * grid : 2 * grid + 2]
        left = min(max(left, 0), frames.shape[2] - width)
        top = min(max(top, 0), frames.shape[1] - height)
        crop = frames[:, top : top + height, left : left + width]
        if rng.random() < 0.5:
            crop = crop[:, :, ::-1]
        crops.append(_light(crop, rng))
        targets.append(face.settings[kind])
        kinds.append(kind)
    pixels = torch.from_numpy(np.stack(crops)).permute(0, 1, 4, 2, 3).float() / 255
    pixels = (pixels - image[0]) / image[1]  # [B, 2, 3, H, W]
    rows, columns = height // 28, width // 28
    split = pixels.reshape(len(crops), 2, 3, rows, 2, 14, columns, 2, 14)
    patches = split.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(-1, 1176)
    return patches, torch.tensor(targets), torch.tensor(kinds)


def whiten_patches(thinker: Thinker, patches: torch.Tensor) -> None:
    """Starts the patch embedding as a whitening of patches [P, 1176].

    Brightness and colour fill a patch, lines hardly count in it; whitened, they count alike, and a
    small tower learns from them in minutes rather than hours.
    """
    weight = thinker.core.model.visual.patch_embed.proj.weight
    values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
    width = weight.shape[0]
    kept, basis = values[-width:], vectors[:, -width:]
    rows = (basis / (kept + 1e-4 * values[-1]).sqrt()).T  # [width, 1176]
    with torch.no_grad():
        weight.copy_(rows.reshape(weight.shape))


def train_close(thinker: Thinker, faces: list[DrawnFace], kept: Path, arguments) -> None:
    """The vision tower's first lesson: the mouth's curve and the brow's slant, close up."""
    processor = thinker.processor.video_processor
    mean = torch.tensor(processor.image_mean).view(1, 1, 3, 1, 1)
    deviation = torch.tensor(processor.image_std).view(1, 1, 3, 1, 1)
    image = (mean, deviation)
    tower = thinker.core.model.visual
    tower.train().requires_grad_(True)
    rng = random.Random(arguments.seed)
    whiten_patches(thinker, torch.cat([close_ups(faces, rng, image)[0] for _ in range(12)]))
    torch.manual_seed(arguments.seed)
    reader = torch.nn.Linear(thinker.width, 2)
    grids = torch.tensor([[1, CROP[0] // 14, CROP[1] // 14]] * CLOSE_UPS)
    schedule = Schedule(arguments.close_steps, 1e-3, arguments.seed, warm_up=50, floor=0.1)
    loop = Loop("close-ups", schedule, {"tower": tower, "reader": reader}, kept)
    now = loop.memory
    now |= {"shift": 0, "since": 0, "error": 0.5}  # from aligned to anywhere, by and by

    def step_loss(step: int, rng: random.Random) -> float:
        patches, targets, kinds = close_ups(faces, rng, image, int(now["shift"]))
        tokens = tower(patches, grid_thw=grids).pooler_output
        outputs = reader(tokens.view(CLOSE_UPS, -1, thinker.width).mean(1))
        loss = (outputs.gather(1, kinds[:, None])[:, 0] - targets).abs().mean()
        loss.backward()
        now["since"] += 1
        now["error"] = 0.95 * now["error"] + 0.05 * float(loss.detach())
        if now["error"] < EASY and now["since"] > 10 and now["shift"] < 16:
            now["shift"], now["since"] = now["shift"] + 1, 0
        return float(loss.detach())

    parameters = [*tower.parameters(), *reader.parameters()]
    loop.run(parameters, step_loss, lambda: f"shifted by {now['shift']}, error {now['error']:.3f}")


class Reader(torch.nn.Module):
    """What is read off a tower's tokens while it warms up; thrown away afterwards."""

    def __init__(self, width: int, num_settings: int) -> None:
        super().__init__()
        self.attention = torch.nn.Linear(width, num_settings)
        self.value = torch.nn.Linear(width, num_settings)
        self.place = torch.nn.Linear(width, 2)

    def forward(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens [l, H] -> settings [n] (an attention over tokens each), the same as every token
        would tell them [l, n], and places [l, 2]."""
        tokens = tokens.float()
        outputs = self.value(tokens)
        settings = (self.attention(tokens).softmax(0) * outputs).sum(0)
        return settings, outputs, self.place(tokens)


def read(thinker: Thinker, reader: Reader, lessons: list[Lesson], which: str) -> list[tuple]:
    """What the reader makes of each lesson."""
    modality, embed = ("video", see) if which == "vision" else ("audio", hear)
    features = embed(thinker, [lesson.inputs.features[modality] for lesson in lessons])
    return [reader(feature) for feature in features]


def lesson_loss(readings: list[tuple], lessons: list[Lesson]) -> torch.Tensor:
    """L1 on settings; and, where the places are known, on those of the tokens on or near the head,
    and on the settings that each token on the face tells."""
    losses, places, dense = [], [], []
    for (settings, outputs, place), lesson in zip(readings, lessons, strict=True):
        targets = torch.tensor(lesson.settings)
        losses.append((settings - targets).abs())
        if lesson.places is not None:
            truth = torch.from_numpy(lesson.places).float()
            near = truth.abs().amax(1) < 1.3
            places.append((place[near] - truth[near]).abs())
            dense.append((outputs[truth.abs().amax(1) < 0.8] - targets).abs())
    loss = torch.cat(losses).mean()
    if places:
        loss = loss + PLACE_WEIGHT * torch.cat(places).mean() + torch.cat(dense).mean()
    return loss


@torch.no_grad()
def check(thinker: Thinker, reader: Reader, clips: list[StoredClip], which: str) -> list[float]:
    """Correlation of each setting on encoded clips that were not trained on."""
    guesses, truths = [], []
    for start in range(0, len(clips), 16):
        lessons = [from_clip(thinker, c, which, None) for c in clips[start : start + 16]]
        guesses += [settings for settings, _, _ in read(thinker, reader, lessons, which)]
        truths += [lesson.settings for lesson in lessons]
    pairs = zip(torch.stack(guesses).numpy().T, np.array(truths).T, strict=True)
    return [round(float(np.corrcoef(g, t)[0, 1]), 3) for g, t in pairs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tower", choices=["vision", "audio"])
    parser.add_argument("out", type=Path, help="a .safetensors file")
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, help="for the audio tower")
    parser.add_argument("--valid", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--learning-rate", type=float, default=8e-4)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--faces", type=int, default=4000, help="drawn for the vision tower")
    parser.add_argument("--close-steps", type=int, default=700, help="of the vision tower")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    options, which = media_options(), arguments.tower
    needed = {"vision": "video", "audio": "audio"}[which]
    valid = [c for c in load_store(arguments.valid, options) if needed in c.content.present][:100]
    thinker = load_thinker(str(arguments.start))
    quick_patches(thinker)
    core = thinker.core.model
    tower = core.visual if which == "vision" else core.audio_tower
    close = arguments.out.with_suffix(".close.state")
    if which == "vision":
        faces = draw_faces(arguments.faces, arguments.seed)
        train_close(thinker, faces, close, arguments)
        lesson = partial(drawn_lesson, thinker, faces)
    else:
        clips = [c for c in load_store(arguments.corpus, options) if needed in c.content.present]
        lesson = partial(corpus_lesson, thinker, clips, which)
    tower.train().requires_grad_(True)
    train(thinker, tower, lesson, valid, arguments)
    state = {k: v.detach().contiguous() for k, v in tower.state_dict().items()}
    save_file(state, arguments.out, metadata={"tower": which})
    for kept in (close, arguments.out.with_suffix(".state")):
        kept.unlink(missing_ok=True)


def corpus_lesson(
    thinker: Thinker, clips: list[StoredClip], which: str, rng: random.Random
) -> Lesson:
    """One of the corpus's clips, varied."""
    return from_clip(thinker, rng.choice(clips), which, rng)


def train(
    thinker: Thinker, tower: torch.nn.Module, lesson: Callable[[random.Random], Lesson],
    valid: list[StoredClip], arguments,
) -> None:  # fmt: skip
    """The tower and a reader of its tokens, on `--batch` lessons a step."""
    which = arguments.tower
    torch.manual_seed(arguments.seed)
    reader = Reader(thinker.width, {"vision": 3, "audio": 4}[which])
    schedule = Schedule(arguments.steps, arguments.learning_rate, arguments.seed)
    kept = arguments.out.with_suffix(".state")
    loop = Loop(which, schedule, {"tower": tower, "reader": reader}, kept)

    def step_loss(step: int, rng: random.Random) -> float:
        part = [lesson(rng) for _ in range(arguments.batch)]
        loss = lesson_loss(read(thinker, reader, part, which), part)
        loss.backward()
        return float(loss.detach())

    parameters = [*tower.parameters(), *reader.parameters()]
    loop.run(parameters, step_loss, lambda: f"r {check(thinker, reader, valid, which)}")


if __name__ == "__main__":
    main()
