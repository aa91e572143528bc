"""LoRA on the Thinker: where it goes, how a fresh adapter is put on, and how a saved one is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from omni_msa.errors import ModelError, first_line
from omni_msa.model.loading import UNLOADABLE, quiet_loading
from omni_msa.model.thinker import Thinker

# Plain suffixes over the whole Thinker, as published: 1.14 % of the 7B model at rank 32.
ADAPTER_FILES = ("adapter_model.safetensors", "adapter_config.json")
LORA_SUFFIXES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


# The same in the language model alone (0.90 %), by its published name and the one in memory.
LORA_TARGETS: dict[str, list[str] | str] = {
    "all": list(LORA_SUFFIXES),
    "language": r"(.*\.)?(model|language_model)\.layers\.\d+\..*(" + "|".join(LORA_SUFFIXES) + ")",
}


def add_lora(
    thinker: Thinker, rank: int, alpha: int, dropout: float, scope: str = "all"
) -> dict[str, Any]:
    """Wraps the Thinker with a fresh LoRA adapter (in place), and says how large it is.

    Args:
        scope: a key of `LORA_TARGETS`: the whole Thinker, or its language model.
    """
    with quiet_loading():
        from peft import LoraConfig, get_peft_model

        config = LoraConfig(
            r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=LORA_TARGETS[scope]
        )
        thinker.model = get_peft_model(thinker.model, config)
    trainable, total = thinker.model.get_nb_trainable_parameters()
    return {
        "rank": rank,
        "alpha": alpha,
        "dropout": dropout,
        "scope": scope,
        "parameters": trainable,
        "percent": round(100 * trainable / total, 4),
    }


def load_adapter(folder: Path, thinker: Thinker) -> None:
    """Puts a saved adapter on the Thinker (in place), ready to score.

    Raises:
        ModelError: it is damaged, or made for another model.
    """
    try:
        with quiet_loading():
            from peft import LoraConfig, get_peft_model

            config = LoraConfig.from_pretrained(str(folder))
            config.inference_mode = True
            model = get_peft_model(thinker.model, config)
            set_adapter(folder, model)
    except UNLOADABLE as error:
        raise ModelError(
            f"checkpoint {folder}: the adapter does not load ({first_line(error)})"
        ) from error
    model.eval().requires_grad_(False)
    thinker.model = model


def set_adapter(folder: Path, model: Any) -> None:
    """Every adapter tensor of the folder goes to its place, and every place gets one."""
    from peft import set_peft_model_state_dict

    tensors = load_file(folder / ADAPTER_FILES[0])
    result: Any = set_peft_model_state_dict(model, tensors)
    wrong = [k for k in result.missing_keys if "lora_" in k] + list(result.unexpected_keys)
    if wrong:
        raise ModelError(
            f"checkpoint {folder}: {len(wrong)} adapter tensors are missing or foreign, "
            f"such as {wrong[0]}"
        )
