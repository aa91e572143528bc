"""What the user names and gets: inputs, manifests, labels, results.

It imports `media` and what is below it, and no torch.
"""
