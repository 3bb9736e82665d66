"""What was measured of each image as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import fields

from batchcodec.report.measured import ItemQuality
from batchcodec.report.quality import Report


def items_csv(reports: Sequence[Report]) -> str:
    """One row for each image; of several archives, with the archive in front. Numbers as Python writes them, `inf` among them.

    Names are data: a program that takes a cell for a formula is to be told that they are text.
    """
    buffer = io.StringIO()
    names = [field.name for field in fields(ItemQuality)]
    several = len(reports) > 1
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["archive", *names] if several else names)
    for found in reports:
        first = [found.info.path] if several else []
        writer.writerows([*first, *(getattr(item, name) for name in names)] for item in found.items)
    return buffer.getvalue()
