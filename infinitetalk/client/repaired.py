"""The subclasses that `stock` makes; importing this needs BentoML."""

import io
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import bentoml
import httpx


class RepairedSyncClient(bentoml.SyncHTTPClient):  # type: ignore[misc]  # is loaded lazily
    """A client whose `submit` works."""

    def __init__(self, url: str, headers: Mapping[str, str], **options: Any) -> None:
        self._headers = dict(headers)
        super().__init__(url, **options)

    @cached_property
    def client(self) -> httpx.Client:
        headers = {**self.default_headers, **self._headers}
        return self._make_client(httpx.Client, self.url, headers, self.timeout, self.app)

    @property
    def _opened_files(self) -> list[io.BufferedReader]:
        """What `submit` closes at its end."""
        return self._file_manager._opened_files


class RepairedAsyncClient(bentoml.AsyncHTTPClient):  # type: ignore[misc]
    """A client that takes headers."""

    def __init__(self, url: str, headers: Mapping[str, str], **options: Any) -> None:
        self._headers = dict(headers)
        super().__init__(url, **options)

    @cached_property
    def client(self) -> httpx.AsyncClient:
        headers = {**self.default_headers, **self._headers}
        return self._make_client(httpx.AsyncClient, self.url, headers, self.timeout, self.app)
