"""Parts become hidden states: prompt, inputs, the packed pass, and loading the Thinker.

It imports `media` and what is below it; never `files`.
"""
