"""The TensorFlow worker: `python -m airepair.formats.tensorflow.worker job.json`, one job, then it ends.

A graph is a program and TensorFlow is large: it runs in a process of its own, with limits, never in
ours. In: job.json (and arrays as npz). Out, in the job's folder: result.json, ir.pb, weights.npz,
outputs.npz. No pickles. The interpreter may be another one (AIREPAIR_TF_PYTHON).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from airepair.errors import AirepairError, one_line


def main(job_file: str) -> int:
    """Runs the job; the exit code is 0 where result.json tells how it went, an error included."""
    job = json.loads(Path(job_file).read_text())
    folder = Path(job["folder"])
    _limit(job)
    (folder / "result.json").write_text(json.dumps(result(job, folder)))
    return 0


def result(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What the job gives; "error" or "missing" says why it gives nothing."""
    place = job["what"]
    try:
        return _run(job, folder)
    except AirepairError as error:
        return {"error": str(error)}
    except ModuleNotFoundError as error:
        return {"missing": error.name or "tensorflow"}
    except MemoryError:
        return {"error": f"{place}: the file asks for more memory than a conversion may use"}
    except Exception as error:  # a foreign library met a foreign file
        why = (
            "TensorFlow cannot write it"
            if job["do"] == "emit"
            else "it is damaged, or no graph that can be converted"
        )
        return {"error": f"{place}: {why}: {one_line(error, 200)}"}


def _limit(job: dict[str, Any]) -> None:
    """Bounds on memory, processor time and file size for this process."""
    try:
        import resource
    except ImportError:  # not on Windows; the parent's timeout remains
        return
    wanted = {
        resource.RLIMIT_AS: job["memory"],
        resource.RLIMIT_CPU: job["seconds"],
        resource.RLIMIT_FSIZE: job["bytes"],
        resource.RLIMIT_CORE: 0,
    }
    for what, limit in wanted.items():
        hard = resource.getrlimit(what)[1]
        bound = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(what, (bound, hard))


def _run(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    import tensorflow as tf

    for device in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(device, True)
    from airepair.formats.tensorflow import jobs

    return {"read": jobs.read, "write": jobs.write, "emit": jobs.emit, "layers": jobs.layers}[job["do"]](
        job, folder
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
