"""How the workers of this machine are reached: by a call, or by a socket that only this user opens.

Beam's own ways listen on four ports of every interface and ask nobody who he is: whoever reaches
one reads the options of the pipeline, with their keys, and sends the workers what they unpickle.
Nothing here listens on a port.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Mapping
from typing import Any

import grpc
from apache_beam.portability import python_urns
from apache_beam.portability.api import (
    beam_fn_api_pb2,
    beam_fn_api_pb2_grpc,
    beam_provision_api_pb2,
    endpoints_pb2,
)
from apache_beam.runners.portability import local_job_service
from apache_beam.runners.portability.fn_api_runner import fn_runner, worker_handlers
from apache_beam.runners.worker import data_plane
from apache_beam.transforms.environments import Environment
from apache_beam.utils import thread_pool_executor
from google.protobuf import json_format, text_format

SOCKET_DIRECTORY = "BEAM_IMAGE_FEATURES_SOCKET_DIRECTORY"
"""Variable of worker processes: where the launcher's socket lies."""

_PROCESS_URN = "beam_image_features:env:process:v1"

# Not imported: it is the main module of the worker processes.
_LOCAL_WORKER = "runners.local_worker"

_LONGEST_DIRECTORY = 80  # a socket's path has 107 bytes at most

_UNLIMITED = [
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 20_000),
]


class Provision(fn_runner.ExtendedProvisionInfo):
    """What is known of a job here. What Beam would hand to whoever asks is empty.

    Args:
      options: of the pipeline, for worker processes, whose environment alone has them.
      variables: of the environment of worker processes.
    """

    def __init__(self, options: Any = None, variables: Mapping[str, str] | None = None):
        super().__init__(beam_provision_api_pb2.ProvisionInfo())
        self.options = options
        self.variables = dict(variables or {})

    def for_environment(self, env: Any) -> Provision:
        """The same: there are no artifacts."""
        return self


class ProcessEnvironment(Environment):
    """Worker processes of this machine."""

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        """Its name; all else is in `Provision`."""
        return _PROCESS_URN, b""


class _CalledWorker(worker_handlers.EmbeddedWorkerHandler):
    """A worker of this process: a bundle is a call, in the thread that asks for it.

    Several work on as many bundles at once. What a bundle raises is told as by workers elsewhere:
    as the text of a traceback.
    """

    def push(self, request: beam_fn_api_pb2.InstructionRequest) -> Any:
        try:
            return super().push(request)
        except Exception:  # noqa: BLE001 - the runner raises it
            response = beam_fn_api_pb2.InstructionResponse(
                instruction_id=request.instruction_id, error=traceback.format_exc()
            )
            return worker_handlers.ControlFuture(request.instruction_id, response)


class _SocketServer(worker_handlers.GrpcServer):
    """All that a worker process asks for, at one socket in a directory that is this user's alone.

    Neither options nor artifacts are served, which Beam's server does: the latter are any files.
    """

    def __init__(self, state: Any, provision: Provision, manager: Any):
        long = len(tempfile.gettempdir()) > _LONGEST_DIRECTORY
        self.directory = tempfile.mkdtemp(prefix="bif-", dir="/tmp" if long else None)  # 0700
        self.address = f"unix:{self.directory}/socket"
        self.provision_info = provision
        self.control_handler = worker_handlers.BeamFnControlServicer(manager)
        self.data_plane_handler = data_plane.BeamFnDataServicer(
            worker_handlers.DATA_BUFFER_TIME_LIMIT_MS
        )
        self._server = grpc.server(
            thread_pool_executor.shared_unbounded_instance(), options=_UNLIMITED
        )
        add = beam_fn_api_pb2_grpc
        add.add_BeamFnControlServicer_to_server(self.control_handler, self._server)
        add.add_BeamFnDataServicer_to_server(self.data_plane_handler, self._server)
        add.add_BeamFnStateServicer_to_server(
            worker_handlers.GrpcStateServicer(state), self._server
        )
        add.add_BeamFnLoggingServicer_to_server(
            local_job_service.BeamFnLoggingServicer(), self._server
        )
        self._server.add_insecure_port(self.address)
        self._server.start()
        self.control_port = self.data_port = self.state_port = self.logging_port = self.address

    def close(self) -> None:
        self.control_handler.done()
        self._server.stop(self._DEFAULT_SHUTDOWN_TIMEOUT_SECS).wait()
        shutil.rmtree(self.directory, ignore_errors=True)


class _WorkerProcess(worker_handlers.GrpcWorkerHandler):
    """A worker process of this machine, and the thread that waits for its end."""

    def __init__(self, _: Any, state: Any, provision: Provision, server: _SocketServer):
        super().__init__(state, provision, server)
        self._provision, self._server = provision, server
        self._thread = threading.Thread(name="run_worker", target=self._run)

    def port_from_worker(self, port: Any) -> str:
        """The server's address, as it is."""
        return str(port)

    def start_worker(self) -> None:
        self._thread.start()

    def stop_worker(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        endpoint = text_format.MessageToString(
            endpoints_pb2.ApiServiceDescriptor(url=self._server.address)
        )
        variables = {
            "CONTROL_API_SERVICE_DESCRIPTOR": endpoint,
            "LOGGING_API_SERVICE_DESCRIPTOR": endpoint,
            "PIPELINE_OPTIONS": json_format.MessageToJson(self._provision.options),
            "WORKER_ID": self.worker_id,
            SOCKET_DIRECTORY: self._server.directory,
        }
        command = [sys.executable, "-m", _LOCAL_WORKER]
        with worker_handlers.SUBPROCESS_LOCK:
            environment = {**os.environ, **variables, **self._provision.variables}
            process = subprocess.Popen(command, env=environment)
        try:
            if code := process.wait():
                raise RuntimeError(f"Worker subprocess exited with return code {code}")
        finally:
            if process.poll() is None:
                process.kill()


def put_in_place() -> None:
    """Makes Beam's in-process runner take these, where it is given a `Provision`."""
    register_environment = worker_handlers.WorkerHandler.register_environment
    register_environment(python_urns.EMBEDDED_PYTHON, None)(_called_worker)
    register_environment(_PROCESS_URN, bytes)(_WorkerProcess)
    worker_handlers.GrpcServer = _server  # type: ignore[assignment, misc]


_BEAMS_SERVER = worker_handlers.GrpcServer


def _called_worker(payload: Any, state: Any, provision: Any, manager: Any) -> Any:
    ours = isinstance(provision, Provision)
    kind = _CalledWorker if ours else worker_handlers.EmbeddedWorkerHandler
    return kind(payload, state, provision, manager)


def _server(state: Any, provision: Any, manager: Any) -> Any:
    ours = isinstance(provision, Provision)
    return (_SocketServer if ours else _BEAMS_SERVER)(state, provision, manager)
