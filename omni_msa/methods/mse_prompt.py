"""The prompt of MSE-Adapter, in English and Chinese, and its answers.

The tags and the order of "official" are those of the official implementation. The wording is ours,
and so is "chat": the model's own chat template, with the task before what is shown. An answer is a
number with one decimal and its sign (as the official implementation has it for Qwen), or the number
of a class.
"""

from __future__ import annotations

from dataclasses import dataclass

from omni_msa.files.labels import LabelSpace
from omni_msa.files.record import Answer
from omni_msa.model.language import Language
from omni_msa.model.prompt import RANGE_QUESTION, WORDS

LAYOUTS = ("official", "chat")


@dataclass(frozen=True)
class Wording:
    """What stands around pseudo tokens and words, in one language."""

    opening: str
    closing: str
    number: str  # of a range {low} to {high}
    number_in_chat: str  # the same, before what is shown
    class_number: str  # of {classes}
    class_number_in_chat: str
    lead: str  # in a chat, before the words


PROMPTS = {
    "en": Wording(
        "<Multimodal>",
        "</Multimodal>\n",
        "How negative or positive is the speaker above, from {low:+.1f} to {high:+.1f}? Answer "
        "with one number.",
        RANGE_QUESTION.rstrip("\n"),
        "Which emotion does the speaker above express? {classes}. Answer with its number.",
        "Which emotion does the speaker express? {classes}. Answer with its number.",
        WORDS,
    ),
    "zh": Wording(
        "<多模态>",
        "</多模态>\n",
        "请判断以上内容的情感强度,取值范围为 {low:+.1f} 到 {high:+.1f},只回答一个数字。",
        "请判断说话人的情感强度,取值范围为 {low:+g} 到 {high:+g},只回答一个数字。",
        "请判断以上内容表达的情绪:{classes}。只回答对应的编号。",
        "请判断说话人表达的情绪:{classes}。只回答对应的编号。",
        "话语:",
    ),
}


class Prompt:
    """The ids before and behind what a clip shows, and those of the answers."""

    def __init__(self, language: Language, space: LabelSpace, wording: str, layout: str) -> None:
        words, tokens = PROMPTS[wording], language.tokens
        classes = ", ".join(f"{name} {i}" for i, name in enumerate(space.classes))
        official = words.class_number if space.classes else words.number
        in_chat = words.class_number_in_chat if space.classes else words.number_in_chat
        task = official if layout == "official" else in_chat
        task = task.format(low=space.low, high=space.high, classes=classes)
        if layout == "official":
            self.before = [*language.start, *tokens(words.opening)]
            self.after = tokens(words.closing) + tokens(task + language.cue)
        else:
            frame = language.frame(task + "\n")
            self.before, self.after = tokens(frame.prefix), tokens(frame.suffix)
        self.language = language
        self.space = space
        labels = range(len(space.classes)) if space.classes else space.texts().values()
        self.longest = max(len(self.answer_ids(value, False)) for value in labels)

    def answer_ids(self, value: float, ends: bool) -> list[int]:
        """A label as the model is to write it, with the token that ends it or without."""
        ids = self.language.tokens(label_text(value, self.space))
        return [*ids, self.language.end] if ends else ids


def label_text(value: float, space: LabelSpace) -> str:
    """`+1.4`, or the number of a class."""
    return str(round(value)) if space.classes else space.text(value)


def parse(text: str, space: LabelSpace) -> Answer:
    """A label as the model has written it; what cannot be read is 0, as in the official
    implementation, and is said to be unparsable."""
    if not space.classes:
        return space.parse(text)
    is_class = text.isdecimal() and int(text) < len(space.classes)
    return Answer(text, float(text) if is_class else 0.0, is_class, is_class)
