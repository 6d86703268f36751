"""What embedding long speech in overlapping pieces changes, against embedding it at once.

Random wav2vec2-base weights (the released ones are out of reach here), noise with the rhythm of
speech. Random attention looks far further than a trained one does, so this is the worse case.

python -m benchmarks.speech_pieces
"""

import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch

from benchmarks.results import record
from infinitetalk.media.audio import SPEECH_RATE, SpeechFile
from infinitetalk.media.loudness import normalise
from infinitetalk.models.audio_encoder import AudioEncoder, AudioEncoderConfig
from infinitetalk.spec import FPS
from infinitetalk.speech import MARGIN_FRAMES, PIECE_FRAMES, StreamedSpeech, measure_level, piece_of

SECONDS = 150


def speech(seconds: int) -> np.ndarray:
    random = np.random.default_rng(0)
    count = seconds * SPEECH_RATE
    knots = random.random(seconds * 8 + 2)
    loudness = np.interp(np.arange(count) / SPEECH_RATE, np.arange(len(knots)) / 8, knots)
    return (0.1 * random.normal(size=count) * loudness).astype(np.float32)


def main() -> None:
    torch.manual_seed(0)
    encoder = AudioEncoder(AudioEncoderConfig()).eval()
    with tempfile.TemporaryDirectory() as home, torch.inference_mode():
        path = Path(home) / "speech.wav"
        soundfile.write(path, speech(SECONDS), SPEECH_RATE, subtype="FLOAT")
        frames = SECONDS * FPS
        with SpeechFile(path) as voice:
            samples = normalise(voice.read(0, voice.samples), measure_level(voice, frames))
            whole = encoder(torch.from_numpy(samples), frames)
            pieces = StreamedSpeech(voice, encoder, frames).rows(torch.arange(frames)[:, None])[
                :, 0
            ]
    error = (pieces - whole).flatten(1).norm(dim=1) / whole.flatten(1).norm(dim=1)
    seams = [row for row in range(1, frames) if piece_of(row, frames) != piece_of(row - 1, frames)]
    at_seams = torch.cat([error[row - 1 : row + 1] for row in seams])
    rows = [
        ("all rows, mean relative L2", f"{error.mean():.2e}"),
        ("all rows, largest", f"{error.max():.2e}"),
        ("rows at a seam, largest", f"{at_seams.max():.2e}"),
    ]
    note = (
        f"{SECONDS} s of speech, pieces of {PIECE_FRAMES / FPS:g} s, at least "
        f"{MARGIN_FRAMES / FPS:g} s of margin, {len(seams)} seams. Up to 60 s there is one piece "
        "and the error is 0."
    )
    record("Speech in pieces", ("error against one piece", "measured"), rows, note)


if __name__ == "__main__":
    main()
