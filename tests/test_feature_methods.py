"""Methods on feature sequences: one pass for all subsets, frozen features made once, the whole way
from training to a record."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import MEDIA, make_content

from omni_msa.errors import ConfigError, MediaError, ModelError
from omni_msa.files.labels import LabelSpace
from omni_msa.methods import METHODS, make_method
from omni_msa.methods.feature_method import FeatureMethod
from omni_msa.methods.method import Labels
from omni_msa.modalities import all_subsets, subset_name
from omni_msa.model.loading import load_thinker
from omni_msa.options import AblationOptions, MediaOptions, ModelOptions, TrainOptions
from omni_msa.scoring.scorer import Scorer
from omni_msa.training.data import TrainingData
from omni_msa.training.feature_feed import FeatureFeed
from omni_msa.training.trainer import Trainer
from scripts.memory_feed import MemoryFeed

MEDIA_OPTIONS = MediaOptions(**MEDIA)
ON_FEATURES = [name for name, method in METHODS.items() if issubclass(method, FeatureMethod)]
SMALL = {
    "mse-adapter": {"text_tokens": "12", "audio_width": "8", "video_width": "8"},
    "mmolre": {"experts": "2", "rank": "8", "video": "true"},
    "lrcmt": {"width": "16"},
    "ecg-mamba": {"width": "16", "blocks": "1"},
}
HEAD = {"mse-adapter": {"readout": "head"}}
CONTENTS = [
    make_content("I love this film, it is wonderful.", 1.0, 2, seed=1, ecg_seconds=2),
    make_content("The service was terrible.", 2.0, 4, seed=2, ecg_seconds=3.3),
    make_content(None, 1.5, None, seed=3, ecg_seconds=2.5),
    make_content("Not bad at all.", None, 2, seed=4, ecg_seconds=4),
]
SPACES = {
    "sentiment": LabelSpace(-3.0, 3.0, mean=0.2, deviation=1.4),
    "emotion": LabelSpace.of_classes(("joy", "anger", "neutral")),
    "sentiment+emotions": LabelSpace(-3.0, 3.0, emotions=("happiness", "anger")),
}


def method_of(name, thinker, task="sentiment", **settings):
    torch.manual_seed(3)
    options = SMALL[name] | ({} if task == "sentiment" else HEAD.get(name, {})) | settings
    return make_method(name, thinker, SPACES[task], options).eval()


def built(method, thinker, contents=CONTENTS):
    builder = method.builder(thinker)
    return [builder.build(content, MEDIA_OPTIONS) for content in contents]


@pytest.mark.parametrize("task", SPACES)
@pytest.mark.parametrize("name", ON_FEATURES)
@torch.inference_mode()
def test_all_subsets_in_one_pass_are_as_one_at_a_time(thinker, name, task):
    method = method_of(name, thinker, task)
    clips = built(method, thinker)
    subsets = [all_subsets(clip.present) for clip in clips]
    together = method.read(thinker, clips, subsets)
    for b, clip in enumerate(clips):
        for k, subset in enumerate(subsets[b]):
            alone = method.read(thinker, [clip], [[subset]])
            expected = pytest.approx(float(alone.scores[0, 0]), abs=1e-4)
            assert float(together.scores[b, k]) == expected, subset_name(subset)
            if alone.emotions is not None:
                torch.testing.assert_close(
                    together.emotions[b, k], alone.emotions[0, 0], atol=1e-4, rtol=0
                )
    assert together.scores.isfinite().all()


@pytest.mark.parametrize("name", ON_FEATURES)
def test_every_subset_can_be_learnt_from(thinker, name):
    method = method_of(name, thinker).train()
    clips = built(method, thinker)
    subsets = [all_subsets(clip.present) for clip in clips]
    most = max(map(len, subsets))
    labels = Labels(torch.linspace(-2, 2, len(clips) * most).view(len(clips), most))
    losses = method.losses(thinker, clips, subsets, labels)
    assert losses.shape == (len(clips), most) and losses.isfinite().all()
    losses.sum().backward()
    gradients = [p.grad for p in method.parameters() if p.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.abs().max() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", ON_FEATURES)
def test_its_size_is_known_before_anything_is_loaded(thinker, name):
    method = method_of(name, thinker)
    expected = type(method).num_parameters(thinker.width, method.options, method.label_space)
    assert sum(p.numel() for p in method.parameters()) == expected


def labelled(labels, emotions=False):
    """Clips whose voice, words and heart tell the label."""
    contents = []
    for i, label in enumerate(labels):
        words = "good good" if label > 0 else "evil evil"
        content = make_content(text=words, seconds=0.5, num_frames=2, seed=i, ecg_seconds=2)
        content.parts["ecg"].values[:, 0] *= 1.0 if label > 0 else 0.05
        content.parts["audio"].samples[:] *= 1.0 if label > 0 else 0.05
        shown = {"happiness": float(label > 0), "anger": float(label < 0)} if emotions else None
        clip = replace(content.clip, label=label, emotions=shown)
        contents.append(replace(content, clip=clip))
    return contents


def train(base_folder, out, name, contents, space=None, progress=lambda _: None, **changes):
    options = {"epochs": 12, "batch_size": 8, "head_learning_rate": 3e-3, "patience": 12}
    options |= {"lora_learning_rate": 3e-3, "method_options": SMALL[name]}
    chosen = TrainOptions.of(METHODS[name].recipe, options | {"method": name} | changes)
    data = TrainingData(MemoryFeed(contents), MemoryFeed(contents[:4]), space or LabelSpace())
    trainer = Trainer(ModelOptions(model=str(base_folder)), chosen, MEDIA_OPTIONS, progress)
    return trainer.run(data, out, fresh=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_FEATURES)
def test_it_learns_is_saved_and_scores_what_was_validated(base_folder, tmp_path, name):
    contents = labelled([2.0, -2.0] * 8)
    settings = SMALL[name] | HEAD.get(name, {})
    info = train(base_folder, tmp_path, name, contents, method_options=settings)
    assert info.metrics["mae"] < 1.0  # guessing the mean has an MAE of 2
    assert bool(info.adapter_sha256) == (name == "lrcmt")
    scorer = Scorer.load(ModelOptions(str(base_folder), str(tmp_path)))
    records = scorer.score_prepared(
        [scorer.prepare(content) for content in contents[:4]], AblationOptions()
    )
    errors = [abs(r.score - c.clip.label) for r, c in zip(records, contents, strict=False)]
    assert sum(errors) / 4 == pytest.approx(info.metrics["mae"], abs=1e-4)
    record = records[0]
    assert record.model["readout"] == name and record.interval_absent is not None
    ablation = record.ablation
    own = {"ecg"} if name == "ecg-mamba" else {"text", "audio", "video"}
    assert set(ablation.contribution) == own
    total = sum(ablation.contribution.values())
    assert total == pytest.approx(record.score - ablation.subsets[""], abs=1e-5)


@pytest.mark.slow
def test_the_generative_adapter_learns_to_write_the_score(tmp_path):
    contents = labelled([2.0, -2.0] * 8)
    info = train("tiny", tmp_path, "mse-adapter", contents, epochs=12, subsets="full")
    assert info.metrics["mae"] < 1.0 and info.metrics["unparsable"] == 0.0
    scorer = Scorer.load(ModelOptions(checkpoint=str(tmp_path)))
    (record,) = scorer.score_prepared([scorer.prepare(contents[0])], AblationOptions())
    assert record.answer is not None and record.answer.parsable


@pytest.mark.slow
def test_emotions_beside_the_score_are_in_the_record(base_folder, tmp_path):
    contents = labelled([2.0, -2.0] * 8, emotions=True)
    space = LabelSpace(emotions=("happiness", "anger"))
    published = {"experts": "2", "rank": "8"}
    train(base_folder, tmp_path, "mmolre", contents, space, method_options=published)
    scorer = Scorer.load(ModelOptions(str(base_folder), str(tmp_path)))
    records = scorer.score_prepared(
        [scorer.prepare(content) for content in contents[:2]], AblationOptions()
    )
    happy, angry = records
    assert happy.emotions["happiness"] > 0.5 > happy.emotions["anger"]
    assert angry.emotions["anger"] > 0.5 > angry.emotions["happiness"]
    shares = happy.ablation.emotions["happiness"]
    assert set(shares) == {"text", "audio"}  # as published: no face
    log = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    load = next(row for row in log if row["event"] == "epoch")["expert_load"]
    assert set(load) == {
        f"{m}/{block}/{task}" for m in ("text", "audio") for block in (0, 1)
        for task in ("sentiment", "emotions")
    }  # fmt: skip
    assert all(sum(shares) == pytest.approx(1.0, abs=1e-3) for shares in load.values())


# --- features that are made once -----------------------------------------------------------------


class CountedFeed(MemoryFeed):
    """Counts how often clips are read."""

    reads = 0

    def read(self, order):
        self.reads += len(order)
        return super().read(order)


def test_features_are_made_once(thinker):
    method = method_of("mmolre", thinker)
    feed = CountedFeed(CONTENTS)
    notices = []
    features = FeatureFeed(feed, method.features, MEDIA_OPTIONS, frozenset(), notices.append)
    first = list(features.read([2, 0, 1, 3]))
    second = list(features.read([0, 1, 2, 3]))
    assert feed.reads == 4 and notices == []
    assert [item.clip.path for item in second] == [content.clip.path for content in CONTENTS]
    assert first[1] is second[0]
    with torch.inference_mode():
        clips = built(method, thinker)
        subsets = [[clip.present] for clip in clips]
        expected = method.read(thinker, clips, subsets).scores
        made = method.read(thinker, built(method, thinker, second), subsets).scores
    torch.testing.assert_close(made, expected, atol=1e-5, rtol=0)


def test_a_clip_that_cannot_be_shown_is_an_error_in_its_place(thinker):
    method = method_of("mmolre", thinker)
    silent = make_content(text=None, seconds=None, num_frames=2, seed=9)
    features = FeatureFeed(
        MemoryFeed([CONTENTS[0], silent, CONTENTS[1]]), method.features, MEDIA_OPTIONS,
        frozenset({"video"}), lambda _: None,
    )  # fmt: skip
    first, error, last = features.read([0, 1, 2])
    assert isinstance(error, MediaError) and error.code == "nothing_to_score"
    assert first.parts.keys() == {"text", "audio", "video", "ecg"} and last.parts


def test_features_beyond_the_memory_are_made_again(thinker, monkeypatch):
    monkeypatch.setattr("omni_msa.training.feature_feed.KEPT_BYTES", 3000)
    method = method_of("mmolre", thinker)
    feed, notices = CountedFeed(CONTENTS), []
    features = FeatureFeed(feed, method.features, MEDIA_OPTIONS, frozenset(), notices.append)
    for _ in range(2):
        items = list(features.read([0, 1, 2, 3]))
        assert [item.clip for item in items] == feed.clips
    assert 4 < feed.reads <= 8 and len(notices) == 1 and "--cache" in notices[0]


# --- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mmolre", {"sharing": "none"}, "sharing 'none' is not known"),
        ("mmolre", {"width": "0"}, "width must be 1 or more"),
        ("mmolre", {"balance": "-1"}, "balance must be 0 or more"),
        ("lrcmt", {"order": "last"}, "order 'last' is not known"),
        ("lrcmt", {"tuning": "full"}, "takes a text encoder of its own"),
        ("mse-adapter", {"readout": "probe"}, "readout 'probe' is not known"),
        ("mse-adapter", {"text_tokens": "0"}, "text_tokens must be 1 to 4096"),
        ("mse-adapter", {"language": "de"}, "language 'de' is not known"),
        ("mse-adapter", {"prompt": "none"}, "prompt 'none' is not known"),
        ("mse-adapter", {"encoder": "gru"}, "'gru' is not known"),
    ],
)
def test_options_that_cannot_be(thinker, name, options, message):
    with pytest.raises(ConfigError, match=message):
        method_of(name, thinker, **options)


@pytest.mark.parametrize(("readout", "encoder"), [("generative", "lstm"), ("head", "bissm")])
@torch.inference_mode()
def test_the_chat_prompt_asks_as_the_thinker_is_asked(thinker, readout, encoder):
    method = method_of("mse-adapter", thinker, prompt="chat", readout=readout, encoder=encoder)
    own = thinker.builder(method.question())
    assert method.prompt.before == own.prefix.token_ids.tolist()
    assert method.prompt.after == own.suffix.token_ids.tolist()
    clips = built(method, thinker)
    words, _ = own.text_segment("Not bad at all.", 12)
    assert clips[3].items["text"].tolist() == words.token_ids.tolist()
    subsets = [all_subsets(clip.present) for clip in clips]
    together = method.read(thinker, clips, subsets)
    for b, clip in enumerate(clips):  # no row sees the padding of another
        for k, subset in enumerate(subsets[b]):
            alone = method.read(thinker, [clip], [[subset]])
            torch.testing.assert_close(alone.scores[0, 0], together.scores[b, k], atol=1e-4, rtol=0)


@torch.inference_mode()
def test_turns_before_an_utterance_are_shown_with_it(thinker):
    turns = ["A: One.", "B: Two.", "C: Three."]
    content = replace(CONTENTS[3], clip=replace(CONTENTS[3].clip, extra={"context": turns}))
    tokens = thinker.processor.tokenizer
    for context, shown in ((0, ""), (2, "B: Two.\nC: Three.\n"), (9, "\n".join(turns) + "\n")):
        method = method_of("mse-adapter", thinker, context=str(context), text_tokens="50")
        (clip,) = built(method, thinker, [content])
        assert tokens.decode(clip.items["text"]) == shown + "Not bad at all."
    method = method_of("mse-adapter", thinker, context="2", text_tokens="5")
    (clip,) = built(method, thinker, [content])
    assert tokens.decode(clip.items["text"]).endswith("bad at all.")  # its own words stay
    assert "truncated" in clip.warnings[0]


def test_one_answer_holds_no_emotions(thinker):
    with pytest.raises(ConfigError, match="--set readout=head"):
        make_method("mse-adapter", thinker, SPACES["sentiment+emotions"])
    with pytest.raises(ConfigError, match="generative has no head for labels of the task"):
        make_method("generative", thinker, SPACES["sentiment+emotions"])


@pytest.mark.parametrize(
    ("method", "encoders", "message"),
    [
        ("regression", {"audio": "x"}, "regression reads the Thinker's states"),
        ("mse-adapter", {"text": "x"}, "choose one of: audio, language, video"),
        ("mmolre", {"video": "x"}, "choose one of: audio, text"),
        ("mmolre", {"smell": "x"}, "--encoder 'smell' is not known"),
        ("mmolre", {"audio": "stored:none"}, "followed by the width"),
    ],
)
def test_encoders_that_a_method_does_not_take(base_folder, method, encoders, message):
    with pytest.raises(ConfigError, match=message):
        model = ModelOptions(model=str(base_folder), encoders=encoders)
        Trainer(model, TrainOptions(method=method), MEDIA_OPTIONS)


@pytest.mark.parametrize("method", ON_FEATURES)
def test_what_is_not_trained_is_not_computed_again(base_folder, method):
    options = TrainOptions(method=method, checkpointing="on")
    if METHODS[method].adapts_base(METHODS[method].Options()):
        Trainer(ModelOptions(model=str(base_folder)), options, MEDIA_OPTIONS)
        return
    with pytest.raises(ConfigError, match="trains nothing inside the model"):
        Trainer(ModelOptions(model=str(base_folder)), options, MEDIA_OPTIONS)


def test_an_encoder_that_is_not_there(base_folder):
    model = ModelOptions(model=str(base_folder), encoders={"audio": "nowhere"})
    with pytest.raises(ModelError, match="no such folder"):
        Trainer(model, TrainOptions(method="mmolre"), MEDIA_OPTIONS)


def test_the_language_model_is_as_it_was(base_folder):
    """Greedy text with an adapter beside it, unused, is the same token by token."""

    def text(thinker):
        ids = torch.tensor([thinker.processor.tokenizer("The film was")["input_ids"]])
        return thinker.core.generate(ids, max_new_tokens=12, do_sample=False).tolist()

    bare = text(load_thinker(str(base_folder)))
    thinker = load_thinker(str(base_folder))
    method = method_of("mse-adapter", thinker).train()
    clips = built(method, thinker, CONTENTS[:1])
    subsets = [[clips[0].present]]
    method.losses(thinker, clips, subsets, Labels(torch.ones(1, 1))).sum().backward()
    assert text(thinker) == bare
    assert all(p.grad is None for p in thinker.model.parameters())
    assert np.isfinite(method.read(thinker, clips, subsets).scores).all()
