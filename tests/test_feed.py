"""Clips arrive in the order that was asked for, errors in their places, and are decoded once."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import psutil
import pytest
from conftest import make_content
from media_files import tone, write_media
from sounds import write_wav

from omni_msa.errors import MediaError
from omni_msa.media import feed as feed_module
from omni_msa.media import read_clip
from omni_msa.media.cache import ContentCache
from omni_msa.media.feed import FileFeed
from omni_msa.media.readers import ClipReaders
from omni_msa.options import MediaOptions
from omni_msa.values import Clip, ClipContent
from scripts.memory_feed import MemoryFeed

OPTIONS = MediaOptions(max_frames=4, max_pixels=4 * 784)
SEEN, HEARD, MISSING, SAID = range(4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A clip with picture and sound, one with sound, one that is not there, and words alone."""
    folder = tmp_path_factory.mktemp("clips")
    write_media(folder / "seen.mp4", 8, 8, sound=tone(1.0))
    write_wav(folder / "heard.wav")
    return folder


@pytest.fixture
def clips(made, tmp_path):
    """The same in a folder of the test's own, which it may change."""
    folder = tmp_path / "clips"
    shutil.copytree(made, folder)
    return [
        Clip(path=folder / "seen.mp4", transcript="Hello.", label=1.0),
        Clip(path=folder / "heard.wav", label=-1.0),
        Clip(path=folder / "missing.mp4"),
        Clip(transcript="Words alone."),
    ]


@pytest.fixture
def asked(monkeypatch):
    """The clips that decoding processes were asked for, one after the other."""
    asked_for: list[Clip] = []

    class Listening(ClipReaders):
        def read(self, clips, hide=frozenset()):
            asked_for.extend(clips)
            return super().read(clips, hide)

    monkeypatch.setattr(feed_module, "ClipReaders", Listening)
    return asked_for


def cache_in(tmp_path) -> ContentCache:
    return ContentCache(tmp_path / "cache", 10**9)


def entries(cache: ContentCache):
    return sorted(cache.folder.glob("*/*.npz"))


def assert_in_order(fed, clips, order) -> None:
    assert len(fed) == len(order)
    for item, index in zip(fed, order, strict=True):
        if index == MISSING:
            assert isinstance(item, MediaError) and "missing.mp4" in str(item)
        else:
            assert isinstance(item, ClipContent) and item.clip == clips[index]


@pytest.mark.parametrize(
    ("order", "workers"),
    [
        pytest.param([SEEN, HEARD, MISSING, SAID], 1, marks=pytest.mark.slow),
        pytest.param([SAID, MISSING, HEARD, SEEN], 2, marks=pytest.mark.slow),
        ([SEEN, SAID, SEEN, MISSING, MISSING, HEARD, SEEN, SAID], 2),
        ([], 1),
    ],
)
@pytest.mark.parametrize("cached", [False, True])
def test_the_order_is_kept_with_repeats_and_errors(clips, tmp_path, order, workers, cached):
    cache = cache_in(tmp_path) if cached else None
    feed = FileFeed(clips, OPTIONS, workers, cache)
    for _ in range(2):
        assert_in_order(list(feed.read(order)), clips, order)


def test_processes_give_what_this_process_reads(clips):
    [content] = FileFeed(clips, OPTIONS).read([SEEN])
    here = read_clip(clips[SEEN], OPTIONS)
    np.testing.assert_array_equal(content.parts["video"].rgb, here.parts["video"].rgb)
    np.testing.assert_array_equal(content.parts["audio"].samples, here.parts["audio"].samples)
    assert content.parts["text"] == here.parts["text"]


def test_what_is_in_the_cache_is_not_decoded_again(clips, tmp_path, asked):
    order = [SEEN, SAID, HEARD]
    first = list(FileFeed(clips, OPTIONS, 1, cache_in(tmp_path)).read(order))
    assert asked == [clips[i] for i in order]
    asked.clear()
    again = list(FileFeed(clips, OPTIONS, 1, cache_in(tmp_path)).read(order[::-1]))
    assert asked == []
    for before, after in zip(first, again[::-1], strict=True):
        assert after.decode_seconds == before.decode_seconds  # it was measured once
        assert after.clip == before.clip and after.media == before.media
    np.testing.assert_array_equal(again[-1].parts["video"].rgb, first[0].parts["video"].rgb)


def test_only_what_is_missing_from_the_cache_is_decoded(clips, tmp_path, asked):
    cache = cache_in(tmp_path)
    list(FileFeed(clips, OPTIONS, 1, cache).read([HEARD]))
    asked.clear()
    order = [HEARD, SEEN, HEARD, SAID]
    assert_in_order(list(FileFeed(clips, OPTIONS, 1, cache).read(order)), clips, order)
    assert asked == [clips[SEEN], clips[SAID]]


