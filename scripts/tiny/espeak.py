"""libespeak-ng, from the wheel espeakng-loader: one SSML text in, its samples out.

Constants are those of espeak-ng's `speak_lib.h`.
"""

from __future__ import annotations

import _ctypes
import ctypes

import espeakng_loader
import numpy as np

SPEECH_RATE = 22_050  # Hz, what espeak-ng speaks in

SYNCHRONOUS = 2  # output mode: speak in this thread, hand the samples to the callback
DO_NOT_EXIT = 1 << 15  # option: report a failed start instead of ending the process
WORDS_PER_MINUTE = 1  # parameter
CHARACTERS = 1  # unit of a position in the text
UTF8, SSML = 1, 1 << 4  # flags of a text; without a flag of its own, no pause ends it
RANDOM_SEED = 1

Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)


def say(ssml: str, voice: str, words_per_minute: int) -> np.ndarray:
    """The samples, int16 [S] at SPEECH_RATE, the same for the same request.

    The library is loaded and unloaded each time (3 ms): it carries flutter and noise from one text
    into the next, even past `espeak_Terminate`, so that a clip would depend on those before it.

    Raises:
        RuntimeError: the library does not start, lacks the voice, or refuses the text.
    """
    heard = bytearray()

    def collect(samples, count: int, events) -> int:
        if samples:
            heard.extend(ctypes.string_at(samples, 2 * count))
        return 0

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    callback = Callback(collect)
    try:
        _start(library, callback)
        _speak(library, ssml, voice, words_per_minute)
    finally:
        library.espeak_Terminate()
        _ctypes.dlclose(library._handle)
    return np.frombuffer(bytes(heard), np.int16)


def _start(library: ctypes.CDLL, callback: ctypes._FuncPointer) -> None:
    data = espeakng_loader.get_data_path()
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), DO_NOT_EXIT)
    if rate != SPEECH_RATE:
        raise RuntimeError(
            f"espeak-ng does not start with the data in {data} (it says {rate}); "
            "the path may have up to 159 characters"
        )
    library.espeak_ng_SetRandSeed(RANDOM_SEED)  # or the hour would decide how a voice breathes
    library.espeak_SetSynthCallback(callback)


def _speak(library: ctypes.CDLL, ssml: str, voice: str, words_per_minute: int) -> None:
    if library.espeak_SetVoiceByName(voice.encode()):
        raise RuntimeError(f"espeak-ng has no voice {voice!r}")
    library.espeak_SetParameter(WORDS_PER_MINUTE, words_per_minute, 0)
    text = ssml.encode()
    size = ctypes.c_size_t(len(text) + 1)
    if library.espeak_Synth(text, size, 0, CHARACTERS, 0, UTF8 | SSML, None, None):
        raise RuntimeError(f"espeak-ng cannot say {ssml!r}")
    library.espeak_Synchronize()
