"""Why something could not be imported, in one line: which file was taken, and for what.

`python -m` looks for modules in the current directory first, so a `numpy.py` there is taken for the
library. Imports nothing of what may be broken.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import re
import site
import sys
import sysconfig
import traceback
from collections.abc import Iterator

_OURS = ("transforms", "runners")
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def taken_for_ours() -> str | None:
    """What is wrong, if a package of this program would be imported from somebody else's file."""
    for name in _OURS:
        expected = os.path.join(_ROOT, name)
        spec = importlib.util.find_spec(name)
        found = None if spec is None else _place(spec)
        if found and os.path.isdir(expected) and os.path.realpath(expected) != found:
            return f"{found}: is imported instead of this program's {name}; {_remedy(found)}"
    return None


def import_failure(error: BaseException) -> str | None:
    """What is wrong, if `error` is that something could not be imported.

    Returns:
      a line that begins with the file; None if it failed in another way.
    """
    frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    modules = [code.co_filename for code in frames if code.co_name == "<module>"]
    files = [name for name in reversed(modules) if not _is_ours(name)]
    if isinstance(error, SyntaxError) and error.filename:
        files.insert(0, error.filename)
    if not files and not isinstance(error, ImportError):
        return None
    told = f"{type(error).__name__}: {' '.join(str(error).split())}"
    for name, file in [*filter(None, map(_top_level, files)), *_imported(told)]:
        if _is_elsewhere_too(name, file):
            return f"{file}: is imported instead of the library {name}; {_remedy(file)}"
    remedy = "install the program's libraries anew"
    if not files:
        return f"{getattr(error, 'name', None) or 'a library'} cannot be imported: {told}; {remedy}"
    library = _top_level(files[0])
    what = library[0] if library else os.path.basename(files[0])
    return f"{files[0]}: {what} cannot be imported: {told}; {remedy}"


def _place(spec: importlib.machinery.ModuleSpec) -> str | None:
    """The file of a module, or the folder of a package."""
    folders = list(spec.submodule_search_locations or ())
    place = folders[0] if folders else spec.origin
    return os.path.realpath(place) if place and os.path.exists(place) else None


def _is_ours(file: str) -> bool:
    return any(
        os.path.abspath(file).startswith(os.path.join(_ROOT, name, "")) for name in _PACKAGES
    )


_PACKAGES = (*_OURS, "pipeline", "consumers")


def _remedy(file: str) -> str:
    here = os.path.realpath(os.getcwd())
    if os.path.dirname(os.path.realpath(file)) == here:
        return "rename it, or start in another directory"
    return "rename it or take it off the path of Python's modules"


def _top_level(file: str) -> tuple[str, str] | None:
    """The name under which a file's module or package is imported, and its file or folder."""
    for folder in sorted(map(os.path.abspath, sys.path), key=len, reverse=True):
        if file.startswith(os.path.join(folder, "")):
            first = os.path.relpath(file, folder).partition(os.sep)[0]
            return first.partition(".")[0], os.path.join(folder, first)
    return None


def _imported(told: str) -> Iterator[tuple[str, str]]:
    """Modules that were imported before, of which the message speaks."""
    words = set(re.findall(r"\w+", told))
    for name in words & sys.modules.keys():
        file = getattr(sys.modules[name], "__file__", None)
        top_level = _top_level(file) if file else None
        if top_level is not None:
            yield top_level


def _is_elsewhere_too(name: str, file: str) -> bool:
    """Whether a module that does not lie where libraries do has the name of one that does."""
    folder = os.path.dirname(file)
    libraries = {os.path.abspath(place) for place in _library_places()}
    if folder in libraries or _is_ours(os.path.join(file, "")) or name in sys.builtin_module_names:
        return False
    if name in sys.stdlib_module_names:
        return True
    others = [place for place in sys.path if os.path.abspath(place) in libraries]
    spec = importlib.machinery.PathFinder.find_spec(name, others)
    return spec is not None and spec.origin is not None


def _library_places() -> Iterator[str]:
    yield from site.getsitepackages()
    yield site.getusersitepackages()
    for kind in ("stdlib", "platstdlib", "purelib", "platlib"):
        yield sysconfig.get_path(kind)
    for place in sys.path:  # of the standard library, or of Debian's packages
        if os.path.basename(place) in ("lib-dynload", "dist-packages", "site-packages"):
            yield place
