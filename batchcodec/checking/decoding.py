"""Decodes groups that a scan found, and tells what goes wrong apart: damage, drift, or a codec that cannot be had."""

from __future__ import annotations

from dataclasses import dataclass, field

from batchcodec.archive import digest, recovery
from batchcodec.archive.recovery import Codecs, FoundGroup
from batchcodec.archive.scan import RandomAccess
from batchcodec.checking.findings import Severity
from batchcodec.codec import Codec
from batchcodec.errors import ArchiveError, BatchcodecError, DriftError, PayloadError
from batchcodec.registry import Registry
from batchcodec.types import Pixels


@dataclass(frozen=True)
class Decoded:
    """What came of decoding a group.

    Attributes:
        pixels: uint8 or uint16 [N, H, W, C]; None if there is a problem.
        exact: whether they are the very pixels that were packed, and not only within rounding of them.
        severity: of the problem, None without one.
        message: what is wrong.
    """

    pixels: Pixels | None
    exact: bool = False
    severity: Severity | None = None
    message: str = ""


@dataclass
class GroupDecoder:
    """Decodes the groups of one archive; each codec is made once.

    Args:
        file: of the archive.
        codecs: what its CODEC and MODEL blocks hold.
        plugins: gives the decoders.
    """

    file: RandomAccess
    codecs: Codecs
    plugins: Registry
    _made: dict[int, Codec | BatchcodecError] = field(default_factory=dict)

    def decode(self, group: FoundGroup) -> Decoded:
        """Decode a group whose block is whole and whose codec is among the archive's.

        Raises:
            ArchiveError: the file cannot be read.
        """
        head = recovery.group_head(self.file, group.block)
        record = self.codecs.records[head.codec_ref]
        payload = self.file.read(group.block.body + head.n_bytes, group.block.header.n_bytes - head.n_bytes)
        try:
            pixels = self._codec(head.codec_ref).decode(payload, head.spec)
            if pixels.shape != head.spec.shape or str(pixels.dtype) != head.spec.image.dtype:
                message = f"it decoded to {pixels.shape} {pixels.dtype}, expected {head.spec.shape} {head.spec.image.dtype}"
                return Decoded(None, severity=Severity.DAMAGE, message=message)
            where = f"group {group.number}"
            return Decoded(pixels, digest.check(pixels, head.digest, head.sketch, exact=record.exact, where=where))
        except PayloadError as exc:
            message = f"its payload is not what the codec {record.codec_id} writes: {exc}"
            return Decoded(None, severity=Severity.DAMAGE, message=message)
        except DriftError as exc:
            return Decoded(None, severity=Severity.DRIFT, message=str(exc))
        except ArchiveError:
            raise
        except BatchcodecError as exc:
            return Decoded(None, severity=Severity.UNDECODABLE, message=f"it cannot be decoded here: {exc}")
        except Exception as exc:  # a codec may be anybody's
            message = f"its codec {record.codec_id} failed: {type(exc).__name__}: {exc}"
            return Decoded(None, severity=Severity.UNDECODABLE, message=message)

    def _codec(self, reference: int) -> Codec:
        if reference not in self._made:
            try:
                self._made[reference] = self.plugins.restore(self.codecs.records[reference])
            except BatchcodecError as exc:
                self._made[reference] = exc
        made = self._made[reference]
        if isinstance(made, BatchcodecError):
            raise made
        return made
