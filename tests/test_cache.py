"""What the cache gives back is what it was given, whatever happens to its folder meanwhile."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import make_content
from media_files import tone, write_media
from sounds import write_wav

from omni_msa.errors import ConfigError
from omni_msa.media import read_clip
from omni_msa.media.cache import SHARE_AFTER_CLEANUP, ContentCache
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent, Transcript

PLENTY = 10**9
OPTIONS = MediaOptions()
KEYS = [f"{i:02x}" * 32 for i in range(8)]
SMALL = {"seconds": 0.01, "num_frames": 2, "size": (28, 28)}


def assert_same(found: ClipContent | None, given: ClipContent) -> None:
    """Every field, bit for bit."""
    assert found is not None
    assert replace(found, parts={}) == replace(given, parts={})
    assert found.present == given.present
    for modality, part in given.parts.items():
        (arrays, about), (own, said) = part.store(), found.parts[modality].store()
        assert json.loads(json.dumps(about)) == json.loads(json.dumps(said))
        assert arrays.keys() == own.keys()
        for name, array in arrays.items():
            assert own[name].dtype == array.dtype
            np.testing.assert_array_equal(own[name], array)


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    "lacks",
    [
        {},
        {"text": None},
        {"seconds": None},
        {"num_frames": None},
        {"seconds": None, "num_frames": None},
        {"text": None, "seconds": None},
        {"text": None, "num_frames": None},
    ],
)
def test_what_goes_in_comes_out(tmp_path, lacks):
    content = replace(
        make_content(**lacks),
        media={"duration_seconds": 2.97, "container": "mp4", "num_frames": 6, "rotation": None},
        warnings=("sound was cut", "a 'quoted' — warning"),
        decode_seconds=0.1 + 0.2,
    )
    cache = ContentCache(tmp_path, PLENTY)
    assert not cache.has(KEYS[0]) and cache.get(KEYS[0], content.clip) is None
    cache.put(KEYS[0], content)
    assert cache.has(KEYS[0])
    assert_same(cache.get(KEYS[0], content.clip), content)
    assert_same(ContentCache(tmp_path, PLENTY).get(KEYS[0], content.clip), content)


def test_words_keep_their_warnings_and_every_character(tmp_path):
    words = Transcript("naïve 你好\n\ud800 <|im_end|>", "sidecar a.srt", ("read as cp1252",))
    content = make_content(**SMALL)
    content = replace(content, parts=content.parts | {"text": words})
    cache = ContentCache(tmp_path, PLENTY)
    cache.put(KEYS[0], content)
    assert_same(cache.get(KEYS[0], content.clip), content)


def test_a_real_file_comes_out_as_it_was_read(tmp_path):
    path = write_media(tmp_path / "a.mp4", 16, 8, sound=tone(2.0))
    clip = Clip(path=path, start_seconds=0.5, end_seconds=1.5, label=1.0)
    content = read_clip(clip, OPTIONS)
    cache = ContentCache(tmp_path / "cache", PLENTY)
    key = cache.key(clip, OPTIONS)
    cache.put(key, content)
    assert_same(cache.get(key, clip), content)


def test_the_clip_is_the_one_that_was_asked_for(tmp_path):
    """Labels and names are no content: another manifest may give others."""
    cache, content = ContentCache(tmp_path, PLENTY), make_content(**SMALL)
    cache.put(KEYS[0], content)
    other = Clip(path=Path("elsewhere.mp4"), label=-2.0, split="test", id="other")
    assert cache.get(KEYS[0], other).clip == other


@pytest.mark.parametrize(
    ("clip", "options", "hide"),
    [
        ({"transcript": "other words"}, {}, set()),
        ({"transcript": "good", "transcript_source": "manifest"}, {}, set()),
        ({"start_seconds": 0.25}, {}, set()),
        ({"end_seconds": 0.25}, {}, set()),
        ({}, {"fps": 1.0}, set()),
        ({}, {"max_frames": 8}, set()),
        ({}, {"decoder": "decord"}, set()),
        ({}, {"max_pixels": 4 * 784}, set()),
        ({}, {"max_audio_seconds": 1.0}, set()),
        ({}, {}, {"audio"}),
    ],
)
def test_whatever_changes_what_is_read_changes_the_key(tmp_path, clip, options, hide):
    cache = ContentCache(tmp_path / "cache", PLENTY)
    plain = Clip(path=write_wav(tmp_path / "a.wav"), transcript="good")
    other = replace(plain, **clip)
    key = cache.key(other, MediaOptions(**options), frozenset(hide))
    assert key != cache.key(plain, OPTIONS)
    assert key == cache.key(other, MediaOptions(**options), frozenset(hide))


def test_what_changes_nothing_that_is_read_keeps_the_key(tmp_path):
    cache = ContentCache(tmp_path / "cache", PLENTY)
    clip = Clip(path=write_wav(tmp_path / "a.wav"))
    copy = tmp_path / "b.wav"
    shutil.copy(clip.path, copy)
    key = cache.key(clip, OPTIONS)
    assert key == cache.key(replace(clip, path=copy, label=1.0, split="test", id="b"), OPTIONS)
    assert key == cache.key(clip, MediaOptions(deadline_seconds=5.0))
    write_wav(copy, seed=1)
    assert key != cache.key(replace(clip, path=copy), OPTIONS)


def test_words_beside_the_file_are_part_of_the_key(tmp_path):
    cache = ContentCache(tmp_path / "cache", PLENTY)
    clip = Clip(path=write_wav(tmp_path / "a.wav"))
    keys = [cache.key(clip, OPTIONS)]
    words = tmp_path / "a.txt"
    for text in ("good", "1\n00:00:00,000 --> 00:00:00,400\nbad\n"):
        words.write_text(text)
        keys.append(cache.key(clip, OPTIONS))
    words.rename(tmp_path / "a.srt")  # the same bytes, but now its times are no words
    keys.append(cache.key(clip, OPTIONS))
    assert len(set(keys)) == 4


def test_the_same_clip_and_words_under_another_name_have_the_same_key(tmp_path):
    cache = ContentCache(tmp_path / "cache", PLENTY)
    keys = set()
    for name in ("a", "b"):
        path = write_wav(tmp_path / f"{name}.wav")
        (tmp_path / f"{name}.en.srt").write_text("1\n00:00:00,000 --> 00:00:00,400\nbad\n")
        keys.add(cache.key(Clip(path=path), OPTIONS))
    assert len(keys) == 1


def test_a_file_that_cannot_be_read_has_no_key(tmp_path):
    cache = ContentCache(tmp_path / "cache", PLENTY)
    assert cache.key(Clip(path=tmp_path / "missing.mp4"), OPTIONS) is None
    assert cache.key(Clip(transcript="words alone"), OPTIONS) is not None


def test_a_file_that_was_cut_short_is_removed_and_missed(tmp_path):
    cache, content = ContentCache(tmp_path, PLENTY), make_content(**SMALL)
    cache.put(KEYS[0], content)
    [path] = files_in(tmp_path)
    whole = path.read_bytes()
    for size in [*range(0, len(whole) - 1, 61), len(whole) - 1]:
        path.write_bytes(whole[:size])
        assert cache.get(KEYS[0], content.clip) is None
        assert not path.exists() and not cache.has(KEYS[0])
    cache.put(KEYS[0], content)
    assert_same(cache.get(KEYS[0], content.clip), content)


def test_damage_never_gives_other_content(tmp_path):
    """One byte at a time: headers, names and the directory at the end included."""
    cache, content = ContentCache(tmp_path, PLENTY), make_content(**SMALL)
    cache.put(KEYS[0], content)
    [path] = files_in(tmp_path)
    whole = path.read_bytes()
    missed = 0
    for place in [*range(0, 300), *range(300, len(whole) - 700, 23),
                  *range(len(whole) - 700, len(whole))]:  # fmt: skip
        for flip in (0x01, 0xFF):
            damaged = bytearray(whole)
            damaged[place] ^= flip
            path.write_bytes(damaged)
            found = cache.get(KEYS[0], content.clip)
            missed += found is None
            if found is not None:  # the byte said nothing of use, such as a date
                assert_same(found, content)
    assert missed > 500


@pytest.mark.parametrize(
    "junk", [b"", b"\x93NUMPY", b"not a cache file", b"PK\x03\x04", b"\0" * 99]
)
def test_what_is_no_entry_at_all_is_a_miss(tmp_path, junk):
    cache, content = ContentCache(tmp_path, PLENTY), make_content(**SMALL)
    cache.put(KEYS[0], content)
    [path] = files_in(tmp_path)
    path.write_bytes(junk)
    assert cache.get(KEYS[0], content.clip) is None
    assert not path.exists()


def fill(cache: ContentCache, number: int) -> list[int]:
    """So many entries of one size, each used later than the one before; the sizes of the files."""
    for i, key in enumerate(KEYS[:number]):
        cache.put(key, make_content(**SMALL, seed=i))
        if cache.has(key):
            os.utime(cache.folder / key[:2] / f"{key}.npz", (1000 + i, 1000 + i))
    return [path.stat().st_size for path in files_in(cache.folder)]


def test_what_was_not_used_for_longest_goes_first(tmp_path):
    size = fill(ContentCache(tmp_path / "measure", PLENTY), 1)[0]
    cache = ContentCache(tmp_path / "cache", round(4.5 * size))
    fill(cache, 4)
    clip = make_content(**SMALL).clip
    assert cache.get(KEYS[0], clip) is not None  # now the one that was used last
    cache.put(KEYS[4], make_content(**SMALL, seed=4))
    assert [cache.has(key) for key in KEYS[:5]] == [True, False, True, True, True]


def test_the_folder_stays_below_its_size(tmp_path):
    size = fill(ContentCache(tmp_path / "measure", PLENTY), 1)[0]
    bound = round(3.5 * size)
    cache = ContentCache(tmp_path / "cache", bound)
    for i in range(20):
        cache.put(KEYS[i % len(KEYS)], make_content(**SMALL, seed=i))
        total = sum(path.stat().st_size for path in files_in(cache.folder))
        assert 0 < total <= bound
        assert cache.has(KEYS[i % len(KEYS)])


def test_what_is_there_already_counts(tmp_path):
    """Another run left more than this one may keep."""
    sizes = fill(ContentCache(tmp_path, PLENTY), 6)
    bound = round(2.5 * sizes[0])
    ContentCache(tmp_path, bound).put(KEYS[6], make_content(**SMALL))
    left = files_in(tmp_path)
    assert sum(path.stat().st_size for path in left) <= SHARE_AFTER_CLEANUP * bound
    assert {path.stem for path in left} == set(KEYS[5:7])


def test_an_entry_that_others_remove_at_once_is_no_error(tmp_path, monkeypatch):
    replaced = os.replace

    def replace_and_lose(source, target):
        replaced(source, target)
        os.unlink(target)

    monkeypatch.setattr(os, "replace", replace_and_lose)
    cache, content = ContentCache(tmp_path, PLENTY), make_content(**SMALL)
    cache.put(KEYS[0], content)
    assert cache.get(KEYS[0], content.clip) is None


def test_a_full_disk_is_no_reason_to_stop(tmp_path, monkeypatch):
    cache, content = ContentCache(tmp_path, PLENTY), make_content(**SMALL)

    def full(file, **_):
        file.write(b"the first part")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    cache.put(KEYS[0], content)
    assert not files_in(tmp_path)


SCRIPT = """
import random, sys
from pathlib import Path
import numpy as np
from omni_msa.media.cache import ContentCache
from omni_msa.values import Clip, ClipContent, Frames

