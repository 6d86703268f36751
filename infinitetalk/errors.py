"""Everything that can go wrong, as one tree.

    InfiniteTalkError
    ├── InvalidInput                 the request can never work as it stands
    │   ├── InvalidField             a parameter is out of its range
    │   ├── FileMissing              a named input file does not exist or cannot be read
    │   ├── UnsupportedMedia         the bytes are no picture, video or sound we take
    │   ├── ImageInvalid             the picture does not decode
    │   ├── ImageTooLarge            the picture has more pixels than this deployment takes
    │   ├── VideoInvalid             the video does not decode
    │   ├── VideoTooLarge            the video has more pixels than this deployment takes
    │   ├── NoAudioStream            the file given as speech holds no sound
    │   ├── AudioInvalid             the sound does not decode to finite samples
    │   ├── AudioTooShort            the speech is shorter than the model can follow
    │   └── AudioTooLong             the speech is longer than this deployment renders
    ├── Unavailable                  the deployment is not set up for this
    │   ├── InvalidSetting           an INFINITETALK_* variable is unknown or unparsable
    │   ├── WeightsMissing           the preset's prepared weights are not there
    │   ├── WeightsCorrupt           a weights file is partial, altered or of another format
    │   ├── DeviceUnavailable        the chosen device is not on this machine
    │   ├── AttentionUnavailable     the chosen attention backend cannot run here
    │   └── StorageFull              the disk has no room for the result
    ├── RenderFailed                 the job was fine, rendering it was not
    │   ├── GenerationDiverged       the sampler produced values that are not a picture
    │   ├── OutOfMemory              the device ran out of memory
    │   └── EncodingFailed           ffmpeg did not produce a playable file
    ├── JobBusy                      another process is at work on this job
    └── Canceled                     the caller asked to stop

Messages are public: one sentence, no path of the server, no stack, no prompt.
"""

from typing import ClassVar


class InfiniteTalkError(Exception):
    """Base of every error this package raises on purpose."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class InvalidInput(InfiniteTalkError):
    """The request can never work as it stands."""

    code = "invalid_input"
    status = 422
    exit_code = 2


class InvalidField(InvalidInput):
    """A parameter is out of its range."""

    code = "invalid_field"


class FileMissing(InvalidInput):
    """A named input file does not exist or cannot be read."""

    code = "file_missing"


class UnsupportedMedia(InvalidInput):
    """The bytes are no picture, video or sound we take."""

    code = "unsupported_media"
    status = 415


class ImageInvalid(InvalidInput):
    """The picture does not decode."""

    code = "image_invalid"


class ImageTooLarge(InvalidInput):
    """The picture has more pixels than this deployment takes."""

    code = "image_too_large"


class VideoInvalid(InvalidInput):
    """The video does not decode."""

    code = "video_invalid"


class VideoTooLarge(InvalidInput):
    """The video has more pixels than this deployment takes."""

    code = "video_too_large"


class NoAudioStream(InvalidInput):
    """The file given as speech holds no sound."""

    code = "no_audio_stream"


class AudioInvalid(InvalidInput):
    """The sound does not decode to finite samples."""

    code = "audio_invalid"


class AudioTooShort(InvalidInput):
    """The speech is shorter than the model can follow."""

    code = "audio_too_short"


class AudioTooLong(InvalidInput):
    """The speech is longer than this deployment renders."""

    code = "audio_too_long"


class Unavailable(InfiniteTalkError):
    """The deployment is not set up for this."""

    code = "unavailable"
    status = 503
    exit_code = 3


class InvalidSetting(Unavailable):
    """An INFINITETALK_* variable is unknown or unparsable."""

    code = "invalid_setting"


class WeightsMissing(Unavailable):
    """The preset's prepared weights are not there."""

    code = "weights_missing"


class WeightsCorrupt(Unavailable):
    """A weights file is partial, altered or of another format."""

    code = "weights_corrupt"


class DeviceUnavailable(Unavailable):
    """The chosen device is not on this machine."""

    code = "device_unavailable"


class AttentionUnavailable(Unavailable):
    """The chosen attention backend cannot run here."""

    code = "attention_unavailable"


class StorageFull(Unavailable):
    """The disk has no room for the result."""

    code = "storage_full"
    status = 507
    retryable = True


class RenderFailed(InfiniteTalkError):
    """The job was fine, rendering it was not."""

    code = "render_failed"
    retryable = True
    exit_code = 4


class GenerationDiverged(RenderFailed):
    """The sampler produced values that are not a picture."""

    code = "generation_diverged"
    retryable = False


class OutOfMemory(RenderFailed):
    """The device ran out of memory."""

    code = "gpu_out_of_memory"


class EncodingFailed(RenderFailed):
    """ffmpeg did not produce a playable file."""

    code = "encoding_failed"


class JobBusy(InfiniteTalkError):
    """Another process is at work on this job."""

    code = "job_busy"
    status = 409
    retryable = True
    exit_code = 2


class Canceled(InfiniteTalkError):
    """The caller asked to stop."""

    code = "canceled"
    status = 409
    exit_code = 130
