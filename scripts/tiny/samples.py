"""Writes the sample clips: held-out seeds, chosen moods, and the odd files that cameras make.

    python -m scripts.tiny.samples sample_media

Each has a transcript beside it (or inside it), and `facts.json` holds what the generator meant and
what ffprobe, which shares no code with this project, says of the file. Needs ffprobe.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.tiny.clips import Spec, draw_spec, encode, perform, sentiment
from scripts.tiny.voice import SPEECH_RATE

FIRST_SEED = 2_000_000
X264 = {"preset": "slow", "crf": "26"}
PROBE = (
    "stream=index,codec_type,codec_name,width,height,r_frame_rate,avg_frame_rate,sample_rate,"
    "channels,nb_read_frames:stream_side_data=rotation:format=format_name,duration,size"
)


@dataclass(frozen=True)
class Sample:
    """One file: its mood, how it is encoded, and what the words must be like."""

    name: str
    case: str
    low: float  # bounds of the words term
    high: float
    video_codec: str = "libx264"
    audio_codec: str = "aac"
    size: tuple[int, int] = (240, 240)
    transcript: str = "txt"  # txt, srt, vtt, or inside


SAMPLES = (
    Sample("glad.mp4", "glad", 1.2, 2.6),
    Sample("sad.mp4", "sad", -2.4, -1.0, transcript="srt"),
    Sample("angry.mp4", "angry", -2.6, -1.2),
    Sample("sarcastic.mp4", "sarcasm", 1.5, 2.6),
    Sample("deadpan.mp4", "deadpan", 1.4, 2.6, size=(320, 240), transcript="vtt"),
    Sample("face_alone.mp4", "face_alone", -0.1, 0.1),
    Sample("no_audio.webm", "glad", 1.0, 2.4, "libvpx", ""),
    Sample("audio_only.mp3", "sad", -2.4, -1.0, "", "libmp3lame"),
    Sample("rotated.mov", "glad", 1.0, 2.4, size=(180, 240)),
    Sample("variable_rate.mkv", "angry", -2.4, -0.8),
    Sample("subtitles.mkv", "glad", 1.0, 2.4, size=(320, 180), transcript="inside"),
    Sample("racing.mp4", "heart_alone", -0.1, 0.1),  # see heart_samples.py
)


def find_spec(sample: Sample, first_seed: int) -> Spec:
    """The first held-out seed of that mood whose words, voice and face are clear enough to show."""
    tracks = {"no_audio.webm": "picture", "audio_only.mp3": "sound"}.get(sample.name, "both")
    for seed in range(first_seed, first_seed + 2000):
        spec = draw_spec(seed, sample.case, tracks)
        terms = spec.terms
        clear = sample.case in ("deadpan", "face_alone") or abs(terms["audio"]) > 0.7
        agrees = sample.case not in ("glad", "sad", "angry") or (
            np.sign(terms["text"]) == np.sign(terms["audio"]) == np.sign(terms["video"])
        )
        if sample.case == "heart_alone":  # as little as there can be
            clear = abs(terms["audio"]) + abs(terms["video"]) < 0.03
        glad_face = sample.case != "face_alone" or terms["video"] > 1.0
        words = sample.low <= terms["text"] <= sample.high and 4 <= len(spec.text.split()) <= 9
        if clear and agrees and glad_face and words and spec.text[0].isupper():
            return spec
    raise SystemExit(f"no seed gives {sample}")


def write(sample: Sample, spec: Spec, folder: Path) -> Path:
    """Encodes one sample and puts its transcript where it belongs."""
    path = folder / sample.name
    take = perform(spec, sample.size, rate=12)
    seconds = len(take.sound) / SPEECH_RATE
    frames, rotation, times, inside = take.frames, 0, None, None
    if sample.name == "rotated.mov":  # stored lying on its side, as phones store it
        frames, rotation = [np.rot90(f, -1) for f in frames], 90
    if sample.name == "variable_rate.mkv":  # one frame in three, then all, then one in two
        third = len(frames) // 3
        kept = [i for i in range(len(frames)) if _kept(i, third)]
        frames, times = [frames[i] for i in kept], [i / 12 for i in kept]
    if sample.transcript == "inside":
        inside = folder / f"{path.stem}.inside.srt"
        inside.write_text(_srt(spec.text, seconds), encoding="utf-8")
    picture = (sample.video_codec, frames) if sample.video_codec else None
    options = X264 if sample.video_codec == "libx264" else take.options | {"crf": "30"}
    audio = (sample.audio_codec, take.sound, 22_050 if sample.audio_codec == "aac" else 44_100)
    encode(
        path, picture, take.rate, audio if sample.audio_codec else None, options, times, rotation,
        inside,
    )  # fmt: skip
    if inside is not None:
        inside.unlink()
    elif sample.transcript == "srt":
        path.with_suffix(".srt").write_text(_srt(spec.text, seconds), encoding="utf-8")
    elif sample.transcript == "vtt":
        cue = f"00:00:00.000 --> 00:00:{seconds:06.3f}\n{spec.text}\n"
        path.with_suffix(".vtt").write_text(f"WEBVTT\n\n{cue}", encoding="utf-8")
    else:
        path.with_suffix(".txt").write_text(spec.text + "\n", encoding="utf-8")
    return path


def _kept(index: int, third: int) -> bool:
    return index % 3 == 0 if index < third else index < 2 * third or index % 2 == 0


def _srt(text: str, seconds: float) -> str:
    end = f"{seconds:06.3f}".replace(".", ",")
    return f"1\n00:00:00,000 --> 00:00:{end}\n{text}\n"


def ffprobe(path: Path) -> dict:
    """What ffprobe says of a file, every frame counted."""
    command = ["ffprobe", "-v", "error", "-count_frames", "-show_entries", PROBE, "-of", "json"]
    out = json.loads(subprocess.run([*command, str(path)], capture_output=True, check=True).stdout)
    return {"format": out["format"], "streams": out["streams"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", nargs="*", help="names of the clips to write anew")
    arguments = parser.parse_args()
    folder, only = arguments.out, arguments.only
    folder.mkdir(parents=True, exist_ok=True)
    facts = json.loads((folder / "facts.json").read_text()) if only else {}
    for i, sample in enumerate(SAMPLES):
        if only and sample.name not in only:
            continue
        spec = find_spec(sample, FIRST_SEED + 10_000 * i)
        path = write(sample, spec, folder)
        stated = {
            "seed": spec.seed, "case": spec.case, "text": spec.text, "terms": spec.terms,
            "sentiment": sentiment(*spec.terms.values(), shown=spec.present),
        }  # fmt: skip
        facts[sample.name] = {"generator": stated, "ffprobe": ffprobe(path)}
    text = json.dumps(facts, indent=1).replace(str(folder) + "/", "")
    (folder / "facts.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
