"""`python -m tests.docs.run_blocks FILE`: runs a page's blocks, as somebody who types them would.

FILE holds a JSON list of [place, language, text]. Shell blocks get a shell each and share the
directory; Python blocks share their names, too. What each prints is added to FILE with `.out`, one
JSON string a line. Ends with exit code 1 at the first block that fails.
"""

from __future__ import annotations

import contextlib
import io
import json
import pathlib
import subprocess
import sys
import traceback
import types


def main(path: str) -> int:
    """Runs the blocks."""
    blocks = json.loads(pathlib.Path(path).read_text())
    # Beam pickles what is defined here by value if it is of a module of this name.
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    with open(f"{path}.out", "w") as out:
        for place, language, text in blocks:
            printed = _shell(text) if language == "sh" else _python(text, place, module)
            if printed is None:
                print(f"{place}: the block above this line failed", file=sys.stderr)
                return 1
            out.write(json.dumps(printed) + "\n")
    return 0


def _shell(text: str) -> str | None:
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", text], stdout=subprocess.PIPE)
    if done.returncode:
        print(f"{text}{done.stdout.decode()}exit code {done.returncode}", file=sys.stderr)
        return None
    return done.stdout.decode()


def _python(text: str, place: str, module: types.ModuleType) -> str | None:
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(text, place, "exec"), module.__dict__)
    except Exception:  # noqa: BLE001 - whatever it is, it is told
        print(f"{text}{printed.getvalue()}{traceback.format_exc()}", file=sys.stderr)
        return None
    return printed.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
