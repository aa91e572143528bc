"""The words of a subtitle stream inside a file."""

from __future__ import annotations

from typing import Any

from omni_msa.foreign import MAX_TEXT_BYTES
from omni_msa.media.container import LIBAV_ERRORS
from omni_msa.values import Cue, SubtitleTrack

MAX_CUES = 100_000  # of a subtitle stream: thirty times those of a long film


class CueScan:
    """Collects the cues of a stream from its packets; what does not decode is left out."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.cues: list[Cue] = []
        self.is_truncated = False
        self._num_packets = self._num_characters = 0

    def add(self, packet: Any) -> None:
        """One packet, in the order of the file."""
        self._num_packets += 1
        if not packet.size or packet.pts is None or self.is_truncated:
            return
        if self._num_packets > MAX_CUES or self._num_characters > MAX_TEXT_BYTES:
            self.is_truncated = True
            return
        start = float(packet.pts * packet.time_base)
        end = start + float((packet.duration or 0) * packet.time_base)
        text = "\n".join(_dialogues(packet))
        if text:
            self._num_characters += len(text)
            self.cues.append(Cue(start, max(end, start), text))

    def track(self) -> SubtitleTrack:
        """What was collected."""
        limits = f"{MAX_CUES:,} or {MAX_TEXT_BYTES // 10**6} MB"
        warnings = (f"subtitles truncated: the first are used ({limits})",) * self.is_truncated
        return SubtitleTrack(self.stream.index, tuple(self.cues), warnings)


def _dialogues(packet: Any) -> list[str]:
    """The words of a packet's events; none where it does not decode."""
    if packet.size > MAX_TEXT_BYTES:
        return []
    try:
        return [text for subtitle in packet.decode() if (text := _dialogue(subtitle))]
    except MemoryError:
        raise
    except LIBAV_ERRORS:
        return []


def _dialogue(subtitle: Any) -> str:
    """The words of one subtitle event: libav gives text events as ASS dialogue lines."""
    raw = getattr(subtitle, "dialogue", None) or getattr(subtitle, "text", None) or b""
    text = raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
    return text.replace("\\N", "\n").replace("\\n", "\n").replace("\\h", " ").strip()
