"""Sentences with human ratings, and a teacher that rates variations of them.

The rated sentences are few (about 20,000), so a linear model on word and character n-grams is
fitted to the training part, and its opinion of cut, joined and thinned sentences is taught beside
the people's opinion of the originals. Held-out sentences are seen by neither.

The split is by document. The files do not say which sentences stood in one document, so those that
share a rare name, and near-copies of each other, are taken for one: they are all held out, or none.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array, csr_matrix, hstack
from scipy.sparse.csgraph import connected_components
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import Ridge

RATING_SCALE = 0.75  # human -4..4 -> our -3..3
HELD_OUT_PERCENT = 10
RARE_NAME = 3  # sentences of a genre, at most, that a name links
NEAR_COPY = 0.7  # shared words, as a part of all words of the two
COMMON_WORD = 60  # a word of more sentences than these makes no candidates for near-copies


@dataclass(frozen=True)
class RatedSentence:
    """One sentence, its genre (the file it stands in) and its rating in -3..3."""

    text: str
    rating: float
    genre: str
    held_out: bool = False


def load_sentences(folder: Path) -> list[RatedSentence]:
    """Every `rating<TAB>sentence` line of the folder's .tsv files."""
    rows: list[RatedSentence] = []
    for path in sorted(folder.glob("*.tsv")):
        for line in path.read_text(encoding="utf-8").splitlines():
            rating, _, text = line.partition("\t")
            rows.append(RatedSentence(text.strip(), float(rating) * RATING_SCALE, path.stem))
    texts = [row.text for row in rows]
    documents = documents_of(texts, [row.genre for row in rows])
    held_out = [is_held_out(document) for document in documents]
    return [
        RatedSentence(row.text, row.rating, row.genre, out)
        for row, out in zip(rows, held_out, strict=True)
    ]


def plain(text: str) -> str:
    """The bare words: lower case, no punctuation."""
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def is_held_out(document: str) -> bool:
    """Decided by a document's own words, so it does not depend on what else is there."""
    digest = hashlib.sha256(document.encode()).hexdigest()
    return int(digest, 16) % 100 < HELD_OUT_PERCENT


def documents_of(texts: list[str], genres: list[str]) -> list[str]:
    """For each sentence the first words, in alphabetical order, of its document."""
    links = set(_near_copies(texts))
    by_name: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, (text, genre) in enumerate(zip(texts, genres, strict=True)):
        for name in _names(text):
            by_name[genre, name].append(i)
    for sharing in by_name.values():
        if len(sharing) <= RARE_NAME:
            links.update(pairwise(sharing))
    ends = np.array(sorted(links), dtype=int).reshape(-1, 2).T
    graph = coo_array((np.ones(ends.shape[1]), (ends[0], ends[1])), (len(texts), len(texts)))
    _, groups = connected_components(graph, directed=False)
    first: dict[int, str] = {}
    for group, text in zip(groups, texts, strict=True):
        words = plain(text)
        first[group] = min(first.get(group, words), words)
    return [first[group] for group in groups]


def _names(text: str) -> set[str]:
    """Words of four letters or more with a capital, but for the first."""
    words = re.findall(r"[A-Za-z][A-Za-z.-]+", text)
    return {word.rstrip(".") for word in words[1:] if word[0].isupper() and len(word) > 3}


def _near_copies(texts: list[str]) -> list[tuple[int, int]]:
    """Pairs that share most of their words, in any order, one of them not a common word."""
    words = CountVectorizer(binary=True, token_pattern=r"\S+").fit_transform(map(plain, texts))
    sizes = np.asarray(words.sum(axis=1)).ravel()
    rarer = words[:, np.asarray(words.sum(axis=0)).ravel() <= COMMON_WORD].tocsr()
    candidates = (rarer @ rarer.T).tocoo()
    i, j = candidates.row, candidates.col
    alike = np.minimum(sizes[i], sizes[j]) >= NEAR_COPY * np.maximum(sizes[i], sizes[j])
    i, j = i[alike & (i < j)], j[alike & (i < j)]
    both = np.asarray(words[i].multiply(words[j]).sum(axis=1)).ravel()
    near = both >= NEAR_COPY * (sizes[i] + sizes[j] - both)
    return list(zip(i[near].tolist(), j[near].tolist(), strict=True))


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
