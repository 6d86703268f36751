"""What the demo needs and the package ships: a drawn portrait, a spoken sentence, a tokenizer."""
