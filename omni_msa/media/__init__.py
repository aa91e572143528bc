"""Reading clips: frames, sound and words, each read once from the clip's file.

It imports `errors`, `values`, `options`, `modalities` and `environment`, and no torch.
"""

from omni_msa.media.reader import read_clip

__all__ = ["read_clip"]
