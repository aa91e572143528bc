"""One seed -> one synthetic clip: a drawn face that speaks, encoded into a real media file.

The sentiment of a clip is a stated function of what its words, its voice and its face express
(`sentiment`); everything else (person, room, camera, codec) is drawn at random and means nothing.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soxr

from scripts.tiny.face import Expression, draw_look, face_term
from scripts.tiny.scene import Motion, film
from scripts.tiny.voice import (
    ACCENTS,
    SPEECH_RATE,
    TIMBRES,
    Prosody,
    Recording,
    Voice,
    envelope,
    record,
    speak,
    voice_term,
)
from scripts.tiny.words import Sentence, sentence, sentence_near

LIMIT = 3.0
SARCASM = -0.5  # what good words count for when voice and face are sour
MODALITIES = frozenset({"text", "audio", "video"})

CASES = {  # share of all clips
    "glad": 0.16, "sad": 0.13, "angry": 0.13, "words_alone": 0.05, "voice_alone": 0.07,
    "face_alone": 0.07, "sarcasm": 0.10, "deadpan": 0.09, "independent": 0.14,
    "nobody": 0.02, "off_screen": 0.02, "mute": 0.02,
}  # fmt: skip
# "nobody": an empty room, no voice; "off_screen": a voice, nobody to be seen; "mute": a face and
# neither voice nor words.
NO_FACE, NO_VOICE = ("nobody", "off_screen"), ("nobody", "mute")
SPLIT_SEEDS = (("train", 500_000), ("valid", 1_000_000))  # seeds below; all others are for tests

# container, video codec, audio codec, options of the video encoder
FORMATS = (
    ("mp4", "libx264", "aac", {"preset": "veryfast", "crf": "23"}),
    ("mp4", "libx264", "aac", {"preset": "ultrafast", "crf": "28"}),
    ("mov", "libx264", "aac", {"preset": "superfast", "crf": "20"}),
    ("mkv", "libx264", "flac", {"preset": "superfast", "crf": "25"}),
    ("mp4", "mpeg4", "libmp3lame", {"qscale": "4"}),
    ("avi", "mpeg4", "libmp3lame", {"qscale": "5"}),
    ("avi", "mjpeg", "pcm_s16le", {"qscale": "5"}),
    ("webm", "libvpx", "libopus", {"deadline": "realtime", "cpu-used": "8", "crf": "24"}),
)
SOUND_FORMATS = (("mp3", "libmp3lame"), ("ogg", "libopus"), ("flac", "flac"), ("wav", "pcm_s16le"))
SIZES = ((160, 120), (176, 144), (240, 180), (256, 144), (320, 180), (320, 240), (180, 240),
         (144, 256), (200, 200), (240, 240))  # fmt: skip
RATES = (8, 8, 10, 10, 12, 12, 15, 24)


def sentiment(
    text: float, audio: float, video: float, shown: frozenset | set = MODALITIES
) -> float:
    """The stated sentiment of a clip, in [-3, 3], from the terms of what is shown of it.

    The terms add up: words in [-3, 3], voice in [-1.5, 1.5], face in [-1.8, 1.8]; a term that is
    not shown counts nothing. Sarcasm: clearly good words (>= 1) said with a voice and a face that
    are both sour (<= -0.4), all three shown, count -0.5 times their value.
    """
    t = text if "text" in shown else 0.0
    a = audio if "audio" in shown else 0.0
    v = video if "video" in shown else 0.0
    if t >= 1.0 and a <= -0.4 and v <= -0.4:
        t *= SARCASM
    return float(np.clip(t + a + v, -LIMIT, LIMIT))


@dataclass(frozen=True)
class Spec:
    """Everything that is decided about one clip before it is drawn, spoken and encoded."""

    seed: int
    case: str
    text: str
    words: float
    expression: Expression
    prosody: Prosody
    tracks: str  # both, picture or sound

    @property
    def terms(self) -> dict[str, float]:
        return {
            "text": self.words,
            "audio": voice_term(self.prosody),
            "video": face_term(self.expression),
        }

    @property
    def present(self) -> frozenset[str]:
        missing = {"both": set(), "picture": {"audio"}, "sound": {"video"}}[self.tracks]
        return MODALITIES - missing - (set() if self.text else {"text"})

    def row(self, file: str) -> dict:
        """One line of a corpus manifest: what any user's manifest has, and what was decided."""
        own = {"T": {"text"}, "A": {"audio"}, "V": {"video"}, "TA": {"text", "audio"},
               "TV": {"text", "video"}, "AV": {"audio", "video"}}  # fmt: skip
        terms = self.terms
        labels = {
            f"label_{name}": round(sentiment(*terms.values(), shown=shown), 4)
            for name, shown in own.items()
            if shown < self.present
        }
        label = round(sentiment(*terms.values(), shown=self.present), 4)
        facts = {"seed": self.seed, "case": self.case, "terms": terms, "tracks": self.tracks}
        return {
            "clip": file, "text": self.text, "label": label, **labels, **facts,
            **asdict(self.expression), **asdict(self.prosody),
        }  # fmt: skip


