"""Samples as HTML: cards with original, reconstruction and difference, and what steers them (`report.js`, `report.css`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from batchcodec.report.page import Html, escaped, joined
from batchcodec.report.samples import KINDS, Sample

_HEADINGS = {"worst": "Worst: lowest PSNR", "median": "Median", "best": "Best: highest PSNR"}
_ZOOMS = ("fit", "1", "2", "4", "8")


def sample_cards(samples: Sequence[Sample]) -> Html:
    """All samples, by kind; empty text if there is none."""
    if not samples:
        return Html("")
    some = [sample for sample in samples if sample.kind == "some"]
    if some:
        pictures = "".join(
            f'<figure class="pane">{_picture(sample.decoded, sample, "decoded")}'
            f"<figcaption>{escaped(sample.name)}{_place(sample)}</figcaption></figure>"
            for sample in some
        )
        return Html(f'<div class="samples"><div class="some">{pictures}</div></div>\n')
    options = "".join(f'<option value="{zoom}">{"fit" if zoom == "fit" else f"{zoom} times"}</option>' for zoom in _ZOOMS)
    parts = [f'<div class="controls" hidden><label>Zoom <select data-zoom>{options}</select></label></div>']
    for kind in KINDS:
        of_kind = [sample for sample in samples if sample.kind == kind]
        if of_kind:
            parts.append(f'<h3>{_HEADINGS[kind]}</h3><div class="cards">{"".join(map(_card, of_kind))}</div>')
    return Html(f'<div class="samples">{"".join(parts)}</div>\n')


def _card(sample: Sample) -> Html:
    name = escaped(sample.name)
    label = Html("") if sample.label is None else joined([Html(" · label "), escaped(sample.label)])
    slider = (
        '<label class="wipe" hidden><span>decoded</span>'
        f'<input type="range" min="0" max="100" value="0" aria-label="Original over reconstruction of {name}">'
        "<span>original</span></label>"
    )
    over = '<img class="over" alt="" hidden><div class="edge" hidden></div>'
    difference = "no difference" if sample.quality and not sample.quality.max_error else f"difference x{sample.gain}"
    panes = (
        ("original", _picture(sample.original or "", sample, "original")),
        ("decoded", _picture(sample.decoded, sample, "decoded", over)),
        (difference, _picture(sample.difference or "", sample, "difference")),
    )
    shown = "".join(f'<figure class="pane"><figcaption>{title}</figcaption>{pane}</figure>' for title, pane in panes)
    return Html(
        f'<article class="card"><h4>{name}</h4><p>{_figures(sample)}{label}{_place(sample)}</p>'
        f'<div class="panes">{shown}</div>{slider}</article>\n'
    )


def _picture(address: str, sample: Sample, what: str, over: str = "") -> Html:
    alpha = " alpha" if sample.quality is not None and sample.quality.channels in (2, 4) and what != "difference" else ""
    return Html(
        f'<div class="view"><div class="stack{alpha}" data-width="{sample.width}">'
        f'<img alt="{what} of {escaped(sample.name)}" width="{sample.width}" height="{sample.height}" src="{address}">{over}'
        "</div></div>"
    )


def _figures(sample: Sample) -> str:
    quality = sample.quality
    if quality is None:
        return ""
    psnr = "equal" if math.isinf(quality.psnr) else f"{quality.psnr:.2f} dB"
    return f"{psnr} · SSIM {quality.ssim:.4f} · MS-SSIM {quality.ms_ssim:.4f} · largest error {quality.max_error}"


def _place(sample: Sample) -> Html:
    width, height = sample.full
    said = f" · {width}x{height}"
    if (sample.width, sample.height) != sample.full:
        x, y = sample.place
        said = f" · {sample.width}x{sample.height} of {width}x{height} at ({x}, {y})"
        said += "" if sample.quality is None else ", where the error is largest"
    if sample.window is not None:
        said += f" · black to white: {sample.window[0]:,} to {sample.window[1]:,} of 65,535"
    return escaped(said)
