"""Trains the small tokenizer that the `demo` and `tiny` presets ship.

Built like umT5-XXL's, so that one loader reads both: a Unigram model over Metaspace words with byte
fallback, the same four special ids, and `</s>` after every text. No normaliser: every character
reaches the model, if need be as its UTF-8 bytes, and nothing becomes `<unk>`.

    python -m infinitetalk.demo.tokenizer OUT.json
"""

import json
import string
import sys
from importlib.resources import files
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

SPECIALS = ("<pad>", "</s>", "<s>", "<unk>")  # ids 0 to 3, as in umT5
END, UNKNOWN = 1, 3
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))
LETTERS = string.digits + string.ascii_letters + string.punctuation
SPACE = "▁"
VOCABULARY = 1024

# Raw bytes are the last resort: at this score a text that spells one out ("<0x41>") stays text.
BYTE_SCORE = -100.0


def train_tokenizer(sentences: list[str]) -> Tokenizer:
    """A tokenizer of `VOCABULARY` pieces: specials, bytes, then words and their parts by score."""
    pieces = _learn_pieces(sentences, VOCABULARY - len(SPECIALS) - len(BYTES))
    vocabulary = [(special, 0.0) for special in SPECIALS]
    vocabulary += [(byte, BYTE_SCORE) for byte in BYTES]
    vocabulary += pieces
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=UNKNOWN, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(SPACE)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {SPECIALS[END]}", special_tokens=[(SPECIALS[END], END)]
    )
    tokenizer.add_special_tokens([AddedToken(name, special=True) for name in SPECIALS])
    return tokenizer


def _learn_pieces(sentences: list[str], size: int) -> list[tuple[str, float]]:
    learner = Tokenizer(models.Unigram())
    learner.pre_tokenizer = pre_tokenizers.Metaspace(SPACE)
    trainer = trainers.UnigramTrainer(
        vocab_size=size, initial_alphabet=[SPACE, *LETTERS], show_progress=False
    )
    learner.train_from_iterator(sentences, trainer)
    learned = json.loads(learner.to_str())["model"]["vocab"]
    # The trainer walks a hash table, so scores differ in late digits from run to run.
    rounded = [(piece, round(score, 1)) for piece, score in learned]
    return sorted(rounded, key=lambda pair: (-pair[1], pair[0]))


def main() -> None:
    sentences = files("infinitetalk.demo").joinpath("assets/sentences.txt").read_text("utf-8")
    train_tokenizer(sentences.splitlines()).save(str(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
