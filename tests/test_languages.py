"""Words in a language that the checkpoint was not trained on are said."""

from __future__ import annotations

from dataclasses import replace

import pytest

from omni_msa import Clip, Scorer
from omni_msa.scoring.languages import other_language

FOREIGN = {
    "de": "Das hat mir überhaupt nicht gefallen, und ich sehe es nie wieder.",
    "es": "Lo siento mucho por la espera.",
    "fr": "C'est vraiment nul, quelle perte de temps.",
    "zh": "今天真的很开心，谢谢你们来看我。",
}
ENGLISH = [
    "I love this film, it is wonderful and warm.",
    "We took the train to the city on Monday morning.",
    "Wow!",
    "It's a must-see.",
    "hmm",
    "10/10",
    "?!",
]


@pytest.mark.parametrize("language", FOREIGN)
def test_another_language_is_named(language):
    warning = f"other language: the words look like {language}, and the model knows en alone"
    assert other_language(FOREIGN[language], ["en"]) == (warning,)
    assert other_language(FOREIGN[language], ["en", language]) == ()
    assert other_language(FOREIGN[language], []) == ()


@pytest.mark.parametrize("words", ENGLISH)
def test_english_and_what_is_too_short_is_taken_as_it_is(words):
    assert other_language(words, ["en"]) == ()


def test_the_embedded_model_says_that_it_knows_english_only():
    scorer = Scorer.load()
    kinds = [scorer.score(Clip(transcript=words)).warning_kinds for words in FOREIGN.values()]
    assert kinds == [{"other language"}] * len(FOREIGN)
    assert scorer.score(Clip(transcript=ENGLISH[0])).warnings == ()
    scorer.checkpoint = replace(
        scorer.checkpoint, info=replace(scorer.checkpoint.info, languages=[])
    )
    assert scorer.score(Clip(transcript=FOREIGN["de"])).warnings == ()
