"""The command `report`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from batchcodec.cli_options import ForceFlag, FormatOption, JsonFlag, ProgressFlag, QuietFlag
from batchcodec.console import output
from batchcodec.errors import OptionError, TargetExistsError
from batchcodec.report import text

if TYPE_CHECKING:
    from batchcodec.report.quality import Report


def report_command(
    archives: Annotated[list[Path], typer.Argument(help="A .cpack archive, or several to compare.", show_default=False)],
    against: Annotated[Path | None, typer.Option(help="The dataset that was packed, to measure quality.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with charts, tables and samples: one file that needs no network.")
    ] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the report as Markdown.")] = None,
    csv_file: Annotated[Path | None, typer.Option("--csv", help="Write a row for each image.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Write a PNG of originals over reconstructions.")] = None,
    figure_items: Annotated[int, typer.Option(min=1, max=100, help="Images in the figure.")] = 10,
    workers: Annotated[int, typer.Option(help="Threads that decode and measure; 0 is one for each core.")] = 0,
    format_id: FormatOption = None,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
    quiet: QuietFlag = False,
    progress: ProgressFlag = None,
) -> None:
    """Say where the bytes are and, against the source, how good the images are."""
    from batchcodec.report.quality import report

    output.configure(json=as_json, quiet=quiet, progress=progress)
    targets = {"html": html, "markdown": markdown, "csv": csv_file, "figure": figure}
    for option, path in targets.items():
        if path is not None and against is None and option in ("csv", "figure"):
            raise OptionError(option, str(path), "--against SOURCE beside it")
        if path is not None and path.exists() and not force:
            raise TargetExistsError(path)
    given = [path.absolute() for path in targets.values() if path is not None]
    if len(set(given)) < len(given) or set(given) & {archive.absolute() for archive in archives}:
        raise OptionError("html, markdown, csv, figure", ", ".join(map(str, given)), "a file of its own for each")
    if figure is not None and len(archives) > 1:
        raise OptionError("figure", str(figure), "one archive; --html shows several")
    reports: list[Report] = []
    with output.bar(None, "image") as bar:
        for archive in archives:
            before = bar.n

            def show(done: int, total: int, before: int = before) -> None:
                bar.total = before + total
                bar.update(before + done - bar.n)

            reports.append(report(archive, against, format_id=format_id, workers=workers, progress=show))
    _write(html, lambda: _page(archives, reports, against, format_id))
    if markdown is not None:
        from batchcodec.report.markdown import report_markdown

        _write(markdown, lambda: report_markdown(reports, against))
    if csv_file is not None:
        from batchcodec.report.tables import items_csv

        _write(csv_file, lambda: items_csv(reports))
    if figure is not None and against is not None:
        from batchcodec.report.figure import draw_figure

        draw_figure(archives[0], against, figure, n_items=figure_items, format_id=format_id)
    values = [{"info": found.info, "quality": found.quality} for found in reports]
    rendered = "\n\n".join(map(text.report_text, reports))
    output.result(values[0] if len(values) == 1 else {"reports": values}, rendered)


def _write(path: Path | None, made: Callable[[], str]) -> None:
    from batchcodec.atomic import write_atomically

    if path is not None:
        write_atomically(path, made().encode())


def _page(archives: list[Path], reports: list[Report], against: Path | None, format_id: str | None) -> str:
    """The HTML; samples are read here, few for each archive where there are many."""
    from batchcodec.report.html import report_html
    from batchcodec.report.measured import ItemTable
    from batchcodec.report.samples import decoded_samples, measured_samples

    n_each = max(1, 4 // len(archives))
    samples = []
    for archive, found in zip(archives, reports, strict=True):
        if against is not None and isinstance(found.items, ItemTable):
            samples.append(measured_samples(archive, against, found.items, n_each=n_each, format_id=format_id))
        else:
            samples.append(decoded_samples(archive, n=3 * n_each))
    return report_html(reports, samples, against)
