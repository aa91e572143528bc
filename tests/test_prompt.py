"""The question fits the label range, and the parts of a prompt are the model's own chat."""

from __future__ import annotations

import pytest
from conftest import make_content

from omni_msa.model.loading import load_thinker
from omni_msa.model.packing import pack
from omni_msa.model.prompt import QUESTION, conversation, question
from omni_msa.options import MediaOptions


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), ("from -3 to +3?", "Judge by what is shown.")),
        ((-3.0, 3.0, (), True), ("from -3 to +3?", "Answer with one number, such as +1.5.")),
        ((-1.0, 1.0, (), True), ("from -1 to +1?", "such as +0.5.")),
        ((-0.5, 0.5, (), False), ("from -0.5 to +0.5?",)),
    ],
)
def test_a_question_states_the_range_and_how_to_answer(base_folder, options, words):
    text = question(*options)
    assert all(w in text for w in words)
    assert ("Answer" in text) == (True in options)
    assert text.endswith("\n") and question() == QUESTION
    # and the parts of a clip are the tokens of the whole chat, whatever is asked
    thinker = load_thinker(str(base_folder))
    content = make_content(seconds=None, num_frames=None)
    inputs = thinker.builder(text).build(content, MediaOptions())
    chat = conversation(inputs.present, "I love this film.", text)
    whole = thinker.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    tokens = thinker.processor.tokenizer(whole, add_special_tokens=False)["input_ids"]
    assert pack(inputs, [inputs.present]).token_ids.tolist() == tokens
