"""Beam's worker logs what a DoFn raised and hands it to the launcher; it need not print it, too."""

from __future__ import annotations

from apache_beam.runners.worker import sdk_worker


def do_not_print() -> None:
    """Keeps the worker of this process from writing tracebacks to stderr past all logging."""
    sdk_worker.print = _print_nothing  # type: ignore[attr-defined]  # it uses the builtin


def _print_nothing(*_: object, **__: object) -> None:
    pass
