"""InfiniteTalk: a portrait or a video plus a voice becomes a lip-synced video of any length.

Importing this package is free: no torch, no transformers. The modules that own them load them.
"""

__version__ = "0.1.0"
