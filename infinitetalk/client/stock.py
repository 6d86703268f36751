"""BentoML's own clients with two faults of 1.4.39 repaired.

- `SyncHTTPClient.<task>.submit` looks for its open files under a name that is not there, and
  raises after the job was made; whoever tries again pays twice.
- Headers cannot be given, and the constructor already asks the server: behind a proxy that wants
  them, such as Modal's, there is no client at all.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # whoever uses `Client` need not have BentoML
    import bentoml


def sync_client(
    url: str, headers: Mapping[str, str] | None = None, **options: Any
) -> "bentoml.SyncHTTPClient":
    """`bentoml.SyncHTTPClient(url, **options)` that sends `headers` from its first request on."""
    from infinitetalk.client.repaired import RepairedSyncClient

    return RepairedSyncClient(url, headers or {}, **options)


def async_client(
    url: str, headers: Mapping[str, str] | None = None, **options: Any
) -> "bentoml.AsyncHTTPClient":
    """`bentoml.AsyncHTTPClient(url, **options)` that sends `headers` from its first request on."""
    from infinitetalk.client.repaired import RepairedAsyncClient

    return RepairedAsyncClient(url, headers or {}, **options)