def draw_spec(seed: int, case: str | None = None, tracks: str | None = None) -> Spec:
    """The decisions of one seed; `case` and `tracks` can be fixed."""
    rng = np.random.default_rng([seed, 1])
    case = case or str(
        rng.choice(list(CASES), p=np.array(list(CASES.values())) / sum(CASES.values()))
    )
    tracks = tracks or str(rng.choice(["both", "picture", "sound"], p=[0.88, 0.06, 0.06]))
    if case in NO_FACE + NO_VOICE:
        tracks = "both"
    mood = {"words": "neutral", "voice": "neutral", "face": "neutral"}
    if case in ("glad", "sad", "angry"):
        mood = dict.fromkeys(mood, case)
        if rng.random() < 0.15:  # people are not consistent
            mood[str(rng.choice(list(mood)))] = "any"
    elif case == "sarcasm":
        mood = {"words": "glad", "voice": "sour", "face": "sour"}
    elif case == "deadpan":
        mood = {"words": str(rng.choice(["glad", "sad"])), "voice": "flat", "face": "neutral"}
    elif case in ("independent", "off_screen", "mute", "nobody"):
        mood = dict.fromkeys(mood, "any")
    else:
        mood[case.removesuffix("_alone")] = str(rng.choice(["glad", "sad", "angry"]))
    split = next((name for name, end in SPLIT_SEEDS if seed < end), "test")
    phrase = Sentence("", 0.0) if case in NO_VOICE else _words(rng, mood["words"], case, split)
    face = Expression(0.0, 0.0, 0.0) if case in NO_FACE else _expression(rng, mood["face"])
    voice = Prosody(0.0, 0.0, 0.0, -1.0) if case in NO_VOICE else _prosody(rng, mood["voice"])
    return Spec(seed, case, phrase.text, phrase.value, face, voice, tracks)


def _words(rng: np.random.Generator, mood: str, case: str, split: str) -> Sentence:
    low, high = {
        "glad": (1.1 if case == "sarcasm" else 0.8, 3.0), "sad": (-3.0, -0.8),
        "angry": (-3.0, -0.9), "neutral": (-0.15, 0.15), "any": (-3.0, 3.0),
    }[mood]  # fmt: skip
    if mood == "any":
        drawn = sentence(rng, split=split)
        if 3 <= drawn.num_words <= 14:
            return drawn
    if mood != "neutral" and rng.random() < 0.8:  # all strengths, not the most common one
        middle = rng.uniform(low, high)
        low, high = max(low, middle - 0.3), min(high, middle + 0.3)
    return sentence_near(rng, low, high, split, min_words=3, max_words=12)


def _expression(rng: np.random.Generator, mood: str) -> Expression:
    mouth, brow = {
        "glad": ((0.35, 1.0), (-0.1, 0.9)), "sad": ((-1.0, -0.35), (-0.4, 0.4)),
        "angry": ((-1.0, -0.2), (-1.0, -0.45)), "sour": ((-1.0, -0.35), (-0.9, 0.2)),
        "neutral": ((-0.1, 0.1), (-0.12, 0.12)), "any": ((-1.0, 1.0), (-1.0, 1.0)),
    }[mood]  # fmt: skip
    eyes = rng.uniform(0.65, 1.15)
    return Expression(
        *(round(float(x), 3) for x in (rng.uniform(*mouth), rng.uniform(*brow), eyes))
    )


