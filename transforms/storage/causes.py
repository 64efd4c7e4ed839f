"""Which failures pass: the one table by which calls are repeated and error rows marked transient.

What passes is tried again a moment later within the same call, and if that does not help by the
next run. What does not (a file that is not there, a permission, a full disk, damage) is not.
"""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator

_TRANSIENT_STATUS = frozenset({401, 408, 429, 500, 502, 503, 504})

# A refusal may be that of credentials which have expired, and only its text says so.
_STATUS_OF_EXPIRY = frozenset({400, 403})
_EXPIRY = re.compile(
    r"ExpiredToken|RequestExpired|RequestTimeTooSkewed|TokenRefreshRequired"
    r"|\b(token|credentials?|signature|session|request)\b[^/]{0,40}\bexpired\b"
    r"|\bexpired\b[^/]{0,20}\b(token|credentials?|signature|session)\b",
    re.IGNORECASE,
)

# What stores say in words, with whatever status: `RequestTimeout` of S3 is a 400.
_TRANSIENT_CODES = frozenset(
    {
        "ConditionalRequestConflict",  # of S3: another write of that name is under way
        "ExpiredToken",
        "InternalError",
        "OperationAborted",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "RequestTimeout",
        "RetriableException",  # of HDFS, as the next two
        "SafeModeException",
        "ServiceUnavailable",
        "SlowDown",
        "StandbyException",
        "Throttling",
        "ThrottlingException",
        "TokenRefreshRequired",
    }
)

_TRANSIENT_ERRNO = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.EINTR,
        errno.EIO,  # of network filesystems; a bad disk is told again by the next run
        errno.EMFILE,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EPIPE,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)

# Of requests, urllib3, http.client, google-auth, botocore and azure-core, which need not be
# installed here.
_TRANSIENT_NAMES = frozenset(
    {
        "ChunkedEncodingError",
        "ClientAuthenticationError",
        "ConnectTimeout",
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "ConnectionError",
        "CredentialRetrievalError",
        "EndpointConnectionError",
        "GoogleAuthError",
        "IncompleteRead",
        "IncompleteReadError",
        "MetadataRetrievalError",
        "NoCredentialsError",
        "ProtocolError",
        "ReadTimeout",
        "ReadTimeoutError",
        "RemoteDisconnected",
        "ResponseStreamingError",
        "RetryError",
        "SSLEOFError",
        "SSOTokenLoadError",
        "ServiceRequestError",
        "ServiceResponseError",
        "ServiceUnavailable",
        "Timeout",
        "TokenRetrievalError",
        "TransportError",
        "UnauthorizedSSOTokenError",
    }
)


def is_transient(error: BaseException) -> bool:
    """Whether the same call may work a moment later, or tomorrow.

    Looks at the error, at what it was raised from and at what Beam's filesystems put into it; of
    HTTP errors at the status, wherever a library keeps it.

    >>> is_transient(TimeoutError()), is_transient(FileNotFoundError())
    (True, False)
    """
    return any(map(_is_transient, _causes(error)))


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


def _causes(error: BaseException) -> Iterator[BaseException | int]:
    """The error, its causes, and the errors or statuses by path of a BeamIOError."""
    waiting: list[object] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, int):  # what Beam's client of Google's store keeps of a batch
            yield one
        if not isinstance(one, BaseException) or id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        waiting += [one.__cause__, None if one.__suppress_context__ else one.__context__]
        details = getattr(one, "exception_details", None)
        waiting += details.values() if isinstance(details, dict) else [details]


def _is_transient(cause: BaseException | int) -> bool:
    if isinstance(cause, int):
        return cause in _TRANSIENT_STATUS
    if _codes(cause) & _TRANSIENT_CODES:
        return True
    status = http_status(cause)
    if status is not None:
        expired = status in _STATUS_OF_EXPIRY and _EXPIRY.search(str(cause)) is not None
        return expired or status in _TRANSIENT_STATUS
    if isinstance(cause, socket.gaierror):  # its numbers are not those of other errors
        return cause.errno == socket.EAI_AGAIN
    if isinstance(cause, (TimeoutError, ConnectionError, MemoryError)):
        return True
    if isinstance(cause, OSError) and cause.errno in _TRANSIENT_ERRNO:
        return True
    return any(base.__name__ in _TRANSIENT_NAMES for base in type(cause).__mro__)


def _codes(error: BaseException) -> set[object]:
    """What the store said, in words: of botocore, of Beam's S3 client, of the client of HDFS."""
    response = getattr(error, "response", None)
    details = response.get("Error", {}) if isinstance(response, dict) else {}
    said = [details.get("Code"), getattr(error, "code", None), getattr(error, "exception", None)]
    return {word for word in said if isinstance(word, str)}
