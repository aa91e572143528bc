"""Reading a clip: probe what is really there, then decode frames, sound and subtitles once."""

from omni_msa.media.reader import read_clip

__all__ = ["read_clip"]
