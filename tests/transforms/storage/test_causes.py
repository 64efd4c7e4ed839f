"""Which failures pass: the table, by errors as the libraries raise them."""

from __future__ import annotations

import errno
import os
import resource
import socket
import urllib.error

import pytest
from apache_beam.io.aws.clients.s3.messages import S3ClientError
from apache_beam.io.filesystem import BeamIOError
from botocore.exceptions import ClientError, NoCredentialsError, TokenRetrievalError
from google.api_core import exceptions as google_errors
from google.auth.exceptions import InvalidOperation, RefreshError

from transforms.errors import CorruptImageError, error_row
from transforms.refs import ImageRef
from transforms.storage.causes import is_transient


class _Response:
    status_code = 502


class _ResponseError(Exception):
    response = _Response()


class _CodedError(Exception):
    def __init__(self, code: object, message: str = ""):
        super().__init__(message)
        self.code = code


def _botocore_error(status: int, code: str, message: str = "") -> ClientError:
    answer = {"ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError({"Error": {"Code": code, "Message": message}, **answer}, "GetObject")


def _caused_by(cause: Exception) -> Exception:
    error = RuntimeError("reading failed")
    error.__cause__ = cause
    return error


class _HdfsError(Exception):
    """As of the client of HDFS, which is not installed here."""

    def __init__(self, exception: str):
        super().__init__("no")
        self.exception = exception


@pytest.mark.parametrize(
    "error",
    [
        TimeoutError(),
        ConnectionResetError(),
        MemoryError(),
        *(
            OSError(number, os.strerror(number))
            for number in (
                errno.EMFILE,
                errno.ENFILE,
                errno.ENOMEM,
                errno.EIO,
                errno.ETIMEDOUT,
                errno.ENOBUFS,
                errno.ESTALE,
            )
        ),
        socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
        urllib.error.URLError(OSError(errno.ECONNREFUSED, "refused")).reason,
        _ResponseError(),
        _botocore_error(503, "SlowDown"),
        _botocore_error(401, "Unauthorized"),
        _botocore_error(400, "ExpiredToken", "The provided token has expired."),
        _botocore_error(400, "RequestTimeout"),
        _botocore_error(403, "RequestTimeTooSkewed"),
        _botocore_error(409, "ConditionalRequestConflict"),
        _botocore_error(403, "AccessDenied", "Request has expired"),
        S3ClientError("An error occurred (ExpiredToken) when calling the GetObject", 400),
        S3ClientError("busy", "SlowDown"),
        google_errors.Unauthorized("Invalid Credentials"),
        google_errors.Forbidden("the access token expired"),
        google_errors.Forbidden("Expired token"),
        RefreshError("Reauthentication is needed"),
        InvalidOperation("Anonymous credentials cannot be refreshed."),
        NoCredentialsError(),
        TokenRetrievalError(provider="sso", error_msg="expired"),
        _CodedError(429),
        _HdfsError("StandbyException"),
        BeamIOError("read", {"s3://b/a": _CodedError(500)}),
        BeamIOError("delete", {"gs://b/a": 503}),
        BeamIOError(
            "rename", {("a", "b"): BeamIOError("libhdfs", _HdfsError("SafeModeException"))}
        ),
        _caused_by(TimeoutError()),
    ],
    ids=repr,
)
def test_errors_that_pass(error: Exception) -> None:
    assert is_transient(error)


@pytest.mark.parametrize(
    "error",
    [
        *(
            OSError(number, os.strerror(number))
            for number in (
                errno.ENOENT,
                errno.EACCES,
                errno.EPERM,
                errno.ENOSPC,
                errno.EDQUOT,
                errno.EISDIR,
                errno.ENAMETOOLONG,
                errno.EROFS,
            )
        ),
        socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
        ValueError("no"),
        CorruptImageError("cut"),
        _botocore_error(404, "NoSuchKey"),
        _botocore_error(403, "AccessDenied", "no access to expired/photos/a.jpg"),
        google_errors.Forbidden("GET …/o/expired%2Fa.jpg: no storage.objects.get access"),
        _CodedError(403),
        _CodedError(412),
        _CodedError("NoSuchKey"),
        BeamIOError("read", {"s3://b/a": _CodedError(404)}),
        BeamIOError("delete", {"gs://b/a": 403}),
        _caused_by(FileNotFoundError()),
    ],
    ids=repr,
)
def test_errors_that_stay(error: Exception) -> None:
    assert not is_transient(error)


def test_a_process_without_handles_marks_its_error_rows() -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        open(__file__)
    except OSError as error:
        raised = error
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    row = error_row(ImageRef("a", "a", "1"), "read", raised)
    assert (row.transient, row.message) == (True, "Too many open files")


def test_no_memory_to_decode_passes_and_damage_does_not() -> None:
    ref = ImageRef("a", "a", "1")
    assert error_row(ref, "decode", MemoryError()).transient
    assert not error_row(ref, "decode", CorruptImageError("cut")).transient
    assert not error_row(ref, "infer", TimeoutError()).transient
