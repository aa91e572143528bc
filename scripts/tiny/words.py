"""Short spoken sentences, each with a stated words term in [-3, 3].

A sentence is put together from phrases that carry a value on the scale of human ratings of ordinary
English (great about +2, okay about +0.5, awful about -2.2): adjectives, verbs, nouns and events,
made stronger or weaker by adverbs, turned by negation, joined by "but". About a third of all
sentences state a fact and carry nothing. `sentence(rng)` draws any; `sentence_near(rng, target)`
draws until one lies close to a wanted value.

A sentence belongs to a split by its own words (`split_of`): what is tested was never taught.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from scripts.tiny.lexicon import (
    ADJECTIVES,
    BAD_EVENTS,
    CLAIMS,
    FACTS,
    FEELINGS,
    GOOD_EVENTS,
    MOVES,
    NAMES,
    NEUTRAL_ADJECTIVES,
    NOUNS,
    OBJECTS,
    PLACES,
    ROLES,
    SOON,
    STANCES,
    TIMES,
    TOPICS,
    Topic,
)

Rng = np.random.Generator
LIMIT = 3.0


@dataclass(frozen=True)
class Sentence:
    """What is said, and how its words alone would be rated."""

    text: str
    value: float

    @property
    def num_words(self) -> int:
        return len(self.text.split())


Phrase = tuple[str, float]  # words and their value


def _pick(rng: Rng, items):
    return items[int(rng.integers(len(items)))]


def _clip(value: float) -> float:
    return float(np.clip(value, -LIMIT, LIMIT))


def _with_article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def negated(value: float) -> float:
    """ "not good" is clearly bad, "not amazing" mildly so; "not bad" is mildly good."""
    if value > 0:
        return -0.75 * min(value, 1.4)
    return 0.3 * min(-value, 2.0)


def strengthened(value: float) -> float:
    return value + np.sign(value) * 0.35 if abs(value) > 0.2 else value


def _degree(rng: Rng, word: str, value: float) -> Phrase:
    """An adjective with or without an adverb or a negation before it."""
    strong = abs(value) >= 1.8
    draw = rng.random()
    if draw < 0.45 or abs(value) < 0.2 or " " in word:
        return word, value
    if draw < 0.68:
        adverbs = (
            ("absolutely", "truly", "simply", "completely", "really", "just")
            if strong
            else ("really", "very", "so", "extremely", "incredibly", "remarkably", "super")
        )
        return f"{_pick(rng, adverbs)} {word}", strengthened(value)
    if draw < 0.83:
        if value < 0:
            adverbs = ("a bit", "slightly", "a little", "somewhat", "kind of", "rather")
        else:
            adverbs = ("fairly", "pretty", "quite", "mostly", "reasonably")
        return f"{_pick(rng, adverbs)} {word}", value * (0.6 if value < 0 else 0.8)
    return f"{_pick(rng, ('not', 'not', 'not very', 'not really', 'hardly', 'never'))} {word}", (
        negated(value)
    )


def _judgement(rng: Rng, topic: Topic, *, before_noun: bool = False) -> Phrase:
    """A bare adjective that fits the topic; before a noun only single words will do."""
    if rng.random() < 0.18 and not before_noun:
        return _pick(rng, NEUTRAL_ADJECTIVES), 0.0
    while True:
        word, value = _pick(rng, topic.adjectives if rng.random() < 0.5 else ADJECTIVES)
        if not (before_noun and " " in word):
            return word, value


def _subject(rng: Rng, topic: Topic) -> str:
    article = _pick(rng, ("the", "the", "the", "this", "that", "my", "our"))
    return f"{article} {_pick(rng, topic.nouns)}"


def _copula(rng: Rng, topic: Topic) -> Phrase:
    words, value = _degree(rng, *_judgement(rng, topic))
    lead = _pick(rng, ("", "", "", "I think ", "I thought ", "I have to say ", "I must admit "))
    verb = _pick(rng, ("is", "was", "was"))
    tail = _pick(rng, ("", "", "", f" {_pick(rng, TIMES)}")) if verb == "was" else ""
    return f"{lead}{_subject(rng, topic)} {verb} {words}{tail}", value


def _two_adjectives(rng: Rng, topic: Topic) -> Phrase:
    """ "The soup was bland and cold": the stronger one, and a little more."""
    first, a = _judgement(rng, topic)
    for _ in range(8):
        second, b = _judgement(rng, topic)
        if second != first and a * b >= 0:
            break
    else:
        return _copula(rng, topic)
    strongest = a if abs(a) >= abs(b) else b
    value = strongest + 0.25 * np.sign(strongest) * (abs(a) > 0.2 and abs(b) > 0.2)
    return f"{_subject(rng, topic)} was {first} and {second}", value


def _contrast(rng: Rng, topic: Topic) -> Phrase:
    """ "X was good but Y was awful": what comes after "but" weighs more."""
    first, a = _judgement(rng, topic)
    second, b = _degree(rng, *_judgement(rng, topic))
    one, other = rng.choice(len(topic.nouns), size=2, replace=False)
    text = f"the {topic.nouns[one]} was {first} but the {topic.nouns[other]} was {second}"
    return text, 0.35 * a + 0.75 * b


def _exclamation(rng: Rng, topic: Topic) -> Phrase:
    word, value = _judgement(rng, topic, before_noun=True)
    if abs(value) < 0.9:
        return _copula(rng, topic)
    return f"what {_with_article(word)} {_pick(rng, topic.nouns)}", strengthened(value)


def _it_was(rng: Rng, topic: Topic) -> Phrase:
    word, value = _judgement(rng, topic, before_noun=True)
    frame = _pick(
        rng,
        (
            "it was {} {noun}",
            "we had {} {noun} {time}",
            "that is {} {noun}",
            "they gave us {} {noun}",
            "I saw {} {noun} {time}",
            "this is {} {noun}",
        ),
    )
    return (
        frame.format(_with_article(word), noun=_pick(rng, topic.nouns), time=_pick(rng, TIMES)),
        value,
    )


def _verdict_noun(rng: Rng, topic: Topic) -> Phrase:
    noun, value = _pick(rng, NOUNS)
    how = _pick(rng, ("was", "is", "turned out to be", "was"))
    extra, boost = _pick(rng, (("", 0.0), ("", 0.0), ("real ", 0.15), ("complete ", 0.25)))
    if " " in noun:
        extra, boost = "", 0.0
    phrase = _with_article(extra + noun)
    return f"{_subject(rng, topic)} {how} {phrase}", value + np.sign(value) * boost


def _stance(rng: Rng, topic: Topic) -> Phrase:
    """ "I love this phone", "I did not enjoy the film"."""
    (present, past, value) = _pick(rng, STANCES)
    noun = _subject(rng, topic)
    draw = rng.random()
    if draw < 0.2:
        verb = f"{_pick(rng, ('do not', 'did not', 'did not really'))} {present}"
        return f"I {verb} {noun}", negated(value)
    if draw < 0.4:
        adverb = _pick(rng, ("really", "absolutely", "truly"))
        return f"I {adverb} {_pick(rng, (present, past))} {noun}", strengthened(value)
    who = _pick(rng, ("I", "I", "we", "my family and I"))
    return f"{who} {_pick(rng, (present, past))} {noun}", value


def _effect(rng: Rng, topic: Topic) -> Phrase:
    """ "The meeting bored me"."""
    verb, value = _pick(rng, MOVES)
    adverb = _pick(rng, ("", "", "really ", "completely "))
    value = strengthened(value) if adverb else value
    return f"{_subject(rng, topic)} {adverb}{verb} {_pick(rng, ('me', 'us', 'everyone'))}", value


def _claim(rng: Rng, topic: Topic) -> Phrase:
    text, value = _pick(rng, CLAIMS)
    return text.format(noun=_pick(rng, topic.nouns), subject=_subject(rng, topic)), value


def _feeling(rng: Rng, topic: Topic) -> Phrase:
    words, value = _degree(rng, *_pick(rng, FEELINGS))
    frame = _pick(
        rng,
        (
            "I am {} about {noun}",
            "I feel {} today",
            "I felt {} {time}",
            "{name} is {} about {noun}",
            "we are all {}",
            "{noun} left me feeling {}",
        ),
    )
    noun = _subject(rng, topic)
    text = frame.format(words, noun=noun, time=_pick(rng, TIMES), name=_pick(rng, NAMES))
    return text, value


def _person(rng: Rng, topic: Topic) -> Phrase:
    del topic
    people = _PEOPLE
    word, value = _degree(rng, *_pick(rng, people.adjectives))
    who = _pick(rng, (_pick(rng, NAMES), f"{_pick(rng, ('my', 'our', 'the'))} {_pick(rng, ROLES)}"))
    verb = _pick(rng, ("is", "was", "has been", "can be"))
    tail = _pick(rng, ("", "", " to me", " with the children", " about it", " at work"))
    return f"{who} {verb} {word}{tail}", value


def _event(rng: Rng, topic: Topic) -> Phrase:
    del topic
    text, value = _pick(rng, GOOD_EVENTS if rng.random() < 0.5 else BAD_EVENTS)
    text = text.format(name=_pick(rng, NAMES), role=_pick(rng, ROLES))
    draw = rng.random()
    if draw < 0.2:
        lead = ("luckily", "happily", "thankfully") if value > 0 else ("sadly", "unfortunately")
        return f"{_pick(rng, lead)} {text}", value + 0.1 * np.sign(value)
    if draw < 0.45:
        return f"{_pick(rng, TIMES)} {text}", value
    return text, value


def _fact(rng: Rng, topic: Topic) -> Phrase:
    """Nothing to like or dislike in it."""
    text = _pick(rng, FACTS)
    return (
        text.format(
            noun=_pick(rng, topic.nouns),
            name=_pick(rng, NAMES),
            role=_pick(rng, ROLES),
            time=_pick(rng, TIMES),
            soon=_pick(rng, SOON),
            place=_pick(rng, PLACES),
            object=_pick(rng, OBJECTS),
            other=_pick(rng, OBJECTS),
            adjective=_pick(rng, NEUTRAL_ADJECTIVES),
            number=_pick(rng, _NUMBERS),
        ),
        0.0,
    )


def _after_a_fact(rng: Rng, topic: Topic) -> Phrase:
    """A longer turn: what happened, then what one thinks of it."""
    opening, _ = _fact(rng, topic)
    if opening.startswith(QUESTIONS):
        return _copula(rng, topic)
    rest, value = _pick(rng, (_copula, _stance, _two_adjectives, _effect))(rng, topic)
    return f"{opening}{_pick(rng, (' and ', ', ', '. '))}{rest}", value


_NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "twelve")
_PEOPLE = next(topic for topic in TOPICS if topic.name == "person")

_FORMS: tuple[tuple[Callable[[Rng, Topic], Phrase], float], ...] = (
    (_fact, 0.26),
    (_copula, 0.16),
    (_two_adjectives, 0.05),
    (_contrast, 0.06),
    (_exclamation, 0.04),
    (_it_was, 0.08),
    (_verdict_noun, 0.05),
    (_stance, 0.08),
    (_effect, 0.04),
    (_claim, 0.06),
    (_feeling, 0.05),
    (_person, 0.05),
    (_event, 0.08),
    (_after_a_fact, 0.07),
)
_WEIGHTS = np.array([weight for _, weight in _FORMS]) / sum(weight for _, weight in _FORMS)
QUESTIONS = ("have you", "did you", "can you", "where did")
_LEADS = ("well", "so", "you know", "honestly", "to be honest", "by the way", "listen", "okay so")


def _punctuated(rng: Rng, text: str, value: float) -> Phrase:
    """Sentence case; strong feelings sometimes take an exclamation mark, which strengthens them."""
    text = ". ".join(part[0].upper() + part[1:] for part in text.split(". "))
    if text.lower().startswith(QUESTIONS):
        return text + "?", value
    if abs(value) >= 1.5 and rng.random() < 0.3:
        return text + "!", value + 0.15 * np.sign(value)
    return text + ".", value


def split_of(text: str) -> str:
    """The split that a sentence's words belong to, however it is led in, written or punctuated."""
    words = " ".join(re.findall(r"[a-z0-9']+", text.lower()))
    for lead in _LEADS:
        words = words.removeprefix(f"{lead} ")
    part = int(hashlib.sha256(words.encode()).hexdigest(), 16) % 100
    return "test" if part < 10 else "valid" if part < 15 else "train"


