"""Everything that can go wrong, as one tree.

    InfiniteTalkError
    ├── InvalidInput                 the request can never work as it stands
    │   ├── MalformedRequest         the body or a header cannot be read
    │   ├── InputTooLarge            a file or the body is larger than this deployment takes
    │   ├── IdempotencyMismatch      the idempotency key belongs to another request
    │   ├── UrlInvalid               the text is no URL this deployment opens
    │   ├── UrlForbidden             the URL leads to an address that is not public
    │   ├── SourceUnreachable        the other side of the URL refused or was not there
    │   ├── InvalidField             a parameter is out of its range
    │   ├── ConsentMissing           the request does not say whose consent covers it
    │   ├── FileMissing              a named input file does not exist or cannot be read
    │   ├── UnsupportedMedia         the bytes are no picture, video or sound we take
    │   ├── ImageInvalid             the picture does not decode
    │   ├── ImageTooLarge            the picture has more pixels than this deployment takes
    │   ├── VideoInvalid             the video does not decode
    │   ├── VideoTooLarge            the video has more pixels than this deployment takes
    │   ├── NoAudioStream            the file given as speech holds no sound
    │   ├── AudioInvalid             the sound does not decode to finite samples
    │   ├── AudioTooShort            the speech is shorter than the model can follow
    │   ├── AudioTooLong             the speech is longer than this deployment renders
    │   └── MediaUnreadable          reading the file took too much time or memory, or crashed
    ├── Unauthenticated              the request carries no valid API key
    ├── JobNotFound                  there is no such job, or it belongs to another key
    ├── JobExpired                   the job was erased or its retention time is over
    ├── JobNotFinished               the job has no result yet
    ├── Unavailable                  the deployment is not set up for this
    │   ├── InvalidSetting           an INFINITETALK_* variable is unknown or unparsable
    │   ├── WeightsMissing           the preset's prepared weights are not there
    │   ├── WeightsCorrupt           a weights file is partial, altered or of another format
    │   ├── WeightsBusy              another process is preparing these weights
    │   ├── SourceFileMissing        a file of the original weights is not where it should be
    │   ├── SourceForbidden          the hub gives a file of the original weights to others only
    │   ├── DeviceUnavailable        the chosen device is not on this machine
    │   ├── DeviceTooSmall           the device's free memory does not hold the model
    │   ├── AttentionUnavailable     the chosen attention backend cannot run here
    │   ├── CompilerUnavailable      the model cannot be compiled here
    │   ├── NotReady                 the service is starting or cannot reach what it needs
    │   ├── Draining                 the service is shutting down
    │   ├── StoreBusy                the job store is locked by another process
    │   ├── StoreCorrupt             the job store is damaged or of a newer version
    │   ├── StorageFull              the disk has no room for the result
    │   └── ConnectionFailed         the service cannot be reached, or its answer arrives broken
    ├── Refused                      the request is fine but not now
    │   ├── QueueFull                as many jobs wait as this deployment queues
    │   └── BudgetExhausted          the key has spent its budget of the day
    ├── TimedOut                     something took longer than it may
    │   ├── SourceTimeout            the other side of the URL was too slow
    │   └── WaitTimeout              the job did not end while the request waited; it goes on
    ├── RenderFailed                 the job was fine, rendering it was not
    │   ├── GenerationDiverged       the sampler produced values that are not a picture
    │   ├── WorkerLost               the engine died under the job as often as it may
    │   ├── OutOfMemory              the device ran out of memory
    │   ├── EncodingFailed           ffmpeg did not produce a playable file
    │   ├── SigningFailed            the finished video could not be signed
    │   └── AcceptanceFailed         a machine does not render as it should
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

    def __init__(
        self, message: str, *, field: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.retry_after_s = retry_after_s  # when a retry is worth it, where that is known


class InvalidInput(InfiniteTalkError):
    """The request can never work as it stands."""

    code = "invalid_input"
    status = 422
    exit_code = 2


class MalformedRequest(InvalidInput):
    """The body or a header cannot be read."""

    code = "malformed_request"
    status = 400


class InputTooLarge(InvalidInput):
    """A file or the body is larger than this deployment takes."""

    code = "input_too_large"
    status = 413


class IdempotencyMismatch(InvalidInput):
    """The idempotency key belongs to another request."""

    code = "idempotency_mismatch"


class UrlInvalid(InvalidInput):
    """The text is no URL this deployment opens."""

    code = "url_invalid"


class UrlForbidden(InvalidInput):
    """The URL leads to an address that is not public."""

    code = "url_forbidden"


class SourceUnreachable(InvalidInput):
    """The other side of the URL refused or was not there."""

    code = "source_unreachable"


class InvalidField(InvalidInput):
    """A parameter is out of its range."""

    code = "invalid_field"


class ConsentMissing(InvalidInput):
    """The request does not say whose consent covers it."""

    code = "consent_missing"


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


class MediaUnreadable(InvalidInput):
    """Reading the file took too much time or memory, or crashed."""

    code = "media_unreadable"


class Unauthenticated(InfiniteTalkError):
    """The request carries no valid API key."""

    code = "unauthenticated"
    status = 401
    exit_code = 2


class JobNotFound(InfiniteTalkError):
    """There is no such job, or it belongs to another key."""

    code = "job_not_found"
    status = 404
    exit_code = 2


class JobExpired(InfiniteTalkError):
    """The job was erased or its retention time is over."""

    code = "result_expired"
    status = 410
    exit_code = 2


class JobNotFinished(InfiniteTalkError):
    """The job has no result yet."""

    code = "job_not_finished"
    status = 400  # what BentoML answers
    retryable = True
    exit_code = 2


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


class WeightsBusy(Unavailable):
    """Another process is preparing these weights."""

    code = "weights_busy"
    retryable = True


class SourceFileMissing(Unavailable):
    """A file of the original weights is not where it should be."""

    code = "source_file_missing"


class SourceForbidden(Unavailable):
    """The hub gives a file of the original weights to others only."""

    code = "source_forbidden"


class DeviceUnavailable(Unavailable):
    """The chosen device is not on this machine."""

    code = "device_unavailable"


class DeviceTooSmall(Unavailable):
    """The device's free memory does not hold the model."""

    code = "device_too_small"


