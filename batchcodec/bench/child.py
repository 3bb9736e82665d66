"""`python -m batchcodec.bench.child RESULT < JOB`: makes one measurement, and writes what it found as JSON to the file RESULT.

It is a process of its own, so that memory and first uses are those of this measurement alone. What a codec prints is not
in the way of the result.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from batchcodec.bench.job import Job
from batchcodec.bench.measures import measure
from batchcodec.errors import BatchcodecError


def main() -> None:
    """Read a job, do it, write figures or the error."""
    job = Job.from_json(json.load(sys.stdin))
    try:
        found = measure(job)
    except BatchcodecError as exc:
        found = {"error": str(exc), "error_type": type(exc).__name__}
    Path(sys.argv[1]).write_text(json.dumps(found))


if __name__ == "__main__":
    main()
