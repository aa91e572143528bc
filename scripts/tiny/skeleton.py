"""A fresh base with random weights and a tokenizer learned from what training may see.

python -m scripts.tiny.skeleton OUT --sentences FOLDER [--seed 0]
"""

from __future__ import annotations

import argparse
from pathlib import Path

from scripts.tiny import base
from scripts.tiny.examples import texts_to_know
from scripts.tiny.sentences import load_sentences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--sentences", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    base.build(arguments.out, texts_to_know(load_sentences(arguments.sentences)), arguments.seed)


if __name__ == "__main__":
    main()
