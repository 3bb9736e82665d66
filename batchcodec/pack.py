"""Dataset to archive. The work is done in `packing`: reading, grouping, coding and writing, all at once.

Memory is bounded, whatever the dataset's size: `packing.reading` says how much is read ahead, `packing.grouping` how much waits
for its group to fill up, `packing.pipeline` how many groups are in work.

The archive grows in a `partial.Partial`. A run that was killed can be taken up: groups that are done are read again but not
coded again, and the bytes are those of an uninterrupted run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from batchcodec.archive import parity
from batchcodec.archive.writer import ArchiveWriter
from batchcodec.choice import CodecChoice, estimated_pixels
from batchcodec.errors import EmptyDatasetError, InputError, OptionError, TargetExistsError
from batchcodec.fit import fit_dataset
from batchcodec.packing.options import PackOptions
from batchcodec.packing.report import PackReport, PackStatus, Seconds, Skipped
from batchcodec.packing.run import Run
from batchcodec.packing.tally import MAX_LISTED
from batchcodec.partial import Partial
from batchcodec.registry import Registry, parse_codec, registry
from batchcodec.types import Item
from batchcodec.version import __version__

__all__ = ["MAX_LISTED", "PackOptions", "PackReport", "PackStatus", "Seconds", "Skipped", "pack"]


def pack(
    source: Path | str,
    target: Path | str,
    options: PackOptions | None = None,
    *,
    progress: Callable[[PackStatus], None] | None = None,
    fit_progress: Callable[[str, float], None] | None = None,
    plugins: Registry | None = None,
) -> PackReport:
    """Pack a dataset into a `.cpack` archive, which appears whole at `target` or not at all.

    If it fails or is killed with some groups done, these are kept beside the target for a run with `resume`.

    Raises:
        InputError, OutputError, CodecError, OptionError: see `batchcodec.errors`.
    """
    source, target, options, plugins = Path(source), Path(target), options or PackOptions(), plugins or registry()
    if target.exists() and not options.force:
        raise TargetExistsError(target)
    if target.is_dir():
        raise OptionError("target", str(target), "a file name, not a directory")
    if target.exists() and source.exists() and target.samefile(source):
        raise OptionError("target", str(target), "another file than the source")
    reader = plugins.format_of(source, options.format_options, options.format)
    dataset = reader.read(source)
    if not len(dataset):
        raise EmptyDatasetError(source, "there is no image in it")
    identity = _identity(options, len(dataset))
    stamp = _stamp(source)
    with Partial(target, identity, resume=options.resume, force=options.force) as partial:
        choice, reasons = _choice(source, dataset, options, plugins, partial, fit_progress)
        writer = ArchiveWriter(partial, parity=bool(options.parity))
        writer.add_meta(
            {
                "created_by": f"batchcodec {__version__}",
                "source_format": reader.format_id,
                "format_options": asdict(options.format_options),
                "preprocess": options.preprocess.to_json(),
            }
        )
        run = Run(source, options, choice, plugins, partial, writer)
        run.run(dataset, progress)
        if not run.tally.n_items:
            raise EmptyDatasetError(source, f"none of its {len(dataset)} images could be packed")
        if _stamp(source) != stamp:
            raise InputError(source, "it was changed while it was packed")
        report = _finished(run, target, reasons, reader.format_id, getattr(dataset, "ignored", 0))
        partial.finish()
        return report


def _identity(options: PackOptions, n_items: int) -> dict[str, Any]:
    """What decides the bytes of an archive besides the images, as `partial` keeps it."""
    return {
        "codec": options.codec,
        "files of the codec": [_content(Path(value)) for value in _file_options(options.codec)],
        "model": _content(options.model),
        "entropy": options.entropy,
        "bits": options.bits,
        "bits-map": _content(options.bits_map),
        "model-ref": options.model_ref,
        "fit": options.fit_seconds,
        "preprocess": options.preprocess.to_json(),
        "group": options.group_items,
        "parity": options.parity,
        "format": options.format,
        "format options": asdict(options.format_options),
        "number of images": n_items,
        "device": options.device,  # another one may round in another way before latents become integers
    }


def _file_options(codec: str) -> list[str]:
    """The values among a codec's options that name files, such as a map of bits: it matters what is in them."""
    return [value for value in parse_codec(codec)[1].values() if isinstance(value, str) and Path(value).is_file()]


