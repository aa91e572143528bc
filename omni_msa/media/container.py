"""Opening a media file: only the file itself, only media containers, within stated limits.

libav can do more than read a file: a playlist names other files, a `concat:` path joins them, and
addresses are connected to. Here nothing but the named file is ever opened.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import Any

import av

from omni_msa.environment import decoder_threads
from omni_msa.errors import DecodeMemory, DecodeTimeout, MediaError

av.logging.set_level(None)  # libav's own messages would appear in the user's terminal

# What libav raises: some of its errors are builtin ones too, some are not.
LIBAV_ERRORS = (av.error.FFmpegError, OSError, ValueError)
# Among them, what says nothing of the file: the deadline has passed, or memory has run out.
NOT_DAMAGE = (MediaError, MemoryError)

# Demuxers that read one file. Left out on purpose: playlists and scripts (hls, concat, dash, imf,
# sdp, rtsp), image sequences (image2), indexes of other files (vobsub), devices and filters.
DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,live_flv,mpegts,mpeg,mpegvideo,asf,asf_o,ogg,"
    "ivf,obu,av1,h261,h263,h264,hevc,vvc,m4v,dv,mxf,nut,rm,gxf,yuv4mpegpipe,nsv,wtv,dirac,vc1,"
    "mjpeg,"
    "wav,w64,flac,mp3,aac,ac3,eac3,ac4,aiff,au,caf,amr,amrnb,amrwb,ape,tta,wv,mpc,mpc8,dts,dtshd,"
    "truehd,mlp,loas,latm,shn,tak,voc,oma,qcp,gsm,sln,sbc,spdif,xwma,dsf,iff,"
    "gif,apng,png_pipe,jpeg_pipe,jpegxl_pipe,webp_pipe,webp,bmp_pipe,tiff_pipe,ppm_pipe,pgm_pipe"
)
DECODER_THREADS = decoder_threads()
MAX_PIXELS = 8192 * 4352  # of a frame: 8K video
MAX_STREAMS = 64
MAX_CHANNELS = 16
MAX_SAMPLE_RATE = 192_000  # Hz

SEEK_GAP_SECONDS = 4.0  # decoding through less than this is quicker than seeking
SEEK_BACK_SECONDS = (0.0, 10.0, 60.0, inf)  # before the target: tried in this order


class Deadline:
    """Raises once reading a clip has taken too long; checked between packets."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.path = path
        self.seconds = seconds
        self.end_time = time.monotonic() + seconds

    def check(self) -> None:
        if time.monotonic() > self.end_time:
            message = f"{self.path}: reading took longer than {self.seconds:g} s, given up"
            raise DecodeTimeout(message)


@contextmanager
def enough_memory(name: object) -> Iterator[None]:
    """Reading that runs out of memory ends as an error of the clip.

    Raises:
        DecodeMemory: it did.
    """
    try:
        yield
    except MemoryError as error:
        message = f"{name}: reading it takes too much memory; the clip is skipped, check the file"
        raise DecodeMemory(message) from error


@contextmanager
def open_container(path: Path) -> Iterator[Any]:
    """The file as a PyAV container, closed at the end.

    Raises:
        MediaError: it cannot be opened as media, in one line that says why.
    """
    check_regular(path)
    try:
        container = av.open(
            # without the prefix, a name such as `concat:a|b` or `http://...` would be a protocol
            f"file:{os.fspath(path)}",
            metadata_errors="ignore",
            options={"max_pixels": str(MAX_PIXELS)},
            container_options={"protocol_whitelist": "file", "format_whitelist": DEMUXERS},
        )
    except MemoryError:
        raise
    except LIBAV_ERRORS as error:
        if size := _picture_size(path):
            raise _too_large(path, size) from error
        raise MediaError(explain(path, error)) from error
    try:
        _check_limits(path, container)
        yield container
    finally:
        container.close()


def demux(container: Any, *streams: Any) -> Iterator[Any]:
    """The packets of these streams, an empty one for each at the end; PyAV fails there where a
    stream has appeared in the middle of the file."""
    try:
        yield from container.demux(*streams)
    except IndexError:
        return