def _prosody(rng: np.random.Generator, mood: str) -> Prosody:
    pitch, spread, pace, loudness = {
        "glad": ((0.3, 1.0), (0.1, 1.0), (-0.1, 0.9), (-0.2, 0.8)),
        "sad": ((-1.0, -0.35), (-1.0, -0.1), (-1.0, -0.2), (-1.0, 0.0)),
        "angry": ((-1.0, -0.35), (-0.9, 0.2), (0.2, 1.0), (0.3, 1.0)),
        "sour": ((-1.0, -0.5), (-1.0, 0.0), (-0.8, 0.6), (-0.8, 0.8)),
        "flat": ((-0.1, 0.1), (-1.0, -0.4), (-0.3, 0.3), (-0.5, 0.3)),
        "neutral": ((-0.09, 0.09), (-0.5, 0.1), (-0.3, 0.3), (-0.5, 0.5)),
        "any": ((-1.0, 1.0), (-1.0, 1.0), (-1.0, 1.0), (-1.0, 1.0)),
    }[mood]  # fmt: skip
    return Prosody(*(round(float(rng.uniform(*r)), 3) for r in (pitch, spread, pace, loudness)))


@dataclass(frozen=True)
class Take:
    """A clip as it was filmed and recorded, before it is encoded; and how it will be."""

    frames: list[np.ndarray]  # none for sound alone
    rate: int  # frames a second
    sound: np.ndarray  # float32 at SPEECH_RATE
    sample_rate: int  # of the file
    container: str
    video_codec: str
    audio_codec: str
    options: dict[str, str]


def perform(spec: Spec, size: tuple[int, int] | None = None, rate: int | None = None) -> Take:
    """Draws the face and speaks the words; `size` and `rate` replace the ones that are drawn."""
    rng = np.random.default_rng([spec.seed, 2])
    timbre = str(rng.choice(list(TIMBRES)))
    speaker = Voice(str(rng.choice(ACCENTS)), timbre, *TIMBRES[timbre])
    room = _room(rng)
    if spec.text:
        speech = speak(spec.text, speaker, spec.prosody, rng)[: int(4.6 * SPEECH_RATE)]
    else:
        speech = np.zeros(int(rng.uniform(1.0, 4.0) * SPEECH_RATE), np.float32)
    sound = record(speech, room, rng) * (rng.random() > 0.3 or bool(spec.text))  # or silence
    sample_rate = int(rng.choice([16_000, 22_050, 44_100, 48_000]))
    if spec.tracks == "sound":
        container, codec = SOUND_FORMATS[int(rng.integers(len(SOUND_FORMATS)))]
        return Take([], 0, sound, sample_rate, container, "", codec, {})
    container, video, codec, options = FORMATS[int(rng.integers(len(FORMATS)))]
    drawn_rate, drawn_size = int(rng.choice(RATES)), SIZES[int(rng.integers(len(SIZES)))]
    rate, size = rate or drawn_rate, size or drawn_size
    times = np.arange(max(4, int(len(sound) / SPEECH_RATE * rate))) / rate
    opening = envelope(speech, times, room.lead_seconds)
    look, motion = draw_look(rng), draw_motion(rng)
    frames = film(look, spec.expression, motion, opening, times, size, spec.case in NO_FACE)
    return Take(frames, rate, sound, sample_rate, container, video, codec, options)


def make(spec: Spec, stem: Path) -> Path:
    """Performs and encodes a clip; returns the file, `stem` with the container's ending."""
    take = perform(spec)
    path = stem.with_suffix(f".{take.container}")
    picture = (take.video_codec, take.frames) if take.frames else None
    audio = (take.audio_codec, take.sound, take.sample_rate)
    encode(path, picture, take.rate, None if spec.tracks == "picture" else audio, take.options)
    return path


