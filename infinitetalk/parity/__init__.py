"""Parity with the original: golden cases run through the engine, compared within stated tolerances.

    python -m infinitetalk.parity GOLDEN_DIR [--case NAME] [--device cpu|cuda]
                                  [--dtype float32|bfloat16]

A case is a folder `case_*` with `case.json` and `weights`, `inputs`, `outputs` as safetensors;
`manifests` holds the keys and shapes of the released checkpoints. Sizes come from the case, nothing
is assumed about them.
"""
