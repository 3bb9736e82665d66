"""A codec of an archive and its model as HTML: what it is, its config, and how it was trained where that is known."""

from __future__ import annotations

import json
from typing import Any

from batchcodec.report.info import ArchiveInfo, CodecInfo
from batchcodec.report.page import Cell, Html, data_table, escaped, facts, joined, number
from batchcodec.report.text import size
from batchcodec.types import JSON

MAX_VALUE = 300
"""Characters of a value of a config that are shown."""
MAX_LOG = 12
"""Rows of a training log that are shown, at equal distances."""


def codec_cards(info: ArchiveInfo) -> Html:
    """All codecs of an archive, one below the other."""
    return joined(_card(codec) for codec in info.codecs)


def _card(codec: CodecInfo) -> Html:
    if codec.model_name is not None:
        model = f"not in the archive: {codec.model_name}"
    elif codec.model_bytes:
        model = f"{size(codec.model_bytes)} in the archive, uncompressed"
    else:
        model = "none needed"
    said: list[tuple[str, str]] = [
        ("codec", codec.codec_id),
        ("images", f"{codec.n_items:,}"),
        ("payload", size(codec.payload_bytes)),
        ("decodes exactly", "yes, on every machine" if codec.exact else "up to rounding"),
        ("model", model),
    ]
    parts = [facts(said)]
    if codec.model_sha256:
        parts.append(Html(f"<p>SHA-256 of the model <code>{escaped(codec.model_sha256)}</code></p>"))
    config: list[list[Cell]] = [[key, _short(value)] for key, value in codec.config.items()]
    if config:
        parts.append(data_table(("setting", "value"), config, caption=f"Config of {codec.codec_id}", sortable=False))
    if codec.model_sha256:
        parts.append(_training(codec.model_sha256))
    return joined(parts)


def _short(value: JSON) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + "..."


def _training(sha256: str) -> Html:
    from batchcodec.learned import shipped

    found = shipped.find_training(sha256)
    if found is None:
        return Html(
            '<p class="note">How the model was trained is in its model file, which is not among the models found here.</p>'
        )
    name, training = found
    said = [(key.replace("_", " "), _short(value)) for key, value in training.items() if not isinstance(value, dict | list)]
    for group in ("settings", "options"):
        settings = training.get(group)
        if isinstance(settings, dict):
            said += [(key.replace("_", " "), _short(value)) for key, value in settings.items()]
    log = training.get("log")
    table = _log(log) if isinstance(log, list) else Html("")
    return joined([Html(f"<p>Trained as model file <code>{escaped(name)}</code> says:</p>"), facts(said), table])


def _log(log: list[Any]) -> Html:
    """Rows of a training log; one that measured several qualities becomes a row for each."""
    rows: list[dict[str, Any]] = []
    for entry in log:
        if isinstance(entry, dict):
            points = entry.get("points")
            rest = {key: value for key, value in entry.items() if key != "points"}
            inner = [point for point in points if isinstance(point, dict)] if isinstance(points, list) else []
            rows += [rest | point for point in inner] or [rest]
    if not rows:
        return Html("")
    step = max(1, -(-len(rows) // MAX_LOG))
    shown = rows[::-1][::step][::-1]  # the last one among them
    header = list(dict.fromkeys(key for row in shown for key in row))
    cells = [[_number(row.get(key)) for key in header] for row in shown]
    return data_table([key.replace("_", " ") for key in header], cells, caption=f"Training log, {len(rows):,} entries")


def _number(value: Any) -> Cell:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "-" if value is None else _short(value)
    return value if isinstance(value, int) else number(value, 4)
