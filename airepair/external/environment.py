"""An environment for each external tool: built once, named after its content, under a lock,
complete or absent.

uv builds it if there is one, virtualenv (or venv) otherwise; a manifest that asks for conda gets
conda, mamba or micromamba, whichever the user has. What was resolved is kept beside it; a
`requirements.lock` in the tool's folder is what is installed, if there is one.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from filelock import FileLock

from airepair import paths
from airepair.errors import Unavailable, one_line
from airepair.external.manifest import Manifest
from airepair.host import digest

DONE = "airepair.json"  # written last: its presence says that the environment is complete
LOCK = "requirements.lock"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Environment:
    """Where a tool's environment is, or will be."""

    manifest: Manifest
    folder: Path

    @property
    def python(self) -> Path:
        """Returns its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def ready(self) -> bool:
        """Whether it is complete."""
        return (self.folder / DONE).exists() and self.python.exists()

    def require(self) -> Environment:
        """Returns itself, or raises Unavailable with the command that builds it."""
        if not self.ready:
            raise Unavailable(f"environment missing: airepair env create {self.manifest.folder.name}")
        return self


def of(manifest: Manifest) -> Environment:
    """Returns the environment of a tool; another content is another folder."""
    parent = [sys.version, sysconfig.get_path("purelib")] if manifest.inherit else []
    content = json.dumps([manifest.python, manifest.manager, _requirements(manifest), parent])
    name = f"{manifest.name}-{digest.of_text(content)[:12]}"
    return Environment(manifest, paths.cache().parent / "environments" / name)


def _requirements(manifest: Manifest) -> list[str]:
    lock = manifest.folder / LOCK
    lines = lock.read_text(encoding="utf-8").splitlines() if lock.exists() else list(manifest.requirements)
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def create(manifest: Manifest, say: Say = print) -> Environment:
    """Builds the environment unless it is there; Unavailable with the installer's last line where
    that fails.
    """
    environment = of(manifest)
    environment.folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{environment.folder}.lock"):
        if environment.ready:
            say(f"{environment.folder} is complete")
            return environment
        shutil.rmtree(environment.folder, ignore_errors=True)
        try:
            for words in steps(environment):
                say(" ".join(words))
                _call(words)
            if manifest.inherit:
                _inherit(environment)
            found = _call(
                [str(environment.python), "-m", "pip", "freeze"]
                if _has_pip(environment)
                else _uv_freeze(environment)
            )
        except BaseException:
            shutil.rmtree(environment.folder, ignore_errors=True)
            raise
        content = {"tool": manifest.name, "wanted": _requirements(manifest), "resolved": found.splitlines()}
        (environment.folder / DONE).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return environment


def steps(environment: Environment) -> list[list[str]]:
    """Returns the commands that build an environment, by what is installed here."""
    manifest, folder, python = environment.manifest, str(environment.folder), str(environment.python)
    wanted = _requirements(manifest)
    uv = shutil.which("uv")
    if manifest.manager == "conda":
        conda = next((c for c in ("mamba", "conda", "micromamba") if shutil.which(c)), None)
        if conda is None:
            raise Unavailable(
                f"{manifest.name} asks for a conda environment; install conda, mamba or micromamba"
            )
        make = [[conda, "create", "-y", "-p", folder, f"python={manifest.python}", "pip"]]
        install = [python, "-m", "pip", "install", *wanted]
    elif uv:
        make = [[uv, "venv", "--quiet", "--python", manifest.python, folder]]
        install = [uv, "pip", "install", "--quiet", "--python", python, *wanted]
    else:
        make = [_virtualenv(manifest, folder)]
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *wanted]
    return [*make, *([install] if wanted else [])]


def _virtualenv(manifest: Manifest, folder: str) -> list[str]:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if find_spec("virtualenv"):
        return [sys.executable, "-m", "virtualenv", "--quiet", "--python", manifest.python, folder]
    if manifest.python != here:
        raise Unavailable(
            f"{manifest.name} asks for Python {manifest.python}, this is {here}; install uv or virtualenv"
        )
    return [sys.executable, "-m", "venv", folder]


def _inherit(environment: Environment) -> None:
    """Puts this environment's packages behind the tool's own: what both have, the tool has its own of."""
    inside = [str(environment.python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    target = Path(_call(inside).strip())
    parents = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (target / "airepair_parent.pth").write_text("\n".join(parents) + "\n", encoding="utf-8")


def _has_pip(environment: Environment) -> bool:
    return any((environment.folder / "bin").glob("pip*"))


def _uv_freeze(environment: Environment) -> list[str]:
    return [shutil.which("uv") or "uv", "pip", "freeze", "--python", str(environment.python)]


def _call(words: Sequence[str]) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")}
    try:
        done = subprocess.run(list(words), capture_output=True, text=True, env=clean, check=False)
    except OSError as error:
        raise Unavailable(f"{words[0]} cannot be run: {one_line(error)}") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise Unavailable(f"{' '.join(words[:4])} ... ended with exit code {done.returncode}: {last}")
    return done.stdout
