"""Clips become records: the scorer, its checkpoints, ablation, and batches.

It imports `methods` and what is below it.
"""