def sentence(
    rng: Rng, form: Callable[[Rng, Topic], Phrase] | None = None, split: str | None = None
) -> Sentence:
    """Draw one sentence; `form` fixes its kind, `split` whose words it may have."""
    while True:
        drawn = _sentence(rng, form or _FORMS[int(rng.choice(len(_FORMS), p=_WEIGHTS))][0])
        if split is None or split_of(drawn.text) == split:
            return drawn


def _sentence(rng: Rng, form: Callable[[Rng, Topic], Phrase]) -> Sentence:
    text, value = form(rng, _pick(rng, TOPICS))
    if rng.random() < 0.1:
        text = f"{_pick(rng, _LEADS)}, {text}"
    text, value = _punctuated(rng, text, value)
    if rng.random() < 0.12:  # as speech recognisers write
        text = text.replace(". ", " ").rstrip(".!?").lower()
    return Sentence(text, _clip(round(float(value), 3)))


def sentence_near(
    rng: Rng, low: float, high: float, split: str | None = None, *,
    min_words: int = 3, max_words: int = 16, tries: int = 400,
) -> Sentence:  # fmt: skip
    """Draw until the value lies in [low, high] and the length fits; else the nearest that fits."""
    middle, best = (low + high) / 2, None
    for _ in range(tries):
        drawn = sentence(rng, split=split)
        if not min_words <= drawn.num_words <= max_words:
            continue
        if low <= drawn.value <= high:
            return drawn
        if best is None or abs(drawn.value - middle) < abs(best.value - middle):
            best = drawn
    if best is None:
        raise ValueError(f"no sentence of {min_words} to {max_words} words in {tries} draws")
    return best
