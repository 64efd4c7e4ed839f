"""A pytest plugin: no process that runs tests may take more memory than a laptop has to spare."""

from __future__ import annotations

import resource

import pytest

from tests.helpers.soak import usual_or_soak

# `make soak` takes model architectures at their full size.
LIMIT_MIB = usual_or_soak(2048, 8192)

_peaks = pytest.StashKey[dict[str, int]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_peaks] = {}


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: object, error: object) -> None:
    """A process of pytest-xdist has ended; one that crashed has no output."""
    name, output = node.gateway.id, getattr(node, "workeroutput", {})
    if "peak_mib" in output:
        node.config.stash[_peaks][name] = output["peak_mib"]


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["peak_mib"] = peak
        return
    peaks = session.config.stash[_peaks]
    peaks["pytest"] = peak
    if max(peaks.values()) > LIMIT_MIB and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    peaks = config.stash[_peaks]
    each = ", ".join(f"{name} {peak:,} MiB" for name, peak in sorted(peaks.items()))
    terminalreporter.section("peak memory of each process of the tests")
    terminalreporter.write_line(each)
    if max(peaks.values(), default=0) > LIMIT_MIB:
        terminalreporter.write_line(f"FAILED: more than {LIMIT_MIB:,} MiB", red=True)
