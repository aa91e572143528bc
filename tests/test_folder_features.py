"""Encoders of the user's choice: the published layouts, small and with random weights."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from conftest import MEDIA, SENTENCES, make_content

from omni_msa.errors import ConfigError, MediaError, ModelError
from omni_msa.files.labels import LabelSpace
from omni_msa.methods import make_method
from omni_msa.methods.method import Labels
from omni_msa.modalities import all_subsets
from omni_msa.model.folder_features import load_encoders
from omni_msa.model.identity import folder_sha256
from omni_msa.model.loading import load_thinker
from omni_msa.model.lora import ENCODER_TARGETS, LoraSettings
from omni_msa.options import AblationOptions, MediaOptions, ModelOptions, TrainOptions
from omni_msa.scoring.scorer import Scorer
from omni_msa.training.data import TrainingData
from omni_msa.training.trainer import Trainer
from scripts.memory_feed import MemoryFeed

MEDIA_OPTIONS = MediaOptions(**MEDIA)
SIZES = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
SPEECH = {
    **SIZES,
    "intermediate_size": 32,
    "conv_dim": (8, 8),
    "conv_kernel": (10, 8),
    "conv_stride": (160, 2),
    "num_feat_extract_layers": 2,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


CAUSAL = {  # a window shorter than the prompt; convolutions; states; no cache of keys at all
    "mistral": lambda t, s: t.MistralConfig(**s, num_key_value_heads=2, sliding_window=6),
    "lfm2": lambda t, s: t.Lfm2Config(
        **s, num_key_value_heads=2, layer_types=["conv", "full_attention"]
    ),
    "falcon_h1": lambda t, s: t.FalconH1Config(
        **s, num_key_value_heads=2, mamba_d_ssm=64, mamba_n_heads=4, mamba_d_head=16,
        mamba_d_state=8, mamba_chunk_size=8,
    ),
    "rwkv": lambda t, s: t.RwkvConfig(
        vocab_size=320, hidden_size=64, num_hidden_layers=2, bos_token_id=0, eos_token_id=2
    ),
}  # fmt: skip


def words_folder(folder, kind="roberta"):
    """A byte-level tokenizer and an encoder (or, for llama, a causal language model)."""
    import transformers
    from tokenizers import ByteLevelBPETokenizer

    tokenizer = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer.train_from_iterator(SENTENCES, vocab_size=320, special_tokens=special)
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, bos_token="<s>", eos_token="</s>",
        pad_token="<pad>", unk_token="<unk>", mask_token="<mask>",
    )  # fmt: skip
    fast.save_pretrained(folder)
    ends = {"bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
    sizes = SIZES | {"vocab_size": 320, "intermediate_size": 32, "max_position_embeddings": 40}
    torch.manual_seed(0)
    if kind == "deberta-v2":
        config = transformers.DebertaV2Config(**sizes, **ends)
        transformers.DebertaV2Model(config).save_pretrained(folder)
    elif kind == "distilbert":
        config = transformers.DistilBertConfig(
            vocab_size=320, dim=24, n_layers=2, n_heads=2, hidden_dim=32, pad_token_id=1,
            max_position_embeddings=40,
        )  # fmt: skip
        transformers.DistilBertModel(config).save_pretrained(folder)
    elif kind == "modernbert":
        config = transformers.ModernBertConfig(
            **sizes, **ends, cls_token_id=0, sep_token_id=2, reference_compile=False
        )
        transformers.ModernBertModel(config).save_pretrained(folder)
    elif kind in CAUSAL:
        sizes |= {"hidden_size": 64}
        config = CAUSAL[kind](transformers, sizes | ends)
        transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    elif kind == "llama":
        config = transformers.LlamaConfig(
            **(sizes | {"hidden_size": 64, "num_key_value_heads": 2}), **ends
        )
        transformers.LlamaForCausalLM(config).save_pretrained(folder)
    else:
        config = transformers.RobertaConfig(**sizes, **ends)
        transformers.RobertaModel(config).save_pretrained(folder)
    return folder


def voice_folder(folder, kind):
    import transformers

    name = {"wav2vec2": "Wav2Vec2", "data2vec-audio": "Data2VecAudio"}[kind]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SPEECH)
    getattr(transformers, f"{name}Model")(config).eval().save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def face_folder(folder, kind="vit"):
    import transformers

    torch.manual_seed(0)
    patches = {"image_size": 32, "patch_size": 16}
    if kind == "clip":  # its class token has another name
        config = transformers.CLIPVisionConfig(**SIZES, **patches, intermediate_size=32)
        transformers.CLIPVisionModel(config).save_pretrained(folder)
    elif kind == "swin":  # 24 wide at its end, without a class token
        config = transformers.SwinConfig(
            embed_dim=12, depths=[1, 1], num_heads=[2, 2], window_size=1, image_size=32,
            patch_size=8,
        )  # fmt: skip
        transformers.SwinModel(config).save_pretrained(folder)
    elif kind == "resnet":
        config = transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], layer_type="basic"
        )
        transformers.ResNetModel(config).save_pretrained(folder)
    else:
        config = transformers.ViTConfig(**SIZES, **patches, intermediate_size=32)
        transformers.ViTModel(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    transformers.ViTImageProcessor(size=size).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """An encoder of each kind."""
    root = tmp_path_factory.mktemp("encoders")
    return {
        "text": words_folder(root / "roberta"),
        "audio": voice_folder(root / "wav2vec2", "wav2vec2"),
        "data2vec": voice_folder(root / "data2vec", "data2vec-audio"),
        "video": face_folder(root / "vit"),
        "swin": face_folder(root / "swin", "swin"),
        "clip": face_folder(root / "clip", "clip"),
        "resnet": face_folder(root / "resnet", "resnet"),
        "language": words_folder(root / "llama", "llama"),
    }


@pytest.fixture
def fresh(base_folder):
    """A base that a test may put encoders on."""
    return load_thinker(str(base_folder))


CONTENTS = [
    make_content(text="I love this film, it is wonderful.", seconds=1.0, num_frames=2, seed=1),
    make_content(text="Not bad.", seconds=2.0, num_frames=4, seed=2),
]


@pytest.mark.parametrize("name", ["text", "audio", "data2vec", "video", "swin", "clip"])
@torch.no_grad()
def test_features_are_those_of_the_library_whatever_they_are_batched_with(fresh, folders, name):
    modality = {"data2vec": "audio", "swin": "video", "clip": "video"}.get(name, name)
    load_encoders(fresh, {modality: str(folders[name])})
    encoder = fresh.encoders[modality]
    items = [encoder.prepare(content.parts[modality], MEDIA_OPTIONS)[0] for content in CONTENTS]
    together = encoder.encode(items)
    for item, features in zip(items, together, strict=True):
        torch.testing.assert_close(encoder.encode([item])[0], features, atol=1e-5, rtol=0)
        assert features.ndim == 2 and features.shape[1] == encoder.width == 24
    assert encoder.is_frozen and not any(p.requires_grad for p in encoder.model.parameters())
    if modality == "video":  # a step a frame
        assert [len(features) for features in together] == [2, 4]
        states = encoder.model(items[0]).last_hidden_state
        expected = states.mean(1) if name == "swin" else states[:, 0]
        assert encoder.identity.endswith(" mean") == (name == "swin")
        torch.testing.assert_close(together[0], expected, atol=1e-5, rtol=0)
    if name == "text":  # a step a token, begin and end too
        assert len(together[0]) == len(items[0]) > len(together[1])


def test_long_words_are_cut_at_what_the_encoder_takes(fresh, folders):
    load_encoders(fresh, {"text": str(folders["text"])})
    part = make_content(text="I love this film. " * 20).parts["text"]
    item, (warning,) = fresh.encoders["text"].prepare(part, MEDIA_OPTIONS)
    assert len(item) == 38  # 40 positions, of which RoBERTa leaves two unused
    assert warning.startswith("transcript truncated: 38 of ")
    assert torch.isfinite(fresh.encoders["text"].encode([item])[0]).all()


@pytest.mark.parametrize("name", ["mmolre", "lrcmt", "mse-adapter"])
@torch.no_grad()
def test_methods_take_them(fresh, folders, name):
    takes = {
        "mmolre": ("text", "audio"),
        "lrcmt": ("text", "audio", "video"),
        "mse-adapter": ("audio", "video", "language"),
    }[name]
    load_encoders(fresh, {modality: str(folders[modality]) for modality in takes})
    small = {"mmolre": {"rank": "4"}, "lrcmt": {"width": "16"}}
    small["mse-adapter"] = {"readout": "head"}  # random weights write no number
    small = small[name]
    method = make_method(name, fresh, LabelSpace(), small).eval()
    builder = method.builder(fresh)
    clips = [builder.build(content, MEDIA_OPTIONS) for content in CONTENTS]
    subsets = [all_subsets(clip.present) for clip in clips]
    together = method.read(fresh, clips, subsets).scores
    for b, clip in enumerate(clips):
        for k, subset in enumerate(subsets[b]):
            alone = float(method.read(fresh, [clip], [[subset]]).scores[0, 0])
            assert float(together[b, k]) == pytest.approx(alone, abs=1e-4)
    labels = Labels(torch.ones_like(together))
    assert method.losses(fresh, clips, subsets, labels).isfinite().all()


@pytest.mark.parametrize(
    ("kind", "names"),
    [("deberta-v2", 8), ("distilbert", 8), ("modernbert", None)],
)
def test_an_adapter_finds_queries_keys_and_values(fresh, tmp_path, kind, names):
    folder = words_folder(tmp_path / kind, kind)
    load_encoders(fresh, {"text": str(folder)})
    config = LoraSettings(4, 8, 0.0, "language").config(ENCODER_TARGETS)
    if names is None:  # all three in one matrix
        with pytest.raises(ModelError, match="queries, keys and values of a known name"):
            fresh.encoders["text"].adapt(config)
        return
    trainable, _ = fresh.encoders["text"].adapt(config)
    assert trainable == names * 4 * 48


@pytest.mark.parametrize("kind", ["thinker", "llama", "mistral", "lfm2", "falcon_h1", "rwkv"])
@pytest.mark.parametrize("readout", ["head", "generative"])
def test_a_shared_beginning_is_as_one_before_every_row(fresh, tmp_path, kind, readout):
    """States and gradients; models that keep more than keys and values do not share it."""
    if kind != "thinker":
        load_encoders(fresh, {"language": str(words_folder(tmp_path / kind, kind))})
    torch.manual_seed(0)
    options = {"readout": readout, "text_tokens": "8"}
    method = make_method("mse-adapter", fresh, LabelSpace(), options).eval()
    clips = [method.builder(fresh).build(content, MEDIA_OPTIONS) for content in CONTENTS]
    subsets = [all_subsets(clip.present) for clip in clips]
    labels = Labels(torch.ones(2, 8))

    def losses_and_gradients():
        losses = method.losses(fresh, clips, subsets, labels)
        return losses, *torch.autograd.grad(losses.sum(), list(method.adapter.parameters()))

    shared = losses_and_gradients()
    assert method.language._shares == (kind in ("thinker", "llama", "mistral"))
    method.language._shares = False
    for one, other in zip(shared, losses_and_gradients(), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    before = method.language.embed(torch.tensor([method.prompt.before]))
    assert before.shape[1] > 2 and (shared[0] > 0).any()


def labelled():
    """Clips whose words tell the label."""
    contents = []
    for i, label in enumerate([2.0, -2.0] * 6):
        words = "I love this film" if label > 0 else "The service was terrible"
        content = make_content(text=words, seconds=0.5, num_frames=2, seed=i)
        object.__setattr__(content.clip, "label", label)
        contents.append(content)
    return contents


def train(base_folder, out, encoders, **changes):
    options = {"method": "lrcmt", "epochs": 4, "batch_size": 4, "head_learning_rate": 3e-3}
    options |= {"lora_rank": 4, "lora_alpha": 8, "method_options": {"width": "16"}}
    model = ModelOptions(model=str(base_folder), encoders=encoders)
    trainer = Trainer(model, TrainOptions(**options | changes), MEDIA_OPTIONS)
    contents = labelled()
    data = TrainingData(MemoryFeed(contents), MemoryFeed(contents[:4]))
    return trainer.run(data, out), trainer


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["low-rank", "full", "frozen"])
def test_a_text_encoder_is_tuned_along_saved_and_loaded(base_folder, folders, tmp_path, tuning):
    encoders = {"text": str(folders["text"]), "audio": str(folders["audio"])}
    settings = {"width": "16", "tuning": tuning}
    info, trainer = train(base_folder, tmp_path / "c", encoders, method_options=settings)
    assert info.adapter_sha256 == "" and set(info.encoders) == {"text", "audio"}
    if tuning == "low-rank":  # q, k, v and output of two layers, 4 * (24 + 24) each
        assert info.lora["parameters"] == 8 * 4 * 48
    scorer = Scorer.load(ModelOptions(model=str(base_folder), checkpoint=str(tmp_path / "c")))
    contents = labelled()[:4]
    records = scorer.score_prepared([scorer.prepare(c) for c in contents], AblationOptions())
    errors = [abs(r.score - c.clip.label) for r, c in zip(records, contents, strict=True)]
    assert sum(errors) / 4 == pytest.approx(info.metrics["mae"], abs=1e-4)
    weights = scorer.method.state_dict()
    assert any("words" in key for key in weights) == (tuning != "frozen")


@pytest.mark.slow
def test_a_checkpoint_knows_its_encoders(base_folder, folders, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(folders["text"], own)
    train(base_folder, tmp_path / "c", {"text": str(own)}, epochs=1)
    moved = tmp_path / "moved"
    own.rename(moved)
    options = ModelOptions(model=str(base_folder), checkpoint=str(tmp_path / "c"))
    with pytest.raises(ModelError, match="no such folder"):
        Scorer.load(options)
    found = ModelOptions(
        model=str(base_folder), checkpoint=str(tmp_path / "c"), encoders={"text": str(moved)}
    )
    assert Scorer.load(found).score_prepared
    config = json.loads((moved / "config.json").read_text())
    (moved / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-3}))
    with pytest.raises(ModelError, match="what is there now is another one; give --encoder text"):
        Scorer.load(found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "model.safetensors").unlink(), "no \\*.safetensors"),
        (lambda f: (f / "config.json").unlink(), "config.json cannot be read"),
        (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda f: (f / "config.json").write_text('{"model_type": "none"}'), "encoder"),
        (lambda f: (f / "tokenizer_config.json").unlink(), "without tokenizer_config.json"),
    ],
)
def test_a_folder_that_is_not_whole(fresh, folders, tmp_path, change, message):
    broken = tmp_path / "broken"
    shutil.copytree(folders["text"], broken)
    change(broken)
    with pytest.raises(ModelError, match=message):
        load_encoders(fresh, {"text": str(broken)})


@pytest.mark.parametrize(
    ("modality", "folder", "message"),
    [
        ("text", "audio", "without tokenizer_config.json; this modality takes an encoder of input"),
        ("audio", "text", "without preprocessor_config.json"),
        ("video", "audio", "takes input_values; this modality takes an encoder of pixel_values"),
        ("audio", "video", "takes pixel_values; this modality takes an encoder of input_values"),
        ("video", "resnet", "a resnet, which has not one hidden_size"),
    ],
)
def test_a_folder_of_another_kind(fresh, folders, modality, folder, message):
    with pytest.raises((ModelError, ConfigError), match=message):
        load_encoders(fresh, {modality: str(folders[folder])})


def test_a_folder_without_some_weights(fresh, folders, tmp_path):
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(folders["text"], broken)
    weights = load_file(broken / "model.safetensors")
    name = next(key for key in weights if "query" in key)
    del weights[name]
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match="1 weights are missing"):
        load_encoders(fresh, {"text": str(broken)})


def test_sound_too_short_for_the_encoder(fresh, folders):
    load_encoders(fresh, {"audio": str(folders["audio"])})
    encoder = fresh.encoders["audio"]
    part = make_content(seconds=0.05).parts["audio"]
    short = type(part)(np.ascontiguousarray(part.samples[:200]), "track 0")
    with pytest.raises(MediaError, match="too short for the encoder"):
        encoder.encode([encoder.prepare(short, MEDIA_OPTIONS)[0]])


def test_word_features_are_known_by_the_question_they_are_read_behind(thinker):
    spaces = (LabelSpace(), LabelSpace(-1.0, 1.0), LabelSpace.of_classes(("joy", "anger")))
    methods = [make_method("mmolre", thinker, space, {"rank": "4"}) for space in spaces]
    identities = {tuple(method.features.identity) for method in methods}
    assert len(identities) == 3
    assert len({method.features.encoders["audio"].identity for method in methods}) == 1


def test_every_file_of_a_folder_counts(folders, tmp_path):
    own = tmp_path / "own"
    shutil.copytree(folders["text"], own)
    hashes = {folder_sha256(own)}
    for name in ("tokenizer_config.json", "vocab.txt", "config.json"):
        (own / name).write_text('{"changed": true}')
        hashes.add(folder_sha256(own))
    assert len(hashes) == 4


@pytest.mark.slow
def test_a_checkpoint_takes_no_other_encoders(base_folder, folders, tmp_path):
    train(base_folder, tmp_path / "c", {"text": str(folders["text"])}, epochs=1)
    options = ModelOptions(
        model=str(base_folder),
        checkpoint=str(tmp_path / "c"),
        encoders={"video": str(folders["video"])},
    )
    with pytest.raises(ModelError, match="trained without a video encoder of its own"):
        Scorer.load(options)