def _room(rng: np.random.Generator) -> Recording:
    phone = rng.random() < 0.12
    return Recording(
        noise_db=rng.uniform(15, 45),
        noise_colour=str(rng.choice(["white", "pink", "hum", "babble"])),
        gain_db=rng.uniform(-8, 6), low_hz=300.0 if phone else rng.uniform(40, 110),
        high_hz=3400.0 if phone else rng.uniform(3800, 9500),
        reverb=max(0.0, rng.uniform(-0.5, 0.8)), lead_seconds=rng.uniform(0.05, 0.3),
        tail_seconds=rng.uniform(0.1, 0.4),
        music_db=rng.uniform(12, 30) if rng.random() < 0.15 else np.inf, coded=phone,
    )  # fmt: skip


def draw_motion(rng: np.random.Generator) -> Motion:
    """How a head moves, at random."""
    return Motion(
        face_height=rng.uniform(0.6, 0.95), centre_x=rng.uniform(-0.06, 0.06),
        centre_y=rng.uniform(-0.04, 0.05), sway=rng.uniform(0, 0.035),
        sway_hz=rng.uniform(0.2, 0.7),
        tilt_degrees=rng.uniform(0, 7), zoom=rng.uniform(-0.08, 0.08),
        blinks_seconds=tuple(rng.uniform(0, 5, 2)), starts_neutral=bool(rng.random() < 0.3),
        grain=float(rng.choice([0, 0, 3, 6])),
    )  # fmt: skip


def encode(
    path: Path,
    picture: tuple[str, list[np.ndarray]] | None,
    rate: int,
    sound: tuple[str, np.ndarray, int] | None,
    options: dict[str, str],
    times: list[float] | None = None,
    rotation: int = 0,
    subtitles: Path | None = None,
) -> None:
    """Writes a media file with PyAV.

    `times` gives each frame its own moment (variable rate), `rotation` says how a player turns the
    stored frames (degrees, counterclockwise), `subtitles` is an .srt file that goes inside.
    """
    with av.open(str(path), "w") as output:
        video = audio = None
        if picture is not None:
            codec, frames = picture
            video = output.add_stream(codec, rate=rate, options=dict(options))
            video.height, video.width = frames[0].shape[:2]
            video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            video.codec_context.thread_count = 1
            if "crf" not in options:
                video.bit_rate = 400_000
            if times is not None:
                video.codec_context.time_base = Fraction(1, 1000)
            if rotation:
                video.set_display_rotation(rotation)
        if sound is not None:
            codec, samples, sample_rate = sound
            if codec == "libopus":
                sample_rate = 48_000
            audio = output.add_stream(codec, rate=sample_rate, layout="mono")
        source = av.open(str(subtitles)) if subtitles else None
        words = output.add_stream_from_template(source.streams[0]) if source else None
        if video is not None:
            _encode_picture(output, video, picture[1], times)
        if audio is not None:
            _encode_sound(output, audio, soxr.resample(sound[1], SPEECH_RATE, sample_rate))
        if source is not None:
            for packet in source.demux():
                if packet.size:
                    packet.stream = words
                    output.mux(packet)
            source.close()


def _encode_picture(output, stream, frames: list[np.ndarray], times: list[float] | None) -> None:
    for i, rgb in enumerate(frames):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts = i if times is None else round(times[i] * 1000)
        frame.time_base = 1 / stream.codec_context.framerate if times is None else Fraction(1, 1000)
        output.mux(stream.encode(frame))
    output.mux(stream.encode())


def _encode_sound(output, stream, samples: np.ndarray) -> None:
    frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), "fltp", "mono")
    frame.sample_rate = stream.rate
    frame.pts = 0
    frame.time_base = Fraction(1, stream.rate)
    resampler = av.AudioResampler(
        format=stream.format, layout="mono", rate=stream.rate, frame_size=stream.frame_size or 1024
    )
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
        output.mux(stream.encode(part))
    output.mux(stream.encode())
