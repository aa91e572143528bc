"""A head before a wall, moved about and filmed.

Coordinates: see `face.py`. A head is drawn once per distinct expression and then moved by one cheap
affine transform per frame over a still background.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

from scripts.tiny.face import HEAD_SPAN, Expression, Look, darker, draw_head


def draw_wall(look: Look, width: int, height: int) -> Image.Image:
    """The background, without the light."""
    rng = np.random.default_rng(look.seed)
    image = Image.new("RGB", (width, height), look.wall)
    draw = ImageDraw.Draw(image)
    if look.wall_kind == "gradient":
        mix = np.linspace(0, 1, height)[:, None, None]
        rows = (1 - mix) * np.array(look.wall) + mix * np.array(look.wall_end)
        return Image.fromarray(np.broadcast_to(rows, (height, width, 3)).astype(np.uint8))
    if look.wall_kind == "shelves":
        for level in np.linspace(0.15, 0.95, 4) * height:
            draw.rectangle((0, level, width, level + height * 0.03), fill=darker(look.wall, 0.6))
            for x in np.arange(0, width, max(4, width // 14)):
                colour = tuple(int(c) for c in rng.integers(40, 210, 3))
                top = level - rng.uniform(0.06, 0.14) * height
                draw.rectangle((x, top, x + width // 18, level), fill=colour)
    elif look.wall_kind == "window":
        x = rng.uniform(0, 0.6) * width
        box = (x, 0.05 * height, x + 0.4 * width, 0.6 * height)
        draw.rectangle(box, fill=(200, 222, 240), outline=darker(look.wall, 0.5), width=3)
        draw.line((x + 0.2 * width, box[1], x + 0.2 * width, box[3]), darker(look.wall, 0.5), 3)
    elif look.wall_kind == "blobs":
        for _ in range(8):
            x, y, radius = (
                rng.uniform(0, width),
                rng.uniform(0, height),
                rng.uniform(0.05, 0.2) * width,
            )
            colour = darker(look.wall, rng.uniform(0.6, 1.4))
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    elif look.wall_kind == "street":
        draw.rectangle((0, 0.7 * height, width, height), fill=(95, 95, 98))
        for x in np.arange(0, width, max(8, width // 6)):
            top = rng.uniform(0.1, 0.5) * height
            colour = darker(look.wall_end, rng.uniform(0.5, 1.2))
            draw.rectangle((x, top, x + width // 7, 0.7 * height), fill=colour)
    elif look.wall_kind == "screen":
        draw.rectangle((0.05 * width, 0.08 * height, 0.95 * width, 0.9 * height), fill=(24, 30, 44))
        for y in np.arange(0.14, 0.86, 0.09) * height:
            end = rng.uniform(0.3, 0.9) * width
            draw.rectangle(
                (0.1 * width, y, end, y + 0.03 * height), fill=darker(look.wall_end, 1.2)
            )
    elif look.wall_kind == "plants":
        for _ in range(14):
            x, y = rng.uniform(0, width), rng.uniform(0.1, 1.0) * height
            green = darker((60, 120, 55), rng.uniform(0.5, 1.4))
            draw.ellipse((x - 0.04 * width, y - 0.16 * height, x + 0.04 * width, y), fill=green)
    elif look.wall_kind == "stripes":
        for x in range(0, width, max(6, width // 10)):
            draw.rectangle((x, 0, x + width // 20, height), fill=darker(look.wall, 0.85))
    return image


def _light(look: Look, width: int, height: int) -> np.ndarray:
    """Brightness over the picture, around 1: [height, width, 1]."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    slope = x * np.cos(look.light_angle) + y * np.sin(look.light_angle)
    return (1 + look.light_strength * slope / 1.4)[..., None].astype(np.float32)


@dataclass(frozen=True)
class Motion:
    """How the head moves in the picture; lengths are parts of the shorter side."""

    face_height: float  # 0.55 to 0.95
    centre_x: float
    centre_y: float
    sway: float
    sway_hz: float
    tilt_degrees: float
    zoom: float  # relative growth from start to end
    blinks_seconds: tuple[float, ...]
    starts_neutral: bool
    grain: float  # sensor noise, grey levels


