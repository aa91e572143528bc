"""How the readouts compare over the same base, clips and LoRA."""
