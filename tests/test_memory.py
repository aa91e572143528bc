"""What is freed goes back to the system, where the C library can be told to."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

HOLES = """
import torch
from omni_msa.environment import prefer_huge_pages
from omni_msa.model.memory import return_large_blocks

def resident():
    line = next(l for l in open("/proc/self/status") if l.startswith("VmRSS"))
    return int(line.split()[1]) // 1024

if {tell}:
    prefer_huge_pages()
    return_large_blocks()
torch.ones(7 * 2**20)  # freed at once: from here on glibc keeps blocks of up to 28 MB
before, blocks, small = resident(), [], []
for _ in range(40):
    blocks.append(torch.ones(2 * 2**20))  # 8 MB
    small.append(torch.ones(20_000))  # and what stays between them
del blocks
print(resident() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
@pytest.mark.parametrize("tell", [False, True])
def test_large_blocks_are_given_back_once_the_library_is_told(tell):
    done = subprocess.run(
        [sys.executable, "-c", HOLES.format(tell=tell)], capture_output=True, text=True,
        check=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    held = int(done.stdout)
    assert held < 40 if tell else held > 250  # of 320 MB


def test_the_users_choice_of_pages_stays(monkeypatch):
    from omni_msa.environment import prefer_huge_pages

    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    prefer_huge_pages()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"
