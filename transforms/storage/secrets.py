"""URLs as they may be told: without the signature, token or password that lets anybody in."""

from __future__ import annotations

import re

MASK = "***"

# Each repetition has a limit, so that a long text takes no more than time in proportion.

# Names of parameters with which a URL is signed or that say who may read it: S3, GCS, Azure, CDNs.
_SECRET_NAMES = (
    r"[\w.%-]{0,64}(?:signature|token|secret|passw|credential|auth|policy|api[_-]?key|access[_-]?key)"
    r"[\w.%-]{0,64}|sig|key|pwd|jwt|hdnea"
)
_PARAMETER = re.compile(rf"((?:[?&;]|\[\?\])(?:{_SECRET_NAMES})=)[^&;#\s'\"<>]+", re.IGNORECASE)
_USER = re.compile(r"([a-z][a-z0-9+.-]{0,30}://)[^/\s?#@'\"]+@", re.IGNORECASE)


def masked(text: str) -> str:
    """A text with *** for the secrets of the URLs in it.

    >>> masked("https://h/m.tar.gz?versionId=3&X-Amz-Signature=f00d")
    'https://h/m.tar.gz?versionId=3&X-Amz-Signature=***'
    >>> masked("no match for https://h/m[?]X-Amz-Signature=f00d")  # as a glob
    'no match for https://h/m[?]X-Amz-Signature=***'
    >>> masked("model https://me:secret@h/m.tgz: 403"), masked("gs://bucket/a@b")
    ('model https://***@h/m.tgz: 403', 'gs://bucket/a@b')
    """
    return _USER.sub(rf"\1{MASK}@", _PARAMETER.sub(rf"\1{MASK}", text))
