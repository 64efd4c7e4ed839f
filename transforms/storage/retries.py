"""Reading again after what passes: timeouts, lost connections, servers that are busy.

What does not pass (a file that is not there, a permission, damage) is never tried again.
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

ATTEMPTS = 4

# The first wait is up to this long, each further one up to twice as long ("full jitter": workers
# that failed together do not come back together).
FIRST_WAIT_SECONDS = 0.5

_TRANSIENT_STATUS = frozenset({408, 429, 500, 502, 503, 504})

_TRANSIENT_ERRNO = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)

# Of requests, urllib3, http.client, botocore and azure-core, which need not be installed here.
_TRANSIENT_NAMES = frozenset(
    {
        "ChunkedEncodingError",
        "ConnectTimeout",
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "ConnectionError",
        "EndpointConnectionError",
        "IncompleteRead",
        "ProtocolError",
        "ReadTimeout",
        "ReadTimeoutError",
        "RemoteDisconnected",
        "RetryError",
        "ServiceRequestError",
        "ServiceResponseError",
        "ServiceUnavailable",
        "Timeout",
        "TransportError",
    }
)

T = TypeVar("T")


def is_transient(error: BaseException) -> bool:
    """Whether the same call may work a moment later.

    Looks at the error, at what it was raised from and at what Beam's filesystems put into it; of
    HTTP errors at the status, wherever a library keeps it.

    >>> is_transient(TimeoutError()), is_transient(FileNotFoundError())
    (True, False)
    """
    return any(map(_is_transient, _causes(error)))


def retrying(call: Callable[[], T], attempts: int = ATTEMPTS) -> T:
    """What `call` returns, called again after transient errors.

    Raises:
      Exception: the error of the last attempt, or the first one that is not transient.
    """
    for attempt in range(1, attempts):
        try:
            return call()
        except Exception as error:
            if not is_transient(error):
                raise
        time.sleep(random.uniform(0, FIRST_WAIT_SECONDS * 2 ** (attempt - 1)))
    return call()


def http_status(error: BaseException) -> int | None:
    """The HTTP status that an error stands for, wherever its library keeps it; None if none."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        response = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    candidates = [
        getattr(error, "code", None),  # urllib, google.api_core, Beam's S3 client
        getattr(error, "status_code", None),  # azure
        getattr(error, "status", None),
        getattr(response, "status_code", response),  # requests
    ]
    for candidate in candidates:
        if isinstance(candidate, int) and 100 <= candidate < 600:
            return int(candidate)
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes, and the errors by path of a BeamIOError."""
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, None if one.__suppress_context__ else one.__context__]
        details = getattr(one, "exception_details", None)
        if isinstance(details, dict):
            waiting += [value for value in details.values() if isinstance(value, BaseException)]


def _is_transient(error: BaseException) -> bool:
    status = http_status(error)
    if status is not None:
        return status in _TRANSIENT_STATUS
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    if isinstance(error, OSError) and error.errno in _TRANSIENT_ERRNO:
        return True
    return any(base.__name__ in _TRANSIENT_NAMES for base in type(error).__mro__)