def _content(path: Path | None) -> str | None:
    """SHA-256 of a file; the name of what is none."""
    if path is None or not path.is_file():
        return None if path is None else str(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _stamp(source: Path) -> tuple[int, int] | None:
    """Length and time of a source that is one file: both change when it is written to."""
    try:
        found = source.stat()
    except OSError as exc:
        raise InputError(source, exc.strerror or str(exc)) from exc
    return (found.st_size, found.st_mtime_ns) if source.is_file() else None


def _choice(
    source: Path,
    dataset: Sequence[Item],
    options: PackOptions,
    plugins: Registry,
    partial: Partial,
    fit_progress: Callable[[str, float], None] | None,
) -> tuple[CodecChoice, list[str]]:
    """What codes the images, fitted to them if that was asked for, and a word on what was decided."""
    if options.fit_seconds is not None:
        if options.model_ref:
            raise OptionError("model-ref", True, "no --fit beside it: nobody else has a model that is fitted now")
        for name, value in (("bits", options.bits), ("bits-map", options.bits_map)):
            if value is not None:
                raise OptionError(name, str(value), "no --fit beside it: a fit goes by a quality")
        if earlier := partial.fitted():
            reason, models = earlier
        else:
            fitted = fit_dataset(
                source,
                dataset,
                options.fit_seconds,
                codec=options.codec,
                model=options.model,
                preprocess=options.preprocess,
                format_id=options.format,
                format_options=options.format_options,
                plugins=plugins,
                progress=fit_progress,
            )
            reason, models = fitted.reason, fitted.models
            partial.keep_fit(reason, models)
        codec = options.codec if models and options.codec != "auto" else "auto"
        n_pixels = None if models else 0
        model = options.model if codec != "auto" else None
        choice = CodecChoice(
            codec,
            model,
            options.entropy,
            plugins,
            bits=options.bits,
            bits_map=options.bits_map,
            n_pixels=n_pixels,
            fitted=models,
            device=options.device,
        )
        return choice, [f"fit chose {reason}"]
    n_pixels = None
    if options.codec == "auto" and not options.model_ref:  # a model that is only named weighs nothing
        n_pixels = estimated_pixels(dataset, options.preprocess)
    choice = CodecChoice(
        options.codec,
        options.model,
        options.entropy,
        plugins,
        bits=options.bits,
        bits_map=options.bits_map,
        model_ref=options.model_ref,
        n_pixels=n_pixels,
        device=options.device,
    )
    return choice, []


def _finished(run: Run, target: Path, reasons: list[str], format_id: str, ignored: int) -> PackReport:
    """Write what is known at the end, and report it."""
    tally, writer, options = run.tally, run.writer, run.options
    writer.add_meta(tally.summary(run.choice))
    if options.parity:
        writer.add_parity(lambda n_bytes: parity.parity_blocks(run.partial.read, n_bytes, options.parity))
    count = writer.finish()
    return PackReport(
        source=str(run.source),
        target=str(target),
        format=format_id,
        n_items=tally.n_items,
        n_groups=tally.n_groups,
        codecs=tally.by_codec(run.choice),
        shapes=dict(tally.shapes.most_common()),
        source_bytes=tally.source_bytes(),
        raw_bytes=tally.raw_bytes,
        bytes=count,
        n_bytes=count.total,
        mean_psnr=tally.mean_psnr,
        pooled_psnr=tally.pooled_psnr,
        lossless=tally.lossless,
        notes=dict(tally.notes.most_common()),
        skipped=tally.skipped,
        ignored=ignored,
        advice=tally.advice(run.choice, reasons, count),
        n_resumed=len(run.partial.done),
        workers=run.workers,
        seconds=tally.seconds,
    )
