"""What a check of an archive finds, as data."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

MAX_FINDINGS = 1000
"""Findings that are kept; all are counted."""
MAX_NAMES = 100
"""Names that one finding lists; all are counted."""


class Severity(StrEnum):
    """What a finding means, the worst first."""

    DAMAGE = "damage"
    """Bytes are not those that were written, or are missing."""
    DRIFT = "drift"
    """The bytes are right, and decode to other pixels than those that were packed: wrong library, machine or model."""
    UNDECODABLE = "undecodable"
    """The bytes are right, and cannot be decoded here, such as by a codec that is not installed."""
    DIFFERENCE = "difference"
    """The archive is whole, and the source is another."""
    NOTE = "note"
    """Nothing is wrong."""


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    Attributes:
        kind: what it is about: "header", "block", "gap", "group", "directory", "index", "trailer", "end", ...
        severity: what it means.
        message: a sentence.
        start: first byte of it in the file, None where it has no place.
        end: the byte behind it.
        block: type of the block, as in the format text.
        group: number among the groups.
        n_items: items that are concerned, as far as is known.
        items: names of the first of them, where they are known.
    """

    kind: str
    severity: Severity
    message: str
    start: int | None = None
    end: int | None = None
    block: str | None = None
    group: int | None = None
    n_items: int = 0
    items: list[str] = field(default_factory=list)


@dataclass
class Findings:
    """Collects findings: counts all by severity, keeps the first."""

    kept: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, finding: Finding) -> None:
        """Take one."""
        self.counts[finding.severity] += 1
        if len(self.kept) < MAX_FINDINGS:
            self.kept.append(finding)

    def verdict(self) -> str:
        """The worst severity that is more than a note, or "whole"."""
        return next((s.value for s in Severity if self.counts[s] and s != Severity.NOTE), "whole")

    def in_file_order(self) -> list[Finding]:
        """Those kept; what has no place comes last."""
        return sorted(self.kept, key=lambda finding: (finding.start is None, finding.start or 0))
