"""How the embedded model is made: synthetic clips, the base, its adapter, and its figures."""
