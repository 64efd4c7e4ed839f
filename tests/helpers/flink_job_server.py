"""A real Flink for tests: the job server jar that `--flink_job_server_jar` names.

Beam ships its Flink job server as one fat jar for each release. This module
builds the same thing from the thin jars that `flink_jars.txt` lists, so that a
machine needs Python and Java but no Maven: it downloads them into a cache
folder and writes beside them a *pathing jar*, a jar that holds only a manifest
with the main class and the class path. `java -jar` on it, which is what Beam's
FlinkRunner calls, starts the job server with Flink inside the same process.

The job server is older than the Python SDK under test; the two talk in Beam's
portable protocol, which both know. Use it for `--flink_master=[local]` only: a
remote cluster would need the classes themselves, which a pathing jar lacks.
"""

import concurrent.futures
import http.client
import io
import os
import pathlib
import tempfile
import time
import urllib.request
import zipfile

from apache_beam.utils.subprocess_server import JavaJarServer

JAR_LIST = pathlib.Path(__file__).with_name("flink_jars.txt")
PATHING_JAR = "flink-job-server.jar"
MAIN_CLASS = "org.apache.beam.runners.flink.FlinkJobServerDriver"
# Flink's closure cleaner reads private fields of JDK classes when a pipeline
# streams (batch pipelines run without), which Java 17 refuses unless opened.
OPENED_PACKAGES = ("java.base/java.lang", "java.base/java.nio", "java.base/java.util")

_THREADS = 8
_WAITS_S = (0, 2, 4, 8)  # before each attempt
_FINAL_ANSWERS = (400, 401, 403, 404, 410)  # HTTP codes that no retry changes
_TIMEOUT_S = 60
_MANIFEST_LINE_BYTES = 72


class JarUnavailableError(Exception):
    """A jar of the list could not be downloaded; the message names it."""


def job_server_jar(cache_dir: pathlib.Path) -> pathlib.Path:
    """Returns a jar that `java -jar` starts as Beam's Flink job server.

    Args:
      cache_dir: folder for the jars, made if absent. Jars already in it are
        not downloaded again. It may be moved as a whole; the class path is
        relative.

    Raises:
      JarUnavailableError: a jar could not be had; those that could stay cached.
    """
    cache_dir = pathlib.Path(cache_dir).absolute()
    cache_dir.mkdir(parents=True, exist_ok=True)
    urls = {coordinate: _url(coordinate) for coordinate in _coordinates()}
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        jars = list(pool.map(lambda item: _cached_jar(*item, cache_dir), urls.items()))
    return _write_atomically(cache_dir / PATHING_JAR, _pathing_jar([jar.name for jar in jars]))


def _coordinates() -> list[str]:
    lines = (line.strip() for line in JAR_LIST.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def _url(coordinate: str) -> str:
    """The address of `group:artifact:version[:classifier]` in Maven Central."""
    group, artifact, version, *classifier = coordinate.split(":")
    return JavaJarServer.path_to_maven_jar(
        artifact, group, version, classifier=classifier[0] if classifier else None
    )


def _cached_jar(coordinate: str, url: str, cache_dir: pathlib.Path) -> pathlib.Path:
    # Not JavaJarServer.local_jar: that one takes a download that broke off for
    # a jar, tries once, and logs a warning for each jar.
    jar = cache_dir / url.rpartition("/")[2]
    if jar.exists():
        return jar
    try:
        return _write_atomically(jar, _download(url))
    except (OSError, http.client.HTTPException) as error:
        raise JarUnavailableError(
            f"cannot download {coordinate} from {url}: {error}. Run again when the network is "
            f"back, or put the jar at {jar} by hand."
        ) from error


def _download(url: str) -> bytes:
    """The whole jar at url; failures that may pass are tried again."""
    for wait_s in _WAITS_S:
        time.sleep(wait_s)
        try:
            # read() without a size raises IncompleteRead when the body is cut short.
            with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response:
                body = response.read()
            if zipfile.is_zipfile(io.BytesIO(body)):
                return body
            failure = OSError("the answer is not a jar")
        except (OSError, http.client.HTTPException) as error:
            failure = error
            if getattr(error, "code", None) in _FINAL_ANSWERS:
                break
    raise failure


def _write_atomically(path: pathlib.Path, content: bytes) -> pathlib.Path:
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".partial")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.replace(partial, path)
    except BaseException:
        os.unlink(partial)
        raise
    return path


def _pathing_jar(jar_names: list[str]) -> bytes:
    """A jar of one manifest; class path entries are relative to the jar itself."""
    headers = {
        "Manifest-Version": "1.0",
        "Main-Class": MAIN_CLASS,
        "Add-Opens": " ".join(OPENED_PACKAGES),
        "Class-Path": " ".join(jar_names),
    }
    manifest = "".join(_manifest_header(name, value) for name, value in headers.items())
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", manifest)
    return content.getvalue()


def _manifest_header(name: str, value: str) -> str:
    """One header, wrapped at 72 bytes with CRLF as the JAR file specification asks."""
    line = f"{name}: {value}"
    width = _MANIFEST_LINE_BYTES - 2
    wrapped = [line[:width]]
    wrapped += [" " + line[at : at + width - 1] for at in range(width, len(line), width - 1)]
    return "\r\n".join(wrapped) + "\r\n"
