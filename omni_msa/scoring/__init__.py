"""Clips become records: the scorer, its checkpoints, ablation, and batches.

It imports `methods` and what is below it.
"""

import logging

logging.getLogger("omni_msa").addHandler(logging.NullHandler())  # silent, unless it is configured
