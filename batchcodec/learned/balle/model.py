"""Model files of `balle2017-1`: what is in them, checked, and the networks that they describe.

| tensor | what | type |
|---|---|---|
| `encoder.*` | the analysis transform | float16 |
| `encoder.log_gain` | log2 of the gains before rounding, [anchors, latent] | float32 |
| `decoder.*` | the synthesis transform | float16 |
| `log_step` | log2 of the gains after it, [anchors, latent] | float32 |
| `offset` | of each image channel, [channels] | float32 |
| `masses`, `widths` | the integer density, see `density` | uint16 |
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from batchcodec.entropy.values import Bank
from batchcodec.learned import model_file
from batchcodec.learned.balle import density
from batchcodec.learned.balle.architecture import N_QUALITIES, Architecture
from batchcodec.learned.checked import ModelTensors

if TYPE_CHECKING:
    from batchcodec.learned.balle.network import Transforms

CODEC_ID = "balle2017-1"
MAX_NAME = 200


class LoadedModel(ModelTensors):
    """A model file, checked as far as that needs no torch.

    Raises:
        ModelError: it is no such model, or damaged.
    """

    def __init__(self, blob: bytes) -> None:
        super().__init__(blob, CODEC_ID)
        self.arch = arch = Architecture.from_json(self.config)
        self._masses = self.tensor("masses", np.uint16, (arch.latent, density.CELLS))
        self._widths = self.tensor("widths", np.uint16, (N_QUALITIES, arch.latent))
        density.check(self._masses, self._widths)
        for name, shape in (("log_step", (arch.anchors, arch.latent)), ("offset", (arch.channels,))):
            self.tensor(name, np.float32, shape)
        self.bank = lru_cache(maxsize=4)(self._bank)

    @property
    def has_encoder(self) -> bool:
        """Whether it can encode: what archives hold cannot."""
        return "encoder.log_gain" in self.tensors

    def _bank(self, quality: int) -> Bank:
        """The tables of a quality 1..100, one for each latent channel."""
        return density.bank(self._masses, self._widths[quality - 1])

    @cached_property
    def transforms(self) -> Transforms:
        """The networks; what the file lacks of the encoder stays without values."""
        import torch

        from batchcodec.learned.balle.network import Transforms

        with torch.device("meta"):  # shapes only: nothing is allocated before the file is known to hold them
            expected = Transforms(self.arch)
        state = {}
        for name, parameter in expected.state_dict().items():
            stored = "encoder.log_gain" if name == "log_gain" else name
            if stored.startswith("encoder.") and not self.has_encoder:
                continue
            dtype = np.float16 if name.startswith(("encoder.", "decoder.")) else np.float32
            state[name] = torch.from_numpy(self.tensor(stored, dtype, tuple(parameter.shape)).astype(np.float32))
        expected.load_state_dict(state, strict=False, assign=True)
        return expected.eval().requires_grad_(False)


def rounded(transforms: Transforms) -> Transforms:
    """The same networks with the weights that a file holds, float16 in the layers."""
    import copy

    found = copy.deepcopy(transforms).cpu().eval().requires_grad_(False)
    for name, tensor in found.state_dict().items():
        if name.startswith(("encoder.", "decoder.")):
            tensor.copy_(tensor.half().float())
    return found


def dump(transforms: Transforms, masses: density.Masses, widths: npt.NDArray[np.uint16], **extra: Any) -> bytes:
    """A model file of rounded networks and their density; `extra` goes into its document."""
    tensors: model_file.Tensors = {"masses": masses, "widths": widths}
    for name, tensor in transforms.state_dict().items():
        array = tensor.numpy()
        wide = not name.startswith(("encoder.", "decoder."))
        tensors["encoder.log_gain" if name == "log_gain" else name] = array.astype(np.float32 if wide else np.float16)
    return model_file.dump(tensors, {"codec": CODEC_ID, "config": transforms.arch.to_json(), **extra})
