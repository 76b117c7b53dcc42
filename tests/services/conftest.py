"""Fixtures of the service tests: real servers, spoken to over the loopback interface."""

import pytest

pytest.register_assert_rewrite("tests.contract.test_store")

from tests.services.s3_servers import (  # noqa: E402 - the suite is registered before anything imports it
    credentials,
    moto,
    rclone,
    seaweedfs,
)

__all__ = ["credentials", "moto", "rclone", "seaweedfs"]
