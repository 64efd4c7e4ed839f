"""Texts as they may be told: without the signature, token, key or password that lets anybody in.

Of a URL the query's values go but for some that are known to be harmless, as does who asks. Where
the libraries of the stores tell of a request, what they sign it with goes; and so does, wherever it
stands, each value that is known to be a secret: of an option, or of the environment.
"""

from __future__ import annotations

import functools
import os
import re

MASK = "***"

# Each repetition has a limit, so that a long text takes no more than time in proportion.

_WORDS = (
    r"signature|token|secret|passw|credential|auth|policy|delegation|connection[_-]?string"
    r"|(?:api|access|account|private|encryption|license|shared)[_-]?key"
)
# Names of parameters with which a URL is signed or that say who may read it: S3, GCS, Azure, CDNs.
_SECRET_NAMES = rf"[\w.%-]{{0,64}}(?:{_WORDS})[\w.%-]{{0,64}}|sig|key|pwd|jwt|hdnea"
_PARAMETER = re.compile(
    rf"((?:[?&;#]|\[\?\])(?:{_SECRET_NAMES})=)(?!\*\*\*)[^&;#\s'\"<>]+", re.IGNORECASE
)
_USER = re.compile(r"([a-z][a-z0-9+.-]{0,30}://)[^/\s?#'\"]+@", re.IGNORECASE)

_WEB = re.compile(r"https?://[^\s'\"<>]+", re.IGNORECASE)
_QUERY = re.compile(r"\[\?\]|[?#]")
_PUNCTUATION = ":;,.!?)]}"
_HARMLESS = frozenset(
    f"{vendor}{name}"
    for vendor, names in {
        "": ("alt", "format", "generation", "tf-hub-format", "v", "version", "versionid"),
        "x-amz-": ("algorithm", "date", "expires", "signedheaders"),
        "x-goog-": ("algorithm", "date", "expires", "signedheaders"),
    }.items()
    for name in names
)

# As programs write them: JSON, Python's repr, flags, headers, connection strings.
_ASSIGNED = re.compile(
    r"((?:secret|passw(?:or)?d|pwd|connection[_-]?string|(?:api|access|account|private)[_-]?key"
    r"|(?:session|security|access|refresh|id|auth|delegation)[_-]?token)[\w-]{0,32}"
    r"[\"']?(?:\s{0,4}[:=]\s{0,4}|(?<=[\w-])\s(?=\S{16})))([\"']?)(?!\s)[^\s\"',;&<>]+",
    re.IGNORECASE,
)
_SIGNED = re.compile(
    r"(\b(?:Bearer|Basic)\s{1,4})[\w.~+/=-]{16,}|(\bSignature=)[0-9a-f]{32,}"
    r"|(\b(?:ya29\.|eyJ[\w-]{8,}\.))[\w.-]{16,}",
    re.IGNORECASE,
)
_PEM = re.compile(r"(-{5}BEGIN [A-Z ]{0,20}PRIVATE KEY-{5}).*?(-{5}END|\Z)", re.DOTALL)

_NAME = re.compile(
    r"token(?!iz)|secret|passw|credential|delegation|connection[_-]?string|key_?id"
    r"|(?:api|access|account|private|encryption|license|shared)[_-]?key",
    re.IGNORECASE,
)
_PLACE = re.compile(r"(?:_file|_path|_dir|_uri|_url|_location)$", re.IGNORECASE)
_SHORTEST = 8
_KNOWN: set[str] = set()


def is_secret_name(name: str) -> bool:
    """Whether an option, a variable or a parameter of this name holds a secret.

    >>> is_secret_name("s3_secret_access_key"), is_secret_name("AWS_WEB_IDENTITY_TOKEN_FILE")
    (True, False)
    """
    return bool(_NAME.search(name)) and not _PLACE.search(name)


def keep_secret(value: str) -> None:
    """Has `masked` mask a value wherever it stands, unless it is so short that words have it."""
    if len(value) >= _SHORTEST and value != MASK:
        _KNOWN.add(value)


def masked(text: str) -> str:
    """A text with *** for the secrets in it.

    >>> masked("https://h/m.tar.gz?versionId=3&X-Amz-Signature=f00d&user=me")
    'https://h/m.tar.gz?versionId=3&X-Amz-Signature=***&user=***'
    >>> masked("no match for s3://b/m[?]X-Amz-Signature=f00d")  # as a glob
    'no match for s3://b/m[?]X-Amz-Signature=***'
    >>> masked("model https://me:sec@ret@h/m.tgz: 403"), masked("gs://bucket/a@b?.jpg")
    ('model https://***@h/m.tgz: 403', 'gs://bucket/a@b?.jpg')
    >>> masked("{'aws_secret_access_key': 'f00d', 'Authorization': 'Bearer 0123456789abcdef'}")
    "{'aws_secret_access_key': '***', 'Authorization': 'Bearer ***'}"
    """
    for value in _KNOWN | _of_environment():
        text = text.replace(value, MASK)
    text = _WEB.sub(lambda match: _masked_query(match[0]), text)
    text = _USER.sub(rf"\1{MASK}@", _PARAMETER.sub(rf"\1{MASK}", text))
    text = _ASSIGNED.sub(rf"\1\2{MASK}", text)
    text = _SIGNED.sub(lambda match: f"{match[1] or match[2] or ''}{MASK}", text)
    return _PEM.sub(rf"\1{MASK}\2", text)


def _masked_query(url: str) -> str:
    """The URL without the values behind its `?` and its `#` that may be secrets."""
    bare = url.rstrip(_PUNCTUATION)
    mark = _QUERY.search(bare)
    if mark is None or mark.end() == len(bare):
        return url
    told = []
    for piece in re.split(r"([&;#?])", bare[mark.end() :]):
        name, equals, value = piece.partition("=")
        if name.lower() not in _HARMLESS and len(piece) > 1:
            piece = f"{name}={MASK if value else ''}" if equals else MASK
        told.append(piece)
    return bare[: mark.end()] + "".join(told) + url[len(bare) :]


@functools.cache
def _of_environment() -> frozenset[str]:
    named = (value for name, value in os.environ.items() if is_secret_name(name))
    return frozenset(v for v in named if len(v) >= _SHORTEST and not os.path.exists(v))
