"""Model files of `hyperprior-1`: tensors to networks and tables, everything checked, and back.

The decoder is stored as what it is, integers: int8 weights, one shift per output channel, biases on the grid of the sums,
steps, frequencies. The encoder, which archives leave out, is float16.
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from batchcodec.entropy import gaussian
from batchcodec.entropy.values import Bank
from batchcodec.errors import InexactMachineError, ModelError
from batchcodec.learned import model_file
from batchcodec.learned.exact import ACCUMULATOR, MAX_SHIFT, MAX_WEIGHT, MIN_SHIFT, ExactConv2d
from batchcodec.learned.hyperprior import coding, probe
from batchcodec.learned.hyperprior.architecture import Architecture
from batchcodec.learned.hyperprior.byte_encoder import ByteEncoder
from batchcodec.learned.hyperprior.engine import Engine
from batchcodec.learned.hyperprior.layer_engine import LayerEngine
from batchcodec.learned.hyperprior.network import MAX_STEP, Decoder, Encoder

CODEC_ID = "hyperprior-1"
MAX_HYPER_SYMBOLS = 256
MAX_TYPICAL = 100.0
"""Of the logarithm of an error, and of a power: what is sound is far below."""
ENCODER_LIMITS = {"width": (1, 1024), "blocks": (0, 16), "fine_width": (0, 1024)}


class LoadedModel:
    """A model file's content: what `HyperpriorCodec` works with.

    Args:
        blob: the bytes of a model file.
        device: where its networks run: "cpu", or another that torch knows, such as "cuda".

    Raises:
        ModelError: it is not a sound model of this codec.
    """

    def __init__(self, blob: bytes, device: str = "cpu") -> None:
        self.device = device
        self.tensors, self.document = model_file.parse(blob)
        if self.document.get("codec") != CODEC_ID:
            raise ModelError(f"a model for codec {self.document.get('codec')!r}, not for {CODEC_ID}")
        config = self.document.get("config")
        if not isinstance(config, dict):
            raise ModelError("a model without config")
        self.arch = Architecture.from_json(config)
        self._check_tensors()

    def _check_tensors(self) -> None:
        """Names, types and shapes, before anything is allocated for them."""
        steps = self._tensor("steps", np.uint16, (self.arch.anchors, self.arch.latent))
        if steps.min() < 1 or steps.max() > MAX_STEP:
            raise ModelError(f"the model's steps lie in {steps.min()}..{steps.max()}, expected 1..{MAX_STEP}")
        offset = self._tensor("offset", np.int16, (1,))
        if not 0 <= int(offset[0]) <= 255:
            raise ModelError(f"the model's offset is {offset[0]}, expected 0..255")

    def _tensor(self, name: str, dtype: type, shape: tuple[int, ...]) -> npt.NDArray[Any]:
        tensor = self.tensors.get(name)
        if tensor is None or tensor.dtype != dtype or tensor.shape != shape:
            found = "missing" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
            raise ModelError(f"the model's tensor {name!r} is {found}, expected {np.dtype(dtype)} {list(shape)}")
        return tensor

    @cached_property
    def bank(self) -> Bank:
        """Tables: those of the hyper-latents' channels, then those of the Gaussian scales."""
        sizes = self.tensors.get("hyper.sizes")
        freqs = self.tensors.get("hyper.freqs")
        if sizes is None or freqs is None or sizes.dtype != np.uint16 or freqs.dtype != np.uint16:
            raise ModelError("the model's tables 'hyper.sizes' and 'hyper.freqs' are missing or not uint16")
        if sizes.shape != (self.arch.hyper,) or sizes.min() < 2 or sizes.max() > MAX_HYPER_SYMBOLS:
            raise ModelError(f"the model's 'hyper.sizes' are not {self.arch.hyper} numbers from 2 to {MAX_HYPER_SYMBOLS}")
        if freqs.shape != (int(sizes.sum(dtype=np.int64)),):
            raise ModelError("the model's 'hyper.freqs' do not have the length that 'hyper.sizes' add up to")
        rows = np.split(freqs.astype(np.int64), np.cumsum(sizes.astype(np.int64))[:-1])
        return Bank([*rows, *self._scale_tables()])

    def _scale_tables(self) -> list[npt.NDArray[Any]]:
        """The fixed Gaussian bank, or the tables that the model brings in its place."""
        sizes, freqs = self.tensors.get("scales.sizes"), self.tensors.get("scales.freqs")
        if sizes is None and freqs is None:
            return list(gaussian.frequencies())
        if sizes is None or freqs is None or sizes.dtype != np.uint16 or freqs.dtype != np.uint16:
            raise ModelError("the model's tables 'scales.sizes' and 'scales.freqs' are not a pair of uint16")
        if sizes.shape != (gaussian.N_SCALES,) or sizes.min() < 2 or freqs.shape != (int(sizes.sum(dtype=np.int64)),):
            raise ModelError("the model's 'scales.sizes' and 'scales.freqs' do not fit each other")
        return list(np.split(freqs.astype(np.int64), np.cumsum(sizes.astype(np.int64))[:-1]))

    @cached_property
    def decoder(self) -> Decoder:
        """The exact networks, with the bound of each layer proven.

        Raises:
            ModelError: a tensor is missing or malformed, or a layer could leave the range where float32 is exact.
        """
        with torch.device("meta"):  # shapes only: nothing is allocated before the file is known to hold them
            decoder = Decoder(self.arch)
        state: dict[str, Tensor] = {
            "offset": torch.tensor(float(self.tensors["offset"][0])),
            "log_steps": torch.log2(torch.from_numpy(self.tensors["steps"].astype(np.float32))),
        }
        for name, layer in exact_layers(decoder):
            shape = tuple(layer.weight.shape)
            weight = self._tensor(f"decoder.{name}.weight", np.int8, shape).astype(np.int64)
            shift = self._tensor(f"decoder.{name}.shift", np.int8, shape[:1]).astype(np.int64)
            bias = self._tensor(f"decoder.{name}.bias", np.int32, shape[:1]).astype(np.int64)
            check_bound(name, layer, weight, shift, bias)
            scale = np.exp2(-shift.astype(np.float64)).astype(np.float32)
            state[f"{name}.weight"] = torch.from_numpy(weight.astype(np.float32) * scale[:, None, None, None])
            state[f"{name}.bias"] = torch.from_numpy(bias.astype(np.float32) * scale * np.float32(2.0**-layer.input_bits))
        decoder.load_state_dict(state, assign=True)
        for parameter in decoder.parameters():
            parameter.requires_grad_(False)
        for name, layer in exact_layers(decoder):
            layer.freeze(torch.from_numpy(self.tensors[f"decoder.{name}.shift"].astype(np.float32)))
        return decoder.eval()

    @cached_property
    def engine(self) -> Engine | LayerEngine:
        """The same networks laid out for this machine and device, after the model's self-check.

        Raises:
            ModelError: as `decoder`, or there is no self-check.
            InexactMachineError: the self-check failed.
        """
        expected = int(self._tensor("probe", np.uint64, (1,))[0])
        if self.device == "cpu":
            return probe.checked(self.decoder, expected)
        engine = LayerEngine(self.decoder, self.device)
        found = probe.run_engine(engine, self.decoder)
        if found != expected:
            raise InexactMachineError(found, expected)
        return engine

    @cached_property
    def encoder(self) -> Encoder:
        """The float networks.

        Raises:
            ModelError: the model has none (it comes from an archive), or a tensor is malformed.
        """
        config = self.document.get("encoder")
        if not isinstance(config, dict):
            raise ModelError("this model came from an archive: it has no encoder and can only decode")
        if set(config) != set(ENCODER_LIMITS):
            raise ModelError(f"the model's encoder has {sorted(config)}, expected {sorted(ENCODER_LIMITS)}")
        for key, (low, high) in ENCODER_LIMITS.items():
            if type(config[key]) is not int or not low <= config[key] <= high:
                raise ModelError(f"the model's encoder {key!r} is {config[key]!r}, expected {low} to {high}")
        with torch.device("meta"):
            encoder = Encoder(self.arch, **config)
        state = {}
        for name, parameter in encoder.state_dict().items():
            tensor = self._tensor(f"encoder.{name}", np.float16, tuple(parameter.shape))
            if not np.isfinite(tensor).all():
                raise ModelError(f"the model's tensor 'encoder.{name}' has values that are not finite")
            state[name] = torch.from_numpy(tensor.astype(np.float32))
        encoder.load_state_dict(state, assign=True)
        for parameter in encoder.parameters():
            parameter.requires_grad_(False)
        return encoder.eval()

    def conditions(self, qualities: npt.NDArray[np.uint8]) -> coding.Conditions:
        """For the qualities 1..100 of images, uint8 [N]."""
        return coding.Conditions(self._steps, qualities)

    @cached_property
    def _steps(self) -> coding.Steps:
        return coding.Steps.of(self.decoder)

    @cached_property
    def byte_encoder(self) -> ByteEncoder:
        """The encoder as it runs on a processor."""
        decoder = self.decoder
        return ByteEncoder(self.encoder, float(decoder.offset), decoder.steps_at(torch.arange(0.0, 100.0, 33.0))[1])

    @cached_property
    def device_encoder(self) -> Encoder:
        """The encoder as it runs on another device: all but its linear part in bfloat16.

        What the nonlinear part adds is small, and its rounding is far below a quantiser step; hyper-latents are few.
        """
        encoder = copy.deepcopy(self.encoder).to(self.device)
        encoder.nonlinear.to(torch.bfloat16)
        encoder.hyper.to(torch.bfloat16)
        return encoder

    def nominal_step(self, quality: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """The step D, in gray levels, that training took the qualities 1..100 [N] for: it says what an error is worth.

        Raises:
            ModelError: the model does not say.
        """
        nominal = self.document.get("nominal")
        if not (
            isinstance(nominal, list)
            and len(nominal) == self.arch.anchors
            and all(isinstance(step, int | float) and 0.01 <= step <= MAX_STEP for step in nominal)
        ):
            raise ModelError("the model does not say what its qualities were trained for: it can only decode")
        place = (np.asarray(quality, np.float64) - 1) * (self.arch.anchors - 1) / 99
        return np.interp(place, np.arange(self.arch.anchors), np.array(nominal, np.float64))

    def typical_mse(self, quality: int) -> tuple[float, float]:
        """The MSE that is typical of a quality 1..100, and the power of the step that it grows with.

        Raises:
            ModelError: the model does not say.
        """
        typical = self.document.get("typical")
        if not (
            isinstance(typical, list)
            and len(typical) == 2
            and all(isinstance(number, int | float) and abs(number) <= MAX_TYPICAL for number in typical)
        ):
            raise ModelError("the model does not say what its qualities look like: it can only decode")
        log_mse, power = float(typical[0]), min(1.8, max(0.5, float(typical[1])))
        return float(np.exp(log_mse + power * np.log(self.nominal_step(np.array([quality]))[0]))), power

    def without_encoder(self) -> bytes:
        """What an archive stores: all that decoding needs."""
        return model_file.without_encoder(self.tensors, self.document)


def exact_layers(decoder: Decoder) -> list[tuple[str, ExactConv2d]]:
    """The convolutions of a decoder by name."""
    return [(name, module) for name, module in decoder.named_modules() if isinstance(module, ExactConv2d)]


def check_bound(
    name: str, layer: ExactConv2d, weight: npt.NDArray[np.int64], shift: npt.NDArray[np.int64], bias: npt.NDArray[np.int64]
) -> None:
    """Prove that no sum of a layer can reach 2^24 units.

    Raises:
        ModelError: it could, or a number is out of its range.
    """
    if np.abs(weight).max(initial=0) > MAX_WEIGHT or shift.min() < MIN_SHIFT or shift.max() > MAX_SHIFT:
        raise ModelError(f"the model's layer {name!r} has weights or shifts out of range")
    # what a residual block adds to its second convolution, in the same units
    extra = (layer.max_input << np.maximum(shift, 0)) if name.endswith(".b") else np.zeros_like(shift)
    largest = np.abs(weight).reshape(len(weight), -1).sum(1) * layer.max_input + np.abs(bias) + extra
    if largest.max() >= ACCUMULATOR:
        raise ModelError(f"the model's layer {name!r} could reach {largest.max()} units, where float32 is exact below 2^24")


def dump(
    decoder: Decoder,
    encoder: Encoder | None,
    tables: dict[str, npt.NDArray[np.uint16]],
    extra: dict[str, Any] | None = None,
) -> bytes:
    """The model file of networks and tables."""
    tensors: model_file.Tensors = dict(tables)
    with torch.no_grad():
        steps = torch.round(torch.exp2(decoder.log_steps)).clamp(1, MAX_STEP)
    tensors["steps"] = steps.numpy().astype(np.uint16)
    tensors["offset"] = np.array([round(float(decoder.offset))], np.int16)
    for name, layer in exact_layers(decoder):
        weight, bias, shift = layer.integers()
        tensors[f"decoder.{name}.weight"] = weight.numpy().astype(np.int8)
        tensors[f"decoder.{name}.shift"] = shift.numpy().astype(np.int8)
        tensors[f"decoder.{name}.bias"] = bias.numpy().astype(np.int32)
    document: dict[str, Any] = {"codec": CODEC_ID, "config": decoder.arch.to_json(), **(extra or {})}
    if encoder is not None:
        document["encoder"] = {"width": encoder.width, "blocks": encoder.blocks, "fine_width": encoder.fine_width}
        for name, tensor in cast(nn.Module, encoder).state_dict().items():
            tensors[f"encoder.{name}"] = tensor.cpu().to(torch.float16).numpy()
    tensors["probe"] = np.array([probe.run(LoadedModel(model_file.dump(tensors, document)).decoder)], np.uint64)
    return model_file.dump(tensors, document)
