"""The acceptance run: proves on one machine that the product works there, and measures it."""
