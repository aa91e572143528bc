"""Of a published base only what holds the Thinker is fetched, read and hashed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from omni_msa.errors import ModelError
from omni_msa.model.identity import base_sha256, is_base
from omni_msa.model.shards import INDEX, thinker_shards

THINKER = ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors"]
TALKER = "model-00003-of-00003.safetensors"
COMMIT = "c" * 40


@pytest.fixture(scope="module")
def release(base_folder, tmp_path_factory):
    """A base whose second shard has some of the Talker, and whose third has nothing else."""
    from safetensors.torch import load_file, save_file
    from torch import ones

    folder = tmp_path_factory.mktemp("release") / "base"
    shutil.copytree(base_folder, folder)
    tensors = {}
    for path in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(path)
        path.unlink()
    names = sorted(tensors)
    first = {name: tensors[name] for name in names[::2]}
    second = {name: tensors[name] for name in names[1::2]} | {"talker.codec_head.weight": ones(4)}
    third = {"talker.model.norm.weight": ones(4), "token2wav.x": ones(4)}
    files = {}
    for file, part in zip([*THINKER, TALKER], (first, second, third), strict=True):
        save_file(part, folder / file, metadata={"format": "pt"})
        files |= dict.fromkeys(part, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))
    (folder / "spk_dict.pt").write_bytes(b"voices")
    return folder


def without(release, folder, file):
    shutil.copytree(release, folder, ignore=shutil.ignore_patterns(file))
    return folder


def weights(folder):
    from omni_msa.model.loading import load_thinker

    return load_thinker(str(folder)).core.state_dict()


def test_a_folder_without_the_talkers_file_loads_the_same(release, base_folder, tmp_path):
    expected = weights(base_folder)
    for folder in (release, without(release, tmp_path / "alone", TALKER)):
        state = weights(folder)
        assert state.keys() == expected.keys()
        assert all((state[name] == expected[name]).all() for name in state)


def test_the_talkers_file_is_not_read(release, base_folder, tmp_path):
    """By its name in the index: what it really holds changes nothing, as it is not hashed."""
    from safetensors.torch import load_file, save_file

    folder = without(release, tmp_path / "odd", "nothing")
    (folder / TALKER).write_bytes(b"damaged")
    expected = weights(base_folder)
    assert weights(folder).keys() == expected.keys()
    first = load_file(release / THINKER[0])
    save_file({name: part + 1 for name, part in first.items()}, folder / TALKER, {"format": "pt"})
    state = weights(folder)
    assert all((state[name] == expected[name]).all() for name in state)


def test_a_file_with_the_thinker_must_be_there(release, tmp_path):
    folder = without(release, tmp_path / "half", THINKER[1])
    with pytest.raises(ModelError, match=f"1 files with weights .*missing, such as {THINKER[1]}"):
        weights(folder)


def test_the_talkers_file_is_no_part_of_what_a_base_is(release, tmp_path):
    alone = without(release, tmp_path / "alone", TALKER)
    assert base_sha256(alone) == base_sha256(release)
    other = without(release, tmp_path / "other", THINKER[0])
    (other / THINKER[0]).write_bytes(b"other")
    assert base_sha256(other) != base_sha256(release)
    assert is_base(alone, base_sha256(release)) and not is_base(other, base_sha256(release))


def test_a_base_is_known_by_the_hash_that_older_checkpoints_hold(release):
    import hashlib

    digest = hashlib.sha256()
    for path in sorted(release.iterdir()):
        if path.suffix == ".safetensors" or path.name in ("config.json", "tokenizer.json"):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    assert digest.hexdigest() != base_sha256(release)
    assert is_base(release, digest.hexdigest())


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"thinker.x": "../x.safetensors"}}, "no \\*.safetensors of its folder"),
        ({"weight_map": {"thinker.x": "x.bin"}}, "no \\*.safetensors of its folder"),
        ({"weight_map": ["x"]}, "does not say which file"),
        ([], "does not say which file"),
        ({"weight_map": {}}, "names no tensor of a Thinker"),
        ({"weight_map": {"talker.x": "t.safetensors"}}, "names no tensor of a Thinker"),
        ({"weight_map": {"thinker.x": f"{'x' * 300}.safetensors"}}, "no \\*.safetensors of its"),
    ],
)
def test_an_index_that_cannot_be_is_one_line(tmp_path, index, message):
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(ModelError, match=message):
        thinker_shards(tmp_path)
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(ModelError, match="does not say which file"):
        thinker_shards(tmp_path)


def test_without_an_index_nothing_is_known(tmp_path):
    assert thinker_shards(tmp_path) is None


def test_an_index_beside_one_whole_file_is_not_read(release, base_folder, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "merged"
    shutil.copytree(base_folder, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    tensors = {}
    for path in base_folder.glob("*.safetensors"):
        tensors |= load_file(path)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(release / INDEX, folder / INDEX)  # of files that are not there
    assert weights(folder).keys() == weights(base_folder).keys()


class Hub(BaseHTTPRequestHandler):
    """What the hub answers for one repository; the names of files that were fetched are kept."""

    folder = None
    fetched: list[str] = []

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        path, headers = self.path.partition("?")[0], {}
        files = sorted(self.folder.iterdir())
        if path.startswith("/api/models/some/base/revision/"):
            siblings = [{"rfilename": file.name} for file in files]
            body = json.dumps({"id": "some/base", "sha": COMMIT, "siblings": siblings}).encode()
        elif path.startswith("/api/models/some/base/tree/"):
            rows = [
                {"type": "file", "path": f.name, "size": f.stat().st_size, "oid": f.name}
                for f in files
            ]
            body = json.dumps(rows).encode()
        elif path.startswith("/some/base/resolve/"):
            name = path.rpartition("/")[2]
            body = (self.folder / name).read_bytes()
            headers = {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}
            if with_body:
                self.fetched.append(name)
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for key, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(key, str(value))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(release):
    handler = type("Handler", (Hub,), {"folder": release, "fetched": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetch(hub, home, **environment):
    """The folder of `some/base`, as a process of its own finds it."""
    program = "from omni_msa.model.folders import base_folder; print(base_folder('some/base'))"
    address = f"http://localhost:{hub.server_port}"
    names = ("HF_HUB_OFFLINE", "HF_HUB_CACHE", "HF_TOKEN", "HF_ENDPOINT")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    inherited |= {"HF_HOME": str(home), "HF_ENDPOINT": address, "HF_HUB_DISABLE_XET": "1"}
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=inherited | {"no_proxy": "localhost,127.0.0.1", **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.slow
def test_the_hub_is_asked_for_the_thinker_alone(hub, release, tmp_path):
    folder = tmp_path / "home" / "hub" / "models--some--base" / "snapshots" / COMMIT
    assert fetch(hub, tmp_path / "home") == str(folder)
    handler = hub.RequestHandlerClass
    everything = {path.name for path in release.iterdir()}
    assert set(handler.fetched) == everything - {TALKER, "spk_dict.pt"}
    assert len(handler.fetched) == len(set(handler.fetched))
    assert base_sha256(folder) == base_sha256(release)
    assert weights(folder).keys() == weights(release).keys()
    handler.fetched.clear()
    assert fetch(hub, tmp_path / "home") == str(folder)
    assert fetch(hub, tmp_path / "home", HF_HUB_OFFLINE="1") == str(folder)
    assert not handler.fetched


@pytest.mark.slow
def test_a_download_that_was_stopped_is_completed(hub, tmp_path):
    from pathlib import Path

    folder = Path(fetch(hub, tmp_path))
    (folder / THINKER[0]).unlink()
    handler = hub.RequestHandlerClass
    handler.fetched.clear()
    fetch(hub, tmp_path)
    assert (folder / THINKER[0]).is_file() and not (folder / TALKER).exists()
