"""Sentences with human ratings, and a teacher that rates variations of them.

The rated sentences are few (about 20,000), so a linear model on word and character n-grams is
fitted to the training part, and its opinion of cut, joined and thinned sentences is taught beside
the people's opinion of the originals. Held-out sentences are seen by neither.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix, hstack
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge

RATING_SCALE = 0.75  # human -4..4 -> our -3..3
HELD_OUT_PERCENT = 10


@dataclass(frozen=True)
class RatedSentence:
    """One sentence, its genre (the file it stands in) and its rating in -3..3."""

    text: str
    rating: float
    genre: str

    @property
    def held_out(self) -> bool:
        """Decided by the words themselves, so duplicates never straddle the split."""
        digest = hashlib.sha256(self.text.lower().encode()).hexdigest()
        return int(digest, 16) % 100 < HELD_OUT_PERCENT


def load_sentences(folder: Path) -> list[RatedSentence]:
    """Every `rating<TAB>sentence` line of the folder's .tsv files."""
    rows = []
    for path in sorted(folder.glob("*.tsv")):
        for line in path.read_text(encoding="utf-8").splitlines():
            rating, _, text = line.partition("\t")
            rows.append(RatedSentence(text.strip(), float(rating) * RATING_SCALE, path.stem))
    return rows


class Teacher:
    """Ridge regression on TF-IDF of words (1-2) and characters (2-5)."""

    def __init__(self, sentences: list[RatedSentence]) -> None:
        words = r"[\w']+|[^\w\s]+"
        self.vectorizers = (
            TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=words, min_df=2),
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=3),
        )
        texts = [s.text for s in sentences]
        for vectorizer in self.vectorizers:
            vectorizer.fit(texts)
        ratings = np.array([s.rating for s in sentences])
        self.ridge = Ridge(alpha=1.5, solver="lsqr").fit(self._features(texts), ratings)

    def rate(self, texts: list[str]) -> np.ndarray:
        """Ratings in -3..3: [N]."""
        return self.ridge.predict(self._features(texts)).clip(-3, 3)

    def _features(self, texts: list[str]) -> csr_matrix:
        return hstack([v.transform(texts) for v in self.vectorizers]).tocsr()


def vary(sentences: list[RatedSentence], rng: random.Random) -> str:
    """A variation of one or two sentences: a span, a join, fewer words, or another look."""
    words = rng.choice(sentences).text.split()
    kind = rng.random()
    if kind < 0.35 and len(words) > 4:  # a span
        length = rng.randint(3, len(words))
        start = rng.randint(0, len(words) - length)
        words = words[start : start + length]
    elif kind < 0.6:  # the beginning of one, the end of another
        other = rng.choice(sentences).text.split()
        words = words[: rng.randint(1, len(words))] + other[rng.randint(0, len(other) - 1) :]
    elif kind < 0.9:  # fewer words
        kept = [w for w in words if rng.random() > 0.2]
        words = kept or words
    return restyle(" ".join(words[:60]), rng)


def restyle(text: str, rng: random.Random) -> str:
    """The same words in another case or with other punctuation, as transcripts vary."""
    roll = rng.random()
    if roll < 0.3:
        text = text.lower()
    elif roll < 0.4:
        text = re.sub(r"[^\w\s']", "", text)
    elif roll < 0.5:
        text = re.sub(r"[^\w\s']", "", text).lower()
    elif roll < 0.6:
        text = text[:1].upper() + text[1:]
    return text or "okay"
