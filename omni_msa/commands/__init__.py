"""One file a command: it parses, builds options, calls the library and prints.

It may import everything; nothing imports it.
"""