class AttentionUnavailable(Unavailable):
    """The chosen attention backend cannot run here."""

    code = "attention_unavailable"


class CompilerUnavailable(Unavailable):
    """The model cannot be compiled here."""

    code = "compiler_unavailable"


class NotReady(Unavailable):
    """The service is starting or cannot reach what it needs."""

    code = "not_ready"
    retryable = True


class Draining(Unavailable):
    """The service is shutting down."""

    code = "draining"
    retryable = True


class StoreBusy(Unavailable):
    """The job store is locked by another process."""

    code = "store_busy"
    retryable = True


class StoreCorrupt(Unavailable):
    """The job store is damaged or of a newer version."""

    code = "store_corrupt"


class StorageFull(Unavailable):
    """The disk has no room for the result."""

    code = "storage_full"
    status = 507
    retryable = True


class ConnectionFailed(Unavailable):
    """The service cannot be reached, or its answer arrives broken."""

    code = "connection_failed"
    retryable = True


class Refused(InfiniteTalkError):
    """The request is fine but not now."""

    code = "refused"
    status = 429
    retryable = True
    exit_code = 3


class QueueFull(Refused):
    """As many jobs wait as this deployment queues."""

    code = "queue_full"


class BudgetExhausted(Refused):
    """The key has spent its budget of the day."""

    code = "budget_exhausted"


class TimedOut(InfiniteTalkError):
    """Something took longer than it may."""

    code = "timed_out"
    status = 504
    retryable = True
    exit_code = 3


class SourceTimeout(TimedOut):
    """The other side of the URL was too slow."""

    code = "source_timeout"


class WaitTimeout(TimedOut):
    """The job did not end while the request waited; it goes on."""

    code = "wait_timeout"
    retryable = False  # the same request would be a second job


class RenderFailed(InfiniteTalkError):
    """The job was fine, rendering it was not."""

    code = "render_failed"
    retryable = True
    exit_code = 4


class GenerationDiverged(RenderFailed):
    """The sampler produced values that are not a picture."""

    code = "generation_diverged"
    retryable = False


class WorkerLost(RenderFailed):
    """The engine died under the job as often as it may."""

    code = "worker_lost"


class OutOfMemory(RenderFailed):
    """The device ran out of memory."""

    code = "gpu_out_of_memory"


class EncodingFailed(RenderFailed):
    """ffmpeg did not produce a playable file."""

    code = "encoding_failed"


class SigningFailed(RenderFailed):
    """The finished video could not be signed."""

    code = "signing_failed"


class AcceptanceFailed(RenderFailed):
    """A machine does not render as it should."""

    code = "acceptance_failed"


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
