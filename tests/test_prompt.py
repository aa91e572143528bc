"""The question fits the label range, and the parts of a prompt are the model's own chat."""

from __future__ import annotations

from dataclasses import replace

import pytest
from conftest import make_content

from omni_msa.errors import ModelError
from omni_msa.methods import make_method
from omni_msa.model.loading import load_thinker
from omni_msa.model.packing import pack
from omni_msa.model.prompt import QUESTION, conversation, question
from omni_msa.options import MediaOptions
from omni_msa.scoring.checkpoint import Checkpoint, read_info
from omni_msa.scoring.scorer import Scorer


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ("from -3 to +3?", "Judge by what is shown and answer with one number.")),
        ((-1.0, 1.0), ("from -1 to +1?", "one number")),
        ((-0.5, 0.5), ("from -0.5 to +0.5?", "one number")),
        ((0.0, 2.0, ("sad", "glad", "calm")), ("sad, glad or calm?", "one of these words")),
    ],
)
def test_a_question_states_the_range_and_how_to_answer(base_folder, options, words):
    text = question(*options)
    assert all(w in text for w in words)
    assert "such as" not in text  # an example would draw answers to it
    assert text.endswith("\n") and question() == QUESTION
    # and the parts of a clip are the tokens of the whole chat, whatever is asked
    thinker = load_thinker(str(base_folder))
    content = make_content(seconds=None, num_frames=None)
    inputs = thinker.builder(text).build(content, MediaOptions())
    chat = conversation(inputs.present, "I love this film.", text)
    whole = thinker.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    tokens = thinker.processor.tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert pack(inputs, [inputs.present]).token_ids.tolist() == tokens


def test_a_checkpoint_asks_the_question_that_it_was_trained_with(thinker, checkpoint_folder):
    assert question(version="1") == (
        "How negative or positive is the speaker, from -3 to +3? Judge by what is shown.\n"
    )
    assert question(version="1") != question() == QUESTION
    info = replace(read_info(checkpoint_folder), prompt_version="1")
    method = make_method("regression", thinker, info.label_space)
    older = Scorer(thinker, Checkpoint(None, info, method), MediaOptions())
    assert older.builder.prefix.token_ids.tolist() != thinker.builder().prefix.token_ids.tolist()
    words = make_method("verbalizer", thinker, info.label_space)
    with pytest.raises(ModelError, match="trained with prompt 1"):
        Scorer(thinker, Checkpoint(None, info, words), MediaOptions())