def _held(times_seconds: np.ndarray, motion: Motion) -> np.ndarray:
    """How much of the expression is shown at each time: it may rise over half a second."""
    level = 1 + 0.05 * np.sin(2 * np.pi * 0.7 * times_seconds + motion.sway_hz)
    if motion.starts_neutral:
        level = level * np.clip(0.3 + 1.4 * times_seconds, 0.3, 1.0)
    return level


def _steps(values: np.ndarray, step: float) -> np.ndarray:
    return np.round(values / step) * step


def film(
    look: Look,
    expression: Expression,
    motion: Motion,
    opening: np.ndarray,
    times_seconds: np.ndarray,
    size: tuple[int, int],
    empty: bool = False,
) -> list[np.ndarray]:
    """All frames of a clip, uint8 RGB [height, width, 3]; `opening` is the mouth's at each time.

    `empty` shows the place with nobody in it.
    """
    width, height = size
    sprite_size = sprite_side(motion, size)
    wall, light = draw_wall(look, width, height), _light(look, width, height)
    rng = np.random.default_rng(look.seed)
    grain = [rng.normal(0, motion.grain, (height, width, 1)) for _ in range(3)]

    @lru_cache(maxsize=64)
    def head(held: float, wide: float, blink: bool) -> Image.Image:
        shown = Expression(
            expression.mouth * held, expression.brow * held, 0.0 if blink else expression.eyes
        )
        return draw_head(look, shown, wide, sprite_size)

    levels = _steps(_held(times_seconds, motion), 0.08)
    gaps = _steps(opening, 0.2)
    frames = []
    for index, now in enumerate(times_seconds):
        blink = any(abs(now - b) < 0.07 for b in motion.blinks_seconds)
        sprite = head(float(levels[index]), float(gaps[index]), blink)
        end = float(times_seconds[-1] or 1.0)
        placed = wall if empty else _place(sprite, wall, motion, float(now), end)
        lit = np.asarray(placed, np.float32) * light
        if motion.grain > 0:
            lit = lit + grain[index % 3]
        frames.append(lit.clip(0, 255).astype(np.uint8))
    return frames


def placement(
    motion: Motion, size: tuple[int, int], now: float, end: float, sprite: int
) -> tuple[float, ...]:
    """The affine map (a, b, c, d, e, f) from a pixel of the picture to one of the head's sprite."""
    width, height = size
    short = min(size)
    phase = 2 * np.pi * motion.sway_hz * now
    x = width / 2 + short * (motion.centre_x + motion.sway * np.sin(phase))
    y = height / 2 + short * (motion.centre_y + 0.5 * motion.sway * np.sin(1.7 * phase + 1))
    angle = np.deg2rad(motion.tilt_degrees * np.sin(0.8 * phase + 0.5))
    scale = 1 / (1 + motion.zoom * (now / end - 0.5))
    cos, sin, middle = scale * np.cos(angle), scale * np.sin(angle), sprite / 2
    return (cos, sin, middle - cos * x - sin * y, -sin, cos, middle + sin * x - cos * y)


def head_coordinates(
    motion: Motion, size: tuple[int, int], now: float, end: float, pixels: np.ndarray
) -> np.ndarray:
    """Where pixels [N, 2] (x, y) lie on the head, in its units: 0 the middle, 1 the chin."""
    sprite = sprite_side(motion, size)
    a, b, c, d, e, f = placement(motion, size, now, end, sprite)
    x, y = pixels[:, 0], pixels[:, 1]
    on_sprite = np.stack([a * x + b * y + c, d * x + e * y + f], axis=1)
    return (on_sprite - sprite / 2) / (sprite / (2 * HEAD_SPAN))


def sprite_side(motion: Motion, size: tuple[int, int]) -> int:
    """Pixels of a head's sprite: the head itself is about half of it."""
    return int(np.ceil(motion.face_height * min(size) * HEAD_SPAN))


def _place(
    sprite: Image.Image, wall: Image.Image, motion: Motion, now: float, end: float
) -> Image.Image:
    """The head over the wall at one moment, moved, tilted and zoomed by one affine transform."""
    matrix = placement(motion, wall.size, now, end, sprite.width)
    layer = sprite.transform(wall.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)
    picture = wall.copy()
    picture.paste(layer, (0, 0), layer)
    return picture
