"""What the numbers mean, in plain language: `omni-msa explain`, and docs/explain.md."""

from __future__ import annotations

from collections.abc import Sequence

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from omni_msa.display.output import line, to_stdout, until_reader_leaves

LINE_CELLS = 80  # longer lines are hard to read, however wide the terminal is

PAGE = """\
# What the numbers mean

Written by `python -m scripts.commands_page` from what `omni-msa explain` prints.

## The score and its range

The score says how negative or positive a clip is, on the scale that the checkpoint was trained on.
The embedded model uses -3 (very negative) to +3 (very positive); the middle, 0, is neutral. Another
checkpoint may use another range: every card, table and record names it. Scores of two checkpoints
can be compared only if both were trained on the same scale and the same kind of clips.

A checkpoint that was trained on emotions answers with the name of one. The score is then that
emotion's number in the checkpoint's list, and is no measure of more or less. One that was trained
on heart records gives the probability of each finding; what it says is no diagnosis.

A score is one number for the whole clip. Somebody who is glad and then sad may get a 0, as may
somebody who feels nothing. Cut long recordings into utterances first.

## Contributions

A clip has up to three modalities: `text` (the words), `audio` (the voice) and `video` (the face).
The model scores the clip with nothing shown, with each modality alone, with each pair and with
everything: eight scores. `omni-msa ablate` shows them. Where there is a heart record beside a clip,
`ecg` is a fourth modality, and there are sixteen.

- **With nothing shown** is the model's answer before it has seen the clip.
- **contribution** is a modality's share of the score: how far it moves the score, averaged over all
  orders in which the modalities could be shown (the Shapley value). The score with nothing shown
  and the contributions sum to the score. Printed numbers are rounded so that they do, too.
- **without it** is the score when that modality alone is hidden, and **adds** is the score minus
  that one: what the modality adds when the others are there already.

One sign rule holds for contributions and for what a modality adds: plus pulls towards positive,
minus towards negative. (In records, CSV and Parquet files `delta` is the other way round: the score
without the modality minus the score.) A full bar is half of the range.

A contribution and what a modality adds may differ a lot. If words and voice say the same, either
adds little to the other, and both have a contribution. If they contradict each other, as in
sarcasm, words may pull towards positive alone and towards negative beside the voice.

A modality that a clip lacks is `none`. It is not replaced by silence or a black picture.

## Doubt

Two digits after the point do not mean that a score is that exact. Where its checkpoint was
validated, it has a **90 % interval**: for nine of ten clips like the validation ones, the label
lies in it. All clips of which the same is shown have the same width, cut off at the ends of the
range; it says nothing of clips unlike those, such as of another language, and the one clip of ten
outside is not marked. Where there is no interval (no checkpoint, an older one, too few clips), the
record says why. What you can do:

- Label some clips of your own, and run `omni-msa evaluate`: it prints the typical error (MAE) with
  its interval, beside that of always answering the mean. A model that does not beat that is no use.
- Read a difference between two clips as real only if it is well above the typical error.
- Compare means of many clips and not single clips; single errors even out, but a bias (of a
  language, a microphone, a group of people) does not.
- Read the warnings: they name what was cut, repaired or left out.
- See whether the modalities agree. Where they do not, watch the clip.

The embedded model, `tiny`, is a demonstration that was trained on synthetic voices and drawn faces.
Do not use its numbers. What you can really do today: score with `--model Qwen/Qwen2.5-Omni-7B`,
which works without any training (zero-shot), and from some fifty labelled clips of your own fit a
readout to it with `omni-msa calibrate`.

## Languages

`tiny` learned English sentences; of words in another language it understands nothing, and gives a
score all the same. Qwen2.5-Omni reads and hears many languages, but unequally well, and a
checkpoint trained on one language may be worse in another. Only clips of your own language with
labels, and `omni-msa evaluate`, can tell.

Words are not recognised from the sound. They come from you: from `--transcript`, a manifest, a text
or subtitle file beside the clip, or subtitles inside it. Without them the model has voice and face
only.

## What it cannot know

- What somebody feels. It estimates how the clip would be judged by those who labelled the training
  clips; people disagree, and so would they.
- What is not in the clip: what was said before, who speaks to whom, what is meant by a joke among
  friends.
- Who is meant. Face and voice are of whoever is seen and heard; speakers are not told apart.
- Causes. Contributions explain this model's score. They do not say what moved the speaker, or a
  listener.
- Whether it fits people and recordings unlike those it was trained on. It is not meant for
  decisions about single people.
"""


def print_explanation() -> None:
    """The page on stdout, at most 80 columns wide."""
    with until_reader_leaves():
        console = to_stdout()
        for part in explanation():
            console.print(part, width=min(LINE_CELLS, console.width))


def explanation() -> list[Text | Padding]:
    """The page without its Markdown signs: headings, paragraphs and items."""
    parts: list[Text | Padding] = []
    for block in PAGE.strip().split("\n\n"):
        if block.startswith("Written by "):  # of the page in docs/ alone
            continue
        if block.startswith("#"):
            parts.append(line(block.lstrip("# "), style="bold"))
        elif block.startswith("- "):
            parts.append(_items(block.removeprefix("- ").split("\n- ")))
        else:
            parts.append(_text(block))
        parts.append(line())
    return parts[:-1]


def _items(items: Sequence[str]) -> Padding:
    table = Table.grid(padding=(0, 1, 0, 0))
    for item in items:
        table.add_row("-", _text(item))
    return Padding(table, (0, 0, 0, 2))


def _text(block: str) -> Text:
    return line(" ".join(block.split()).replace("**", ""))
