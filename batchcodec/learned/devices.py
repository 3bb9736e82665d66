"""Devices that training runs on."""

from __future__ import annotations

import torch


def torch_device(name: str) -> torch.device:
    """The device that a setting names; "auto" is CUDA where torch finds it."""
    found = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(found if name == "auto" else name)


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether there is hardware for bfloat16: GPUs, and CPUs with AVX512-BF16 or AMX (steps take half the time there)."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    checks = (getattr(torch.cpu, f"_is_{unit}_supported", lambda: False) for unit in ("amx_tile", "avx512_bf16"))
    return any(bool(check()) for check in checks)
