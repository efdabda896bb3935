"""The helpers in C, compiled when they are first needed: Python could not read from as many sockets as a gateway can write to."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

_SOURCES = Path(__file__).parent / "c"
_BUILT = Path(__file__).parent / "out"


def compiled(name: str) -> Path | None:
    """Return the program made from `c/NAME.c`; None if there is no compiler. Raises SystemExit if it does not compile."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    source = _SOURCES / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes() + (_SOURCES / "wire.h").read_bytes()).hexdigest()[:12]
    program = _BUILT / f"{name}-{digest}"
    if not program.exists():
        _BUILT.mkdir(exist_ok=True)
        made = subprocess.run([compiler, "-O2", "-o", f"{program}.new", source], capture_output=True, text=True, check=False)
        if made.returncode:
            raise SystemExit(f"no answer: {source.name} does not compile:\n{made.stderr}")
        # Two benchmarks may compile at once; each then puts a whole program in place.
        Path(f"{program}.new").replace(program)
    return program
