"""Mutations of what is valid, thousands in a process that has little memory and time for each.

Each case follows from its subject and number alone, and a failure names it.
"""

from __future__ import annotations

import dataclasses
import pathlib
import random
import signal
import struct
import time
from collections.abc import Callable, Sequence

from tests.helpers.limits import within_limits

# Of the processor's time; what waits is found by the limit for all.
SECONDS_OF_A_CASE = 5

# However slow the machine is: what is asserted of them does not depend on it.
LEAST_CASES = 40

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


def mutated(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """One to four changes: bits, numbers, pieces that are cut, repeated or of another valid one."""
    for _ in range(chance.choice([1, 1, 2, 4])):
        change = chance.choice([_flip, _flip, _number, _number, _cut, _repeat, _splice, _remove])
        data = change(data or b"\0", chance, others)
    return data


def mutated_text(text: str, chance: random.Random, tokens: Sequence[str]) -> str:
    """The same for JSON: a piece between punctuation is replaced, repeated or nested."""
    for _ in range(chance.choice([1, 1, 2])):
        cuts = [at for at, letter in enumerate(text) if letter in '{}[],:"'] or [0]
        start, end = sorted((chance.choice(cuts), chance.choice(cuts)))
        piece = text[start:end]
        new = chance.choice(
            [chance.choice(tokens), piece * chance.choice([2, 50]), f"[{piece}]", "", piece[::-1]]
        )
        text = text[:start] + new + text[end:]
    return text


JSON_TOKENS = (
    *("null", "-1", "0", "1e999", "NaN", "true", '""', "[]", "{}", "9" * 5000, '"\\ud800"', "1.5"),
    *('"../a"', '"\\u0000"', "[" * 5000, '{"a":' * 5000, '"' + "a" * 5000 + '"', '[["a","b"]]'),
)


def _flip(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    changed = bytearray(data)
    reach = chance.choice([64, len(data)])
    for _ in range(chance.choice([1, 2, 8])):
        changed[chance.randrange(min(reach, len(data)))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _number(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    at = chance.randrange(len(data))
    size = chance.choice("BHIQ")
    value = chance.choice(_EXTREMES) & (1 << 8 * struct.calcsize(size)) - 1
    new = struct.pack(chance.choice("<>") + size, value)
    return data[:at] + new + data[at + len(new) :]


def _cut(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    return data[: chance.randrange(len(data))]


def _remove(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    start, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    return data[:start] + data[end:]


def _repeat(data: bytes, chance: random.Random, _: Sequence[bytes]) -> bytes:
    start = chance.randrange(len(data))
    end = start + chance.choice([1, 4, 12, 64, 512])
    return data[:end] + data[start:end] * chance.choice([1, 10, 1000]) + data[end:]


def _splice(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    other = chance.choice(others) or b"\0"
    return data[: chance.randrange(len(data))] + other[chance.randrange(len(other)) :]


@dataclasses.dataclass(frozen=True)
class Fuzzed:
    """What became of the cases.

    Attributes:
      cases: how many there were.
      accepted: in how many the function found nothing wrong.
    """

    cases: int
    accepted: int


def fuzz(
    subject: str,
    try_case: Callable[[random.Random, pathlib.Path], bool],
    directory: pathlib.Path,
    seconds: float,
    more_bytes: int,
) -> Fuzzed:
    """Tries cases for some seconds, in one process.

    Args:
      subject: with the number of a case the seed of what it gets.
      try_case: of a module; makes a case in a directory that is its own, has it read, and returns
        whether nothing was found wrong with it; raises what is never to be raised.
      directory: for all cases.
      seconds: how long; a budget, for `LEAST_CASES` or more.
      more_bytes: address space for all of them.

    Raises:
      AssertionError: names the seed of what took too long, too much or ended the process.
    """
    note = directory / "seed"
    try:
        return within_limits(
            *(_try_all, subject, try_case, directory, note, seconds),
            more_bytes=more_bytes,
            seconds=seconds + 60,
        )
    except Exception as error:
        raise AssertionError(f"{note.read_text()}: {type(error).__name__}: {error}") from error


def _try_all(
    subject: str,
    try_case: Callable[[random.Random, pathlib.Path], bool],
    directory: pathlib.Path,
    note: pathlib.Path,
    seconds: float,
) -> Fuzzed:
    signal.signal(signal.SIGPROF, _took_too_long)
    end = time.monotonic() + seconds
    cases = accepted = 0
    with open(note, "w", encoding="ascii") as file:
        while cases < LEAST_CASES or time.monotonic() < end:
            seed = f"{subject}-{cases}"
            file.seek(0)
            file.write(seed)
            file.flush()
            signal.setitimer(signal.ITIMER_PROF, SECONDS_OF_A_CASE)
            accepted += try_case(random.Random(seed), directory)
            signal.setitimer(signal.ITIMER_PROF, 0)
            cases += 1
    return Fuzzed(cases, accepted)


def _took_too_long(*_: object) -> None:
    raise AssertionError(f"took more than {SECONDS_OF_A_CASE} s")