def check_regular(path: Path) -> None:
    """A pipe would be waited for, and a device read without end: neither is opened.

    Raises:
        MediaError: it is no regular file.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise MediaError(explain(path, error)) from error
    except ValueError as error:  # a null byte in the name
        raise MediaError(f"{str(path)!r}: is no name of a file") from error
    if stat.S_ISREG(mode):
        return
    if stat.S_ISDIR(mode):
        raise MediaError(explain(path, IsADirectoryError()))
    kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISSOCK: "a socket", stat.S_ISCHR: "a device"}
    kind = next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")
    raise MediaError(f"{path}: is {kind}, not a file; save what comes from it and give that file")


def _check_limits(path: Path, container: Any) -> None:
    """What a file claims of itself is within bounds; the decoder refuses larger frames later."""
    if len(container.streams) > MAX_STREAMS:
        raise MediaError(
            f"{path}: has {len(container.streams)} streams; at most {MAX_STREAMS} are read",
            code="too_large",
        )
    for stream in container.streams:
        context = stream.codec_context
        if context is None:
            continue
        if stream.type == "video":
            stream.thread_type = "AUTO"
            context.thread_count = DECODER_THREADS
            context.options = {**context.options, "max_pixels": str(MAX_PIXELS)}
            if context.width * context.height > MAX_PIXELS:
                raise _too_large(path, f"{context.width} x {context.height} pixels")
            if not context.width and (size := _picture_size(path)):
                raise _too_large(path, size)
        elif stream.type == "audio":
            channels, rate = context.channels or 0, context.sample_rate or 0
            if channels > MAX_CHANNELS or rate > MAX_SAMPLE_RATE:
                raise MediaError(
                    f"{path}: its sound has {channels} channels at {rate} Hz; at most "
                    f"{MAX_CHANNELS} at {MAX_SAMPLE_RATE} Hz are read",
                    code="too_large",
                )


def _too_large(path: Path, size: str) -> MediaError:
    return MediaError(
        f"{path}: its picture has {size}; at most {MAX_PIXELS:,} pixels (8192 x 4352) are read, "
        "make it smaller first",
        code="too_large",
    )


def explain(path: Path, error: BaseException) -> str:
    """Why a file cannot be opened, and what to do."""
    if path.is_dir():
        return (
            f"{path}: is a folder, not a media file; give the files in it, or the folder to score"
        )
    if isinstance(error, FileNotFoundError):
        return f"{path}: no such file; check the path"
    if isinstance(error, PermissionError) and not os.access(path, os.R_OK):
        return f"{path}: cannot be read (permission denied); change its permissions"
    if path.is_file() and path.stat().st_size == 0:
        return f"{path}: the file is empty (0 bytes); copy or record it again"
    if kind := _reference_kind(path):
        return (
            f"{path}: is {kind}, which names other files or addresses; only the file itself is "
            "read: give the media files"
        )
    return (
        f"{path}: not a media file that can be read ({reason(error)}); video or audio such as "
        "mp4, mkv, webm, mov, wav, mp3 is needed, whole and not encrypted"
    )


def reason(error: BaseException) -> str:
    """What libav says, in short."""
    text = getattr(error, "strerror", None) or str(error).splitlines()[0]
    return text.strip().rstrip(".")


_REFERENCES = {
    b"#EXTM3U": "a playlist",
    b"ffconcat": "a list of files to join",
    b"[playlist]": "a playlist",
    b"[Reference]": "a playlist",
    b"<asx": "a playlist",
    b"<ASX": "a playlist",
    b"<?wpl": "a playlist",
    b"<smil": "a playlist",
    b"v=0": "a description of a stream (SDP)",
    b"<MPD": "a DASH manifest",
    b"<CompositionPlaylist": "a composition playlist (IMF)",
    b"# VobSub": "an index of subtitles",
}


def _reference_kind(path: Path) -> str | None:
    """What kind of text that refers elsewhere a file is, by its first kilobyte."""
    try:
        with open(path, "rb") as file:
            head = file.read(1024).lstrip(b"\xef\xbb\xbf \t\r\n")
    except OSError:
        return None
    starts = (kind for mark, kind in _REFERENCES.items() if head.startswith(mark))
    inside = (kind for mark, kind in _REFERENCES.items() if mark[:1] == b"<" and mark in head)
    return next(starts, None) or next(inside, None)


def _picture_size(path: Path) -> str:
    """The size of a PNG that is too large, of which libav only says that it is not valid; or ""."""
    try:
        with open(path, "rb") as file:
            head = file.read(24)
    except OSError:
        return ""
    if not head.startswith(b"\x89PNG\r\n\x1a\n") or len(head) < 24:
        return ""
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    return f"{width} x {height} pixels" if width * height > MAX_PIXELS else ""
