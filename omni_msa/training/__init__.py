"""Labelled clips become a checkpoint: the loop, its data and its folder.

It imports `scoring` and what is below it; never `evaluation`.
"""

import logging

logging.getLogger("omni_msa").addHandler(logging.NullHandler())  # silent, unless it is configured
