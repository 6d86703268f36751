"""A finished video on one sheet, to be judged by eye: frames, voice and mouth, colours, stages.

No verdicts: those of a machine that is to render are in `acceptance`.
"""