def content(i):
    rgb = np.full((2, 28, 28, 3), i, np.uint8)
    return ClipContent(Clip(transcript="x"), f"{i}", {"video": Frames(rgb, (0.0, 0.5), 0.5)})

cache = ContentCache(Path(sys.argv[1]), 12_000)  # two entries
order = random.Random(int(sys.argv[2]))
hits = 0
for _ in range(700):
    i = order.randrange(5)
    key = f"{i:02x}" * 32
    found = cache.get(key, Clip(transcript="x"))
    if found is None:
        cache.put(key, content(i))
    else:
        hits += 1
        assert found.sha256 == f"{i}" and (found.parts["video"].rgb == i).all()
print(hits)
"""


@pytest.mark.slow
def test_processes_share_a_folder(tmp_path):
    """Each removes what the other is about to read: nobody stops, nobody reads something else."""
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    processes = [
        subprocess.Popen([*command, str(seed)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for seed in (1, 2)
    ]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
        assert int(out) > 50
    assert all(path.suffix == ".npz" for path in files_in(tmp_path))  # nothing half-written


def test_a_folder_that_cannot_be_written_is_said_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(ConfigError, match="--cache .*: cannot be written"):
            ContentCache(folder, PLENTY)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    if os.access(locked, os.W_OK):
        pytest.skip("this user may write everywhere")
    with pytest.raises(ConfigError, match="Permission denied"):
        ContentCache(locked, PLENTY)


def test_the_order_of_use_survives_a_shuffle(tmp_path):
    """Whatever the order of use, it is the order of going."""
    size = fill(ContentCache(tmp_path / "measure", PLENTY), 1)[0]
    cache = ContentCache(tmp_path / "cache", round(6.5 * size))
    fill(cache, 6)
    order = random.Random(0).sample(range(6), 6)
    for i, place in enumerate(order):
        path = cache.folder / KEYS[place][:2] / f"{KEYS[place]}.npz"
        os.utime(path, (2000 + i, 2000 + i))
    cache.put(KEYS[6], make_content(**SMALL))  # seven do not fit; five are below nine tenths
    assert [i for i in order if not cache.has(KEYS[i])] == order[:2]
