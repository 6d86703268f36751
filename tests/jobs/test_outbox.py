"""Deliveries in SQLite."""

from collections.abc import Callable

import pytest

from infinitetalk.jobs.database import Database
from tests.jobs.contract_board import OutboxContract


class TestSqliteOutbox(OutboxContract):
    @pytest.fixture
    def written(self, database: Database) -> Callable[[], str]:
        return lambda: str([tuple(row) for row in database.read("SELECT * FROM deliveries")])
