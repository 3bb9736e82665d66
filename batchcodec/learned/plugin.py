"""Registers the learned codecs. Importing them costs nothing: torch comes when a network first runs."""

from __future__ import annotations

from collections.abc import Iterable

from batchcodec.codec import Codec
from batchcodec.hookspecs import hookimpl
from batchcodec.learned.autoencoder import AutoencoderCodec
from batchcodec.learned.balle.codec import Balle2017Codec
from batchcodec.learned.comcnn.codec import ComcnnCodec
from batchcodec.learned.hyperprior.codec import HyperpriorCodec


@hookimpl
def register_codecs() -> Iterable[type[Codec]]:
    """The source paper's autoencoder, Balle 2017, Jiang 2017, and the codec that is exact on every machine."""
    return (AutoencoderCodec, Balle2017Codec, ComcnnCodec, HyperpriorCodec)
