"""Drawn talking faces with a controlled expression, and the stated face term in [-1.8, 1.8].

Coordinates: the head is centred at (0, 0), y points down, and the face is one unit from the centre
to the chin. `scene.py` moves heads about.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

FACE_LIMIT = 1.8
SUPERSAMPLE = 2
HEAD_SPAN = 1.9  # a sprite shows this many units to each side of the head's centre
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Expression:
    """Mouth curve (-1 down, +1 smile), brow (-1 frown, +1 raised), open eyes (about 0.5 to 1.2)."""

    mouth: float
    brow: float
    eyes: float


def face_term(expression: Expression) -> float:
    """The stated sentiment of a face, in [-1.8, 1.8]: mostly the mouth, partly the brow."""
    value = 1.3 * expression.mouth + 0.5 * expression.brow
    return float(np.clip(value, -FACE_LIMIT, FACE_LIMIT))


@dataclass(frozen=True)
class Look:
    """Everything about a person and a place that carries no sentiment."""

    skin: Colour
    hair: Colour
    iris: Colour
    shirt: Colour
    wall: Colour
    wall_end: Colour
    hair_style: str
    hat: str
    glasses: str
    beard: str
    head_width: float
    jaw: float
    eye_gap: float
    eye_size: float
    nose: float
    mouth_width: float
    lip: float
    wall_kind: str
    light_angle: float
    light_strength: float
    cheeks: float
    age: float  # 0 smooth to 1 wrinkled
    turn_degrees: float  # of the head, to its left or right
    held: str  # what hides a part of the head
    held_side: int
    seed: int


SKINS = (
    (255, 224, 196),
    (241, 194, 155),
    (224, 172, 120),
    (198, 134, 90),
    (141, 85, 52),
    (96, 58, 38),
)
HAIRS = (
    (28, 22, 20), (74, 48, 32), (120, 78, 44), (196, 158, 92), (150, 62, 34), (170, 170, 172),
    (222, 214, 200), (60, 40, 90),
)  # fmt: skip
IRISES = ((70, 50, 30), (60, 90, 140), (70, 110, 70), (40, 40, 45))
HAIR_STYLES = ("short", "long", "bald", "curly", "bun", "fringe", "side")
HATS = ("none",) * 8 + ("cap", "beanie", "brim")
GLASSES = ("none",) * 6 + ("round", "square", "thick", "dark")
BEARDS = ("none",) * 6 + ("full", "stubble", "moustache", "goatee")
WALLS = ("plain", "gradient", "shelves", "window", "blobs", "stripes", "street", "screen", "plants")
HELD = ("none",) * 8 + ("microphone", "mug", "hand", "scarf", "strand")


def draw_look(rng: np.random.Generator) -> Look:
    """A person and a place at random."""

    def pick(items):
        return items[int(rng.integers(len(items)))]

    def shade(colour: Colour, spread: int) -> Colour:
        moved = np.array(colour) + rng.integers(-spread, spread + 1, 3)
        return tuple(int(c) for c in moved.clip(0, 255))

    def any_colour() -> Colour:
        return tuple(int(c) for c in rng.integers(30, 230, 3))

    age = float(max(0.0, rng.uniform(-0.6, 1.0)))
    grey = np.array((205, 203, 200))
    hair = np.array(shade(pick(HAIRS), 15))
    hair = tuple(int(c) for c in hair + max(0.0, 1.6 * age - 0.8) * (grey - hair))
    return Look(
        skin=shade(pick(SKINS), 12), hair=hair, iris=pick(IRISES),
        shirt=any_colour(), wall=any_colour(), wall_end=any_colour(),
        hair_style=pick(HAIR_STYLES), hat=pick(HATS), glasses=pick(GLASSES), beard=pick(BEARDS),
        head_width=rng.uniform(0.70, 0.86), jaw=rng.uniform(0.0, 1.0),
        eye_gap=rng.uniform(0.29, 0.36), eye_size=rng.uniform(0.85, 1.2),
        nose=rng.uniform(0.7, 1.3), mouth_width=rng.uniform(0.85, 1.1), lip=rng.uniform(0.6, 1.4),
        wall_kind=pick(WALLS), light_angle=rng.uniform(0, 2 * np.pi),
        light_strength=rng.uniform(0.0, 0.35), cheeks=rng.uniform(0, 1), age=age,
        turn_degrees=float(np.clip(rng.normal(0, 9.0), -22, 22)), held=pick(HELD),
        held_side=int(rng.choice([-1, 1])),
        seed=int(rng.integers(2**31)),
    )  # fmt: skip


class _Pen:
    """Draws in head units on a supersampled image."""

    def __init__(self, size: int) -> None:
        self.image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
        self.draw = ImageDraw.Draw(self.image)
        self.unit = size / (2 * HEAD_SPAN)
        self.middle = size / 2
        self.turn: Callable[[float], float] = float  # where a turned head has what is at x

    def point(self, x: float, y: float) -> tuple[float, float]:
        return self.middle + self.turn(x) * self.unit, self.middle + y * self.unit

    def oval(self, x: float, y: float, rx: float, ry: float, fill, outline=None, width=0.0) -> None:
        (x0, y0), (x1, y1) = self.point(x - rx, y - ry), self.point(x + rx, y + ry)
        pixels = max(1, round(width * self.unit)) if width else 1
        self.draw.ellipse((x0, y0, x1, y1), fill=fill, outline=outline, width=pixels)

    def shape(self, points: np.ndarray, fill) -> None:
        self.draw.polygon([self.point(x, y) for x, y in points], fill=fill)

    def stroke(self, points: np.ndarray, fill, width: float) -> None:
        pixels = max(1, round(width * self.unit))
        path = [self.point(x, y) for x, y in points]
        self.draw.line(path, fill=fill, width=pixels, joint="curve")
        radius = pixels / 2
        for x, y in (path[0], path[-1]):
            self.draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)


def darker(colour: Colour, factor: float) -> Colour:
    return tuple(int(np.clip(c * factor, 0, 255)) for c in colour)


def turned(look: Look) -> Callable[[float], float]:
    """Where features at x lie on a head that is turned: on a cylinder as wide as the head."""
    radius = 1.15 * look.head_width
    angle = np.deg2rad(look.turn_degrees)

    def place(x: float) -> float:
        own = np.arcsin(np.clip(x / radius, -1.0, 1.0))
        return float(radius * np.sin(np.clip(own + angle, -np.pi / 2, np.pi / 2)))

    return place


def _outline(look: Look, count: int = 40) -> np.ndarray:
    """The head: an oval whose lower half is squarer for a strong jaw."""
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    x, y = np.cos(angle), np.sin(angle)
    power = np.where(y > 0, 1.0 - 0.35 * look.jaw, 1.0)
    x = np.sign(x) * np.abs(x) ** power * (1 - 0.12 * (1 - look.jaw) * (y > 0) * y)
    return np.stack([x * look.head_width, y], 1)


def _behind(pen: _Pen, look: Look) -> None:
    """Shoulders, neck, and hair that falls behind the head."""
    wide = look.head_width
    if look.hair_style == "long":
        pen.oval(0, 0.15, wide * 1.25, 1.25, look.hair)
        pen.shape(
            np.array([[-wide * 1.2, 0.2], [wide * 1.2, 0.2], [wide, 1.5], [-wide, 1.5]]), look.hair
        )
    if look.hair_style == "bun":
        pen.oval(0, -1.12, 0.34, 0.3, look.hair)
    if look.hair_style == "curly":
        for angle in np.linspace(np.pi * 0.95, np.pi * 2.05, 11):
            pen.oval(
                wide * 1.02 * np.cos(angle), -0.1 + 0.95 * np.sin(angle), 0.27, 0.27, look.hair
            )
    pen.shape(
        np.array([[-0.35, 0.6], [0.35, 0.6], [0.42, 1.5], [-0.42, 1.5]]), darker(look.skin, 0.82)
    )
    pen.oval(0, 2.05, 1.55, 0.85, look.shirt)


def _head(pen: _Pen, look: Look) -> None:
    wide = look.head_width
    for side in (-1, 1):
        pen.oval(side * wide, 0.05, 0.12, 0.2, darker(look.skin, 0.9))
    pen.shape(_outline(look), look.skin)
    if look.cheeks > 0.6:
        blush = tuple(int(0.8 * c + 0.2 * b) for c, b in zip(look.skin, (230, 90, 90), strict=True))
        for side in (-1, 1):
            pen.oval(side * wide * 0.58, 0.3, 0.15, 0.11, blush)
    if look.beard in ("full", "stubble"):
        mixed = 0.85 if look.beard == "full" else 0.3
        colour = tuple(
            int(mixed * h + (1 - mixed) * s) for h, s in zip(look.hair, look.skin, strict=True)
        )
        outline = _outline(look, 60)
        lower = outline[outline[:, 1] > 0.15]
        inner = np.array([[-0.55 * wide, 0.32], [0.55 * wide, 0.32]])
        lower = lower[np.argsort(-np.arctan2(lower[:, 1], lower[:, 0]))]
        pen.shape(np.concatenate([lower, inner[::-1]]), colour)
        pen.oval(0, 0.52, 0.48, 0.3, look.skin)


def _hair(pen: _Pen, look: Look) -> None:
    wide, top = look.head_width, _outline(look, 80)
    line = {
        "short": -0.52,
        "long": -0.5,
        "bun": -0.55,
        "curly": -0.5,
        "fringe": -0.36,
        "side": -0.5,
    }
    if look.hair_style != "bald":
        level = line[look.hair_style]
        cap = top[top[:, 1] < level + 0.12] * np.array([1.05, 1.07])
        cap = cap[np.argsort(np.arctan2(cap[:, 1], cap[:, 0]))]
        lean = 0.22 if look.hair_style == "side" else 0.0
        edge = np.linspace(1, -1, 12)
        fringe = np.stack([edge * wide * 0.92, level + 0.1 * edge**2 - lean * edge], 1)
        pen.shape(np.concatenate([cap, fringe]), look.hair)
    if look.hat == "beanie":
        pen.shape(_arc_cap(wide * 1.1, -0.48, 0.75), look.shirt)
        pen.stroke(
            np.array([[-wide * 1.05, -0.5], [wide * 1.05, -0.5]]), darker(look.shirt, 0.7), 0.16
        )
    elif look.hat == "cap":
        pen.shape(_arc_cap(wide * 1.06, -0.52, 0.62), look.wall_end)
        pen.oval(0.1, -0.52, wide * 1.1, 0.09, darker(look.wall_end, 0.7))
    elif look.hat == "brim":
        pen.oval(0, -0.58, wide * 1.6, 0.14, darker(look.hair, 0.6))
        pen.shape(_arc_cap(wide * 0.98, -0.58, 0.62), darker(look.hair, 0.6))


def _arc_cap(half_width: float, base: float, height: float) -> np.ndarray:
    angle = np.linspace(np.pi, 2 * np.pi, 16)
    return np.stack([half_width * np.cos(angle), base + height * np.sin(angle)], 1)


def _eyes(pen: _Pen, look: Look, openness: float) -> None:
    for side in (-1, 1):
        x, y = side * look.eye_gap, -0.1
        rx = 0.155 * look.eye_size
        ry = 0.105 * look.eye_size * openness
        if ry < 0.02:
            lid = np.linspace(-1, 1, 7)
            pen.stroke(np.stack([x + lid * rx, y + 0.03 * (1 - lid**2)], 1), (40, 28, 26), 0.035)
            continue
        pen.oval(x, y, rx, ry, (250, 250, 248), outline=(50, 36, 32), width=0.025)
        radius = min(0.078 * look.eye_size, ry * 0.95)
        pen.oval(x, y, radius, radius, look.iris)
        pen.oval(x, y, radius * 0.5, radius * 0.5, (12, 10, 10))


def _brows(pen: _Pen, look: Look, brow: float) -> None:
    colour = darker(look.hair, 0.75) if look.hair_style != "bald" else darker(look.skin, 0.45)
    if sum(colour) > 0.8 * sum(look.skin):
        colour = darker(look.skin, 0.5)
    down, up = max(-brow, 0.0), max(brow, 0.0)
    along = np.linspace(0, 1, 9)  # inner end to outer end
    for side in (-1, 1):
        x = side * (look.eye_gap - 0.17 + 0.05 * up - 0.03 * down + 0.34 * along)
        height = -0.3 - 0.13 * up + 0.17 * down * (1 - along) - 0.05 * down * along
        arch = -(0.05 + 0.06 * up) * np.sin(np.pi * along) * (1 - 0.8 * down)
        pen.stroke(np.stack([x, height + arch], 1), colour, 0.07)
        if down > 0.4:
            furrow = np.array([[side * 0.06, -0.33], [side * 0.05, -0.18]])
            pen.stroke(furrow, darker(look.skin, 0.68), 0.025)


def _nose(pen: _Pen, look: Look) -> None:
    tip = 0.22 * look.nose
    path = np.array([[0.03, -0.02], [0.09 * look.nose, tip], [-0.05 * look.nose, tip + 0.02]])
    pen.stroke(path, darker(look.skin, 0.75), 0.035)


def _mouth(pen: _Pen, look: Look, mouth: float, opening: float) -> None:
    """A curve whose corners rise with `mouth`; speech opens it without changing the curve."""
    wide = (0.3 + 0.09 * mouth) * look.mouth_width
    along = np.linspace(-1, 1, 15)
    curve = 0.56 + 0.07 * mouth - 0.2 * mouth * along**2
    gap = (0.02 + 0.17 * opening) * (1 - along**2)
    upper = np.stack([along * wide, curve - 0.35 * gap], 1)
    lower = np.stack([along * wide, curve + 0.65 * gap], 1)
    lips = tuple(
        int(0.5 * s + 0.5 * p) for s, p in zip(darker(look.skin, 0.75), (150, 40, 50), strict=True)
    )
    if opening > 0.12:
        pen.shape(np.concatenate([upper, lower[::-1]]), (70, 18, 22))
        if opening > 0.3:
            teeth = np.stack([along * wide * 0.85, curve - 0.1 * gap], 1)
            pen.shape(np.concatenate([upper[2:-2], teeth[2:-2][::-1]]), (245, 242, 235))
    pen.stroke(upper, lips, 0.045 * look.lip + 0.015)
    pen.stroke(lower, lips, 0.05 * look.lip + 0.015)
    if abs(mouth) > 0.35:  # the crease beside a smile, the fold under a frown
        for side in (-1, 1):
            x, y = side * (wide + 0.06), 0.56 - 0.13 * mouth
            fold = np.array([[x, y - 0.1], [x + side * 0.035, y], [x, y + 0.1]])
            pen.stroke(fold, darker(look.skin, 0.75), 0.022)


def _facial_hair(pen: _Pen, look: Look) -> None:
    if look.beard in ("moustache", "full"):
        along = np.linspace(-1, 1, 9)
        path = np.stack([along * 0.24, 0.375 + 0.03 * along**2], 1)
        pen.stroke(path, look.hair, 0.06)
    if look.beard == "goatee":
        pen.oval(0, 0.9, 0.16, 0.1, look.hair)


def _glasses(pen: _Pen, look: Look) -> None:
    if look.glasses == "none":
        return
    frame, width = (30, 30, 34), 0.05 if look.glasses == "thick" else 0.028
    for side in (-1, 1):
        x = side * look.eye_gap
        if look.glasses in ("round", "dark"):
            glass = (45, 42, 48) if look.glasses == "dark" else None
            pen.oval(x, -0.09, 0.235, 0.2, glass, outline=frame, width=width)
        else:
            (x0, y0), (x1, y1) = pen.point(x - 0.24, -0.25), pen.point(x + 0.24, 0.09)
            pixels = max(1, round(width * pen.unit))
            pen.draw.rounded_rectangle((x0, y0, x1, y1), 0.07 * pen.unit, None, frame, pixels)
    inner = look.eye_gap - 0.235
    pen.stroke(np.array([[-inner, -0.12], [inner, -0.12]]), frame, width)


def _wrinkles(pen: _Pen, look: Look) -> None:
    """Lines of age, which say nothing about the mood."""
    if look.age < 0.25:
        return
    colour, width = darker(look.skin, 1 - 0.28 * look.age), 0.018
    along = np.linspace(-1, 1, 7)
    for y in (-0.62, -0.54, -0.46)[: 1 + round(2 * look.age)]:
        pen.stroke(np.stack([along * 0.4, y - 0.02 * (1 - along**2)], 1), colour, width)
    for side in (-1, 1):
        x = side * (look.eye_gap + 0.22)
        pen.stroke(np.array([[x, -0.1], [x + side * 0.1, -0.14]]), colour, width)
        pen.stroke(np.array([[x, -0.06], [x + side * 0.1, -0.03]]), colour, width)
        bag = np.stack([side * look.eye_gap + along * 0.13, 0.05 + 0.03 * (1 - along**2)], 1)
        pen.stroke(bag, colour, width)


def _hidden(pen: _Pen, look: Look) -> None:
    """Something before the face; most of the mouth and of the brows stays in sight."""
    side = look.held_side
    if look.held == "microphone":
        pen.stroke(np.array([[side * 0.5, 1.6], [side * 0.3, 0.98]]), (25, 25, 28), 0.11)
        pen.oval(side * 0.26, 0.86, 0.15, 0.15, (60, 60, 66), outline=(20, 20, 22), width=0.03)
    elif look.held == "mug":
        pen.shape(np.array([[-0.3, 0.86], [0.3, 0.86], [0.27, 1.5], [-0.27, 1.5]]), look.wall_end)
        pen.oval(0, 0.86, 0.3, 0.06, darker(look.wall_end, 0.7))
    elif look.held == "hand":
        pen.oval(
            side * 0.62, 0.62, 0.24, 0.3, look.skin, outline=darker(look.skin, 0.7), width=0.02
        )
        for finger in range(4):
            y = 0.36 + 0.13 * finger
            tip = np.array([[side * 0.72, y + 0.06], [side * 0.42, y]])
            pen.stroke(tip, darker(look.skin, 0.9), 0.1)
    elif look.held == "scarf":
        pen.oval(0, 1.22, 0.95, 0.42, look.wall_end)
        pen.oval(0, 1.05, 0.85, 0.22, darker(look.wall_end, 1.15))
    elif look.held == "strand":
        path = np.array(
            [[side * 0.2, -0.9], [side * 0.42, -0.4], [side * 0.5, 0.15], [side * 0.46, 0.6]]
        )
        pen.stroke(path, look.hair, 0.12)


def draw_head(look: Look, expression: Expression, opening: float, size: int) -> Image.Image:
    """One head with shoulders, RGBA, `size` pixels square, antialiased."""
    pen = _Pen(size * SUPERSAMPLE)
    _behind(pen, look)
    _head(pen, look)
    pen.turn = turned(look)
    _wrinkles(pen, look)
    _nose(pen, look)
    _eyes(pen, look, expression.eyes)
    _mouth(pen, look, expression.mouth, opening)
    _facial_hair(pen, look)
    pen.turn = float
    _hair(pen, look)
    pen.turn = turned(look)
    _brows(pen, look, expression.brow)
    _glasses(pen, look)
    pen.turn = float
    _hidden(pen, look)
    return pen.image.reduce(SUPERSAMPLE)
