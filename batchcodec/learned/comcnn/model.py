"""Model files of `comcnn-1`: the weights of ComCNN (`encoder.*`) and of RecCNN (`decoder.*`), float16."""

from __future__ import annotations

import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from batchcodec.learned import model_file
from batchcodec.learned.checked import ModelTensors
from batchcodec.learned.comcnn.architecture import Architecture

if TYPE_CHECKING:
    from batchcodec.learned.comcnn.network import Networks

CODEC_ID = "comcnn-1"


class LoadedModel(ModelTensors):
    """A model file, checked as far as that needs no torch.

    Raises:
        ModelError: it is no such model, or damaged.
    """

    def __init__(self, blob: bytes) -> None:
        super().__init__(blob, CODEC_ID)
        self.arch = Architecture.from_json(self.config)

    @property
    def has_encoder(self) -> bool:
        """Whether it can encode: what archives hold cannot, where there is a compact image."""
        return not self.arch.compact or any(name.startswith("encoder.") for name in self.tensors)

    @cached_property
    def networks(self) -> Networks:
        """The networks; what the file lacks of the encoder stays without values."""
        import torch

        from batchcodec.learned.comcnn.network import Networks

        with torch.device("meta"):  # shapes only: nothing is allocated before the file is known to hold them
            expected = Networks(self.arch)
        state = {}
        for name, parameter in expected.state_dict().items():
            if name.startswith("encoder.") and not self.has_encoder:
                continue
            stored = self.tensor(name, np.float16, tuple(parameter.shape))
            state[name] = torch.from_numpy(stored.astype(np.float32))
        expected.load_state_dict(state, strict=False, assign=True)
        return expected.eval().requires_grad_(False)


def dump(networks: Networks, **extra: Any) -> bytes:
    """A model file; `extra` goes into its document."""
    found = copy.deepcopy(networks).cpu()
    tensors: model_file.Tensors = {name: t.numpy().astype(np.float16) for name, t in found.state_dict().items()}
    return model_file.dump(tensors, {"codec": CODEC_ID, "config": found.arch.to_json(), **extra})
