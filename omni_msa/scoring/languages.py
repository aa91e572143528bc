"""Which language the words of a clip are in, where a checkpoint knows only some."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

CERTAIN = 0.8  # probability: below it, short or mixed words are taken as they are


def other_language(words: str, languages: Sequence[str]) -> tuple[str, ...]:
    """The warning that words are in none of the languages that a checkpoint was trained on.

    Args:
        words: of a clip.
        languages: ISO 639-1 codes; none when the checkpoint does not say.
    """
    if not languages:
        return ()
    language, probability = _identifier().classify(words)
    if language in languages or probability < CERTAIN:
        return ()
    names = ", ".join(languages)
    return (f"other language: the words look like {language}, and the model knows {names} alone",)


@cache
def _identifier() -> Any:
    """py3langid's naive Bayes over 97 languages (Lui and Baldwin, ACL 2012); 0.4 s to load."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
