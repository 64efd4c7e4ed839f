"""A job on this machine can be reached by nobody else: it listens on no port.

Beam's runner opened four on every interface, which told all options and took pickled elements.
"""

from __future__ import annotations

import json
import os
import pathlib
import socket
import stat

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import worker_handlers

import runners
from tests.helpers.sockets import is_loopback, listening

KEY = "s3cr3t-key-of-a-store"


def look_around(element: int, launcher: int, directory: str) -> int:
    """Writes down what can be seen while a bundle is at work."""
    seen = {
        "pid": os.getpid(),
        "ports": [address for pid in {launcher, os.getpid()} for address in listening(pid)],
        "command": pathlib.Path("/proc/self/cmdline").read_text(),
        "sockets": os.environ.get("BEAM_IMAGE_FEATURES_SOCKET_DIRECTORY", ""),
        "options": os.environ.get("PIPELINE_OPTIONS", ""),
    }
    if seen["sockets"]:
        seen["mode"] = stat.S_IMODE(os.stat(seen["sockets"]).st_mode)
    (pathlib.Path(directory) / f"{element}.json").write_text(json.dumps(seen))
    return element


def seen_by(flags: list[str], directory: pathlib.Path) -> list[dict[str, object]]:
    options = PipelineOptions([*flags, f"--s3_secret_access_key={KEY}"])
    with beam.Pipeline(runner=runners.create(options), options=options) as pipeline:
        (
            pipeline
            | beam.Create(range(4))
            | beam.Map(look_around, launcher=os.getpid(), directory=str(directory))
        )
    return [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]


def test_what_the_kernel_tells_is_understood() -> None:
    with socket.create_server(("127.0.0.1", 0)) as near, socket.create_server(("", 0)) as far:
        ports = {f"{server.getsockname()[1]:04X}": server for server in (near, far)}
        found = {address.partition(":")[2]: address for address in listening(os.getpid())}
        assert [is_loopback(found[port]) for port in ports] == [True, False]


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--direct_num_workers=3"],
        ["--direct_num_workers=2", "--direct_running_mode=multi_threading"],
    ],
)
def test_a_run_in_this_process_listens_nowhere(flags: list[str], tmp_path: pathlib.Path) -> None:
    seen = seen_by(flags, tmp_path)
    assert [look["pid"] for look in seen] == [os.getpid()] * 4
    assert [look["ports"] for look in seen] == [[]] * 4


def test_worker_processes_are_reached_by_a_socket_of_this_user_alone(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = []
    create = worker_handlers.WorkerHandlerManager.get_worker_handlers

    def get_worker_handlers(manager: object, *arguments: object) -> object:
        handlers = create(manager, *arguments)
        served.append(handlers[0].provision_info.provision_info.SerializeToString())
        return handlers

    monkeypatch.setattr(
        worker_handlers.WorkerHandlerManager, "get_worker_handlers", get_worker_handlers
    )
    flags = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    seen = seen_by(flags, tmp_path)
    assert os.getpid() not in {look["pid"] for look in seen}
    assert [look["ports"] for look in seen] == [[]] * 4
    assert {look["mode"] for look in seen} == {0o700}
    # The store's key reaches the workers, and by their environment alone.
    assert all(KEY in str(look["options"]) for look in seen)
    assert not any(KEY in str(look["command"]) for look in seen)
    assert served
    assert not any(KEY.encode() in content for content in served)
    assert not any(os.path.exists(str(look["sockets"])) for look in seen)
