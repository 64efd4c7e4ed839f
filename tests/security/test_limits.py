"""The limits that the other tests of this folder rest on do limit."""

from __future__ import annotations

import os
import time

import pytest

from tests.helpers.limits import within_limits


def test_what_is_given_and_raised_arrives():
    assert within_limits(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        within_limits(divmod, 7, 0)


def test_more_memory_or_time_is_not_had():
    assert len(within_limits(bytes, 2**20)) == 2**20
    with pytest.raises(AssertionError, match="took more than 256 MiB"):
        within_limits(bytes, 2**29)
    with pytest.raises(AssertionError, match=r"took more than 0\.2 s"):
        within_limits(time.sleep, 60, seconds=0.2)
    with pytest.raises(AssertionError, match="exit code 3"):
        within_limits(os._exit, 3)
