"""The words around the clip: one question, then video, audio, transcript.

The question comes first and the transcript last, so that the subsets of a clip share the longest
possible prefixes (see `packing.py`). The rendered text is split into a prefix, one part a modality,
and a suffix; joined again they are exactly what the model's own chat template writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from omni_msa.errors import ModelError
from omni_msa.modalities import Subset
from omni_msa.options import PROMPT_VERSION

SYSTEM = "You measure the sentiment that a speaker expresses."
# The question ends in a newline: Qwen's tokenizer never merges across it, so the parts that follow
# have the same tokens whatever comes before them.
_RANGE = "How negative or positive is the speaker, from {low:+g} to {high:+g}? "
_CLASSES = "Which does the speaker express: {first} or {last}? "
# By version: how to answer with a number, and with a class. A checkpoint keeps the version that it
# was trained with. No number stands there as an example: answers would lean towards it.
_HOW = {
    "1": ("Judge by what is shown.\n",) * 2,
    PROMPT_VERSION: (
        "Judge by what is shown and answer with one number.\n",
        "Judge by what is shown and answer with one of these words.\n",
    ),
}
VERSIONS = tuple(_HOW)
RANGE_QUESTION = _RANGE + _HOW[PROMPT_VERSION][0]  # of {low} and {high}


def question(
    low: float = -3.0, high: float = 3.0, classes: Sequence[str] = (),
    version: str = PROMPT_VERSION,
) -> str:  # fmt: skip
    """The question for a label range or for classes; every method asks the same."""
    number, word = _HOW[version]
    if classes:
        return _CLASSES.format(first=", ".join(classes[:-1]), last=classes[-1]) + word
    return _RANGE.format(low=low, high=high) + number


QUESTION = question()
WORDS = "Words: "

_MARK = "\N{REPLACEMENT CHARACTER}transcript\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class PromptFrame:
    """The chat template, rendered once: `prefix` + the shown parts + `suffix`."""

    prefix: str
    suffix: str


def conversation(shown: Subset, transcript: str | None, question: str = QUESTION) -> list[dict]:
    """The chat that the reference processor would be given for these modalities."""
    content: list[dict[str, Any]] = [{"type": "text", "text": question}]
    if "video" in shown:
        content.append({"type": "video", "video": ""})
    if "audio" in shown:
        content.append({"type": "audio", "audio": ""})
    if "text" in shown:
        content.append({"type": "text", "text": WORDS + (transcript or "")})
    system = [{"type": "text", "text": SYSTEM}]
    return [{"role": "system", "content": system}, {"role": "user", "content": content}]


def render_frame(processor: Any, question: str = QUESTION) -> PromptFrame:
    """Renders the model's own chat template and finds where the parts go.

    Raises:
        ModelError: the template does not keep the transcript where it was put.
    """
    chat = conversation(frozenset({"text"}), _MARK, question)
    return _frame_of(processor, chat, question, WORDS + _MARK)


def render_text_frame(tokenizer: Any, question: str) -> PromptFrame:
    """The same by the chat template of a model of words alone, without a system message, which some
    of them refuse.

    Raises:
        ModelError: it has no template, or one that does not keep what it is given.
    """
    if not tokenizer.chat_template:
        raise ModelError("its tokenizer has no chat template; leave out --set prompt=chat")
    chat = [{"role": "user", "content": question + _MARK}]
    return _frame_of(tokenizer, chat, question, _MARK)


def _frame_of(renderer: Any, chat: list[dict], question: str, mark: str) -> PromptFrame:
    text = renderer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    before, middle, suffix = text.partition(mark)
    if not middle or not before.endswith(question):
        raise ModelError("the model's chat template does not render text items as they are given")
    return PromptFrame(prefix=before, suffix=suffix)


def safe_transcript(text: str) -> tuple[str, str | None]:
    """Words that cannot pass for control tokens such as `<|im_end|>`, and a warning if changed."""
    if "<|" not in text:
        return text, None
    return text.replace("<|", "< |"), "transcript changed: '<|' is written '< |' for the model"
