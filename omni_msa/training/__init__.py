"""Labelled clips become a checkpoint: the loop, its data and its folder.

It imports `scoring` and what is below it; never `evaluation`.
"""
