"""The lines that a run says while it is at work, on stderr."""

from __future__ import annotations

import collections
import sys
from collections.abc import Iterator

from pipeline.settings import Settings
from pipeline.terminal.errors import told
from pipeline.terminal.streams import shown
from pipeline.terminal.words import count
from transforms.inputs.names import UNDECODED_SUFFIXES


def say(*lines: str) -> None:
    """Says each line at once."""
    for line in lines:
        print(shown(line), file=sys.stderr, flush=True)


def passed_over_text(passed_over: collections.Counter[str]) -> str:
    """The end of the plan's line: what the inputs hold besides images that can be decoded."""
    images, others = split_passed_over(passed_over)
    folders = collections.Counter({kind: n for kind, n in others.items() if kind.endswith("/")})
    others -= folders
    text = ""
    if images:
        text += f"; cannot decode {count(images.total(), 'image')} ({_kinds(images)}): "
        text += "convert them to JPEG or PNG"
    if others:
        text += f"; passed over {count(others.total(), 'other file')} ({_kinds(others)})"
    if folders:
        text += f"; passed over {count(folders.total(), 'hidden folder')} ({_kinds(folders)})"
    return text


def split_passed_over(
    passed_over: collections.Counter[str],
) -> tuple[collections.Counter[str], collections.Counter[str]]:
    """Images of formats that are not decoded here, and what is no image, by suffix."""
    images = {suffix: n for suffix, n in passed_over.items() if suffix in UNDECODED_SUFFIXES}
    return collections.Counter(images), passed_over - collections.Counter(images)


def _kinds(counts: collections.Counter[str]) -> str:
    kinds = ", ".join(f"{number:,} {suffix}" for suffix, number in counts.most_common(5))
    return kinds + ("" if len(counts) <= 5 else ", …")


def engine_lines(settings: Settings) -> Iterator[str]:
    """What was chosen to run the model, and how far it is from TensorFlow."""
    if settings.rates:
        measured = ", ".join(f"{size}: {rate:.0f}/s" for size, rate in settings.rates.items())
        yield f"batch size {settings.batch_size} (the model on blank images, {measured})"
    if settings.passed_over:
        yield f"engine {settings.engine}; passed over: {told(settings.passed_over)}"
    if settings.parity:
        yield (
            f"engine {settings.engine} {settings.precision} against tensorflow float32: "
            f"{settings.parity}"
        )


def trial_lines(settings: Settings) -> Iterator[str]:
    """What is doubtful in how the model did on the job's first images."""
    for check in settings.checks:
        if check.status in ("warn", "fail"):
            how = "accepted although not " if check.status == "fail" else ""
            yield f"warning: --model {settings.source.name}: {how}{check.name}: {told(check.seen)}"
