"""Neural modules of the methods that have networks of their own, one file a published system.

Plain torch modules: they know no clip, no Thinker and no option of a command.
"""
