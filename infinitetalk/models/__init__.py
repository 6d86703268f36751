"""The networks: the InfiniteTalk transformer in plain torch, the encoders and the video VAE.

Nothing here reads files or the environment. Weights arrive under the original checkpoint's names.
"""