def test_later_epochs_need_the_files_no_more(clips, tmp_path):
    feed = FileFeed(clips, OPTIONS, 1, cache_in(tmp_path))
    list(feed.read([SEEN, HEARD]))
    shutil.rmtree(clips[SEEN].path.parent)
    assert_in_order(list(feed.read([HEARD, SEEN])), clips, [HEARD, SEEN])


def test_an_error_is_not_kept(clips, tmp_path):
    cache = cache_in(tmp_path)
    assert isinstance(next(FileFeed(clips, OPTIONS, 1, cache).read([MISSING])), MediaError)
    assert not entries(cache)
    write_wav(clips[MISSING].path)  # it has arrived
    [content] = FileFeed(clips, OPTIONS, 1, cache).read([MISSING])
    assert isinstance(content, ClipContent) and len(entries(cache)) == 1


def test_other_options_are_read_anew(clips, tmp_path, asked):
    cache = cache_in(tmp_path)
    for options in (OPTIONS, replace(OPTIONS, max_frames=6), OPTIONS):
        [content] = FileFeed(clips, options, 1, cache).read([SEEN])
    assert len(asked) == 2 and len(entries(cache)) == 2
    assert len(content.parts["video"].rgb) <= 4


def test_an_entry_that_another_process_removed_is_read_again(clips, tmp_path):
    cache = cache_in(tmp_path)
    list(FileFeed(clips, OPTIONS, 1, cache).read([SEEN, HEARD, SAID]))
    fed = FileFeed(clips, OPTIONS, 1, cache).read([SAID, SEEN, HEARD])
    next(fed)  # by now it has looked what is there
    for path in entries(cache):
        path.unlink()
    clips[HEARD].path.unlink()
    seen, heard = fed
    assert isinstance(seen, ClipContent) and seen.clip == clips[SEEN]
    assert "video" in seen.parts and "audio" in seen.parts
    assert isinstance(heard, MediaError) and "heard.wav" in str(heard)
    assert len(entries(cache)) == 1  # what was read again is kept again


def test_a_damaged_entry_is_read_again(clips, tmp_path):
    cache = cache_in(tmp_path)
    list(FileFeed(clips, OPTIONS, 1, cache).read([SEEN]))
    [path] = entries(cache)
    path.write_bytes(path.read_bytes()[:-100])
    assert_in_order(list(FileFeed(clips, OPTIONS, 1, cache).read([SEEN])), clips, [SEEN])


def test_what_is_hidden_is_not_read_and_not_mixed_up_in_the_cache(clips, tmp_path):
    cache = cache_in(tmp_path)
    for hide in (frozenset(), frozenset({"video"}), frozenset({"text", "audio"})):
        for _ in range(2):
            [content] = FileFeed(clips, OPTIONS, 1, cache, hide).read([SEEN])
            assert content.parts.keys() == {"text", "audio", "video"} - hide


def test_leaving_early_ends_the_processes(clips, monkeypatch):
    closed = []

    class Closing(ClipReaders):
        def close(self):
            processes = psutil.Process().children()
            super().close()
            closed.extend(not process.is_running() for process in processes)

    monkeypatch.setattr(feed_module, "ClipReaders", Closing)
    fed = FileFeed(clips, OPTIONS, 2).read([SEEN, HEARD] * 4)
    next(fed)
    fed.close()
    assert closed and all(closed)


def test_sizes_of_files_follow_what_there_is_to_read(clips):
    window = replace(clips[SEEN], start_seconds=0.25, end_seconds=0.75)
    longer = replace(window, end_seconds=20.0)
    sizes = FileFeed([*clips, window, longer], OPTIONS).sizes()
    assert sizes[SEEN] == clips[SEEN].path.stat().st_size
    assert sizes[MISSING] == 0 and sizes[SAID] == len("Words alone.")
    assert sizes[4] < sizes[5]


def test_memory_gives_the_clips_as_they_are():
    contents = [make_content(seed=i, seconds=None, num_frames=2) for i in range(3)]
    feed = MemoryFeed(contents)
    assert [c.path.name for c in feed.clips] == ["clip0.mp4", "clip1.mp4", "clip2.mp4"]
    order = [2, 0, 0, 1]
    for _ in range(2):
        assert all(f is contents[i] for f, i in zip(feed.read(order), order, strict=True))


def test_sizes_in_memory_order_clips_as_their_tokens_do(thinker):
    """They need not be exact, but a longer clip must not pass for a shorter one."""
    contents = [
        make_content(seconds=None, num_frames=None),
        make_content(seconds=2.0, num_frames=None),
        make_content(seconds=8.0, num_frames=None),
        make_content(seconds=8.0, num_frames=8, size=(280, 280)),
    ]
    options = MediaOptions()
    tokens = [thinker.builder().build(c, options).num_tokens["total"] for c in contents]
    sizes = MemoryFeed(contents).sizes()
    assert tokens == sorted(tokens) and sizes == sorted(sizes) and len(set(sizes)) == 4
