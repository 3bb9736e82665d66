"""An append-only file of JSON records, each a line with a checksum before it.

The first line that does not fit tells what a crash tore or lost.

    0123456789abcdef {"group":0,"end":4711}
"""

from __future__ import annotations

import json
from typing import Any

import xxhash


def packed(record: dict[str, Any]) -> bytes:
    """A record as a line."""
    text = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
    return f"{xxhash.xxh3_64_hexdigest(text)} ".encode() + text + b"\n"


def parsed(data: bytes) -> list[dict[str, Any]]:
    """The records up to the first line that is torn or damaged."""
    records: list[dict[str, Any]] = []
    for line in data.splitlines(keepends=True):
        check, _, text = line.partition(b" ")
        if not line.endswith(b"\n") or xxhash.xxh3_64_hexdigest(text[:-1]).encode() != check:
            break
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            break
        if not isinstance(record, dict):
            break
        records.append(record)
    return records
