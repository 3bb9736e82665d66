"""What is in an archive, and how good it is: honest bytes, and quality against the source."""

from batchcodec.report.quality import report

__all__ = ["report"]
