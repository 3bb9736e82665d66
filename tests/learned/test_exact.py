"""Exact layers against int64 arithmetic: random layers, inputs at the ends of their range, gradients, pinned numerics."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from batchcodec.learned import exact
from batchcodec.learned.exact import ExactConv2d, ExactResidual, activation, numerics, on_grid, rounded, straight_through

BOUND = 1 << 24
Ints = np.ndarray


def ints(tensor: Tensor) -> Ints:
    """int64 of whole floats."""
    array = tensor.detach().double().numpy()
    assert np.array_equal(array, np.rint(array))
    return array.astype(np.int64)


def scaled(array: Ints, bits: int | Ints) -> Ints:
    """Integers times 2^-bits, exactly: float64 [N, C, H, W], `bits` a number or one for each channel."""
    return np.ldexp(array.astype(np.float64), -np.broadcast_to(np.asarray(bits).reshape(-1, 1, 1), array.shape[1:]))


def conv(x: Ints, weight: Ints, bias: Ints) -> Ints:
    """Convolution with zeros around, int64 [N, C, H, W] to [N, O, H, W]."""
    n, _, height, width = x.shape
    side = weight.shape[2]
    padded = np.pad(x, ((0, 0), (0, 0), (side // 2,) * 2, (side // 2,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), axis=(2, 3))  # [N, C, H, W, k, k]
    columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * height * width, -1)
    sums = columns @ weight.reshape(len(weight), -1).T + bias
    return sums.reshape(n, height, width, len(weight)).transpose(0, 3, 1, 2)


def to_grid(sums: Ints, down: Ints, limit: int = 127) -> Ints:
    """sums * 2^-down to the nearest integer, ties to even, clamped; `down` for each of [N, C, H, W]."""
    up = sums << np.maximum(-down, 0)
    down = np.maximum(down, 0)
    below = up >> down
    rest = up - (below << down)
    half = (1 << down) >> 1
    more = (down > 0) & ((rest > half) | ((rest == half) & (below % 2 == 1)))
    return np.clip(below + more, -limit, limit)


def fill(layer: ExactConv2d, rng: np.random.Generator) -> None:
    """Weights of any scale, some channels zero or with one large tap, and biases up to the ends of what they can be."""
    shape = tuple(layer.weight.shape)
    weight = rng.standard_normal(shape) * 10.0 ** rng.uniform(-9, 6, (shape[0], 1, 1, 1))
    weight[rng.random(shape[0]) < 0.1] = 0
    weight[rng.random(shape) < 0.01] *= 100
    # Beyond the coarsest step the weights themselves are clamped, and the bound is no longer kept by the step.
    most = 0.7 * BOUND / layer.max_input * 2.0**-exact.MIN_SHIFT
    weight *= np.minimum(1, most / np.maximum(np.abs(weight).reshape(shape[0], -1).sum(1), 1e-9)).reshape(-1, 1, 1, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        unit = torch.exp2(layer.shifts() + layer.input_bits)
        limit = BOUND // 8 - 1
        part = rng.choice([-1.0, 1.0, 0.0, rng.uniform(-1, 1), rng.uniform(-1e-3, 1e-3)], shape[0])
        assert layer.bias is not None
        layer.bias.copy_(torch.from_numpy(part * limit) / unit)


def extreme_inputs(rng: np.random.Generator, weight: Ints, max_input: int) -> list[Ints]:
    """int64 [N, C, H, W]: uniform, only the ends, and what drives one output channel as far as it goes."""
    _, n_in, side, _ = weight.shape
    shape = (int(rng.integers(1, 3)), n_in, int(rng.integers(1, 7)), int(rng.integers(1, 7)))
    strongest = np.abs(weight).reshape(len(weight), -1).sum(1).argmax()
    tile = np.sign(weight[[strongest]]) * max_input
    assert tile.shape == (1, n_in, side, side)
    return [
        rng.integers(-max_input, max_input + 1, shape),
        rng.choice([-max_input, max_input], shape),
        np.concatenate([tile, -tile]),
    ]


def random_layer(rng: np.random.Generator) -> ExactConv2d:
    layer = ExactConv2d(
        int(rng.integers(1, 41)),
        int(rng.integers(1, 41)),
        int(rng.choice([1, 3])),
        max_input=int(rng.choice([1, 127, 4095, rng.integers(1, 4096)])),
        input_bits=int(rng.integers(0, 7)),
    )
    fill(layer, rng)
    return layer


def frozen(layer: ExactConv2d) -> ExactConv2d:
    """As from a file: only the integers are kept."""
    weight, bias, shift = layer.integers()
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.weight.copy_(weight * torch.exp2(-shift)[:, None, None, None])
        other.bias.copy_(bias * torch.exp2(-shift - layer.input_bits))
    other.freeze(shift)
    return other


@pytest.mark.parametrize("seed", range(8))
def test_random_layers_are_int64(seed: int) -> None:
    rng = np.random.default_rng(seed)
    furthest = 0.0
    for _ in range(50):
        layer = random_layer(rng)
        with numerics(), torch.no_grad():
            weight, bias, shift = (ints(t) for t in layer.integers())
            assert np.abs(weight).max() <= 127
            assert shift.min() >= exact.MIN_SHIFT
            assert shift.max() <= exact.MAX_SHIFT
            assert (np.abs(weight).reshape(len(weight), -1).sum(1) * layer.max_input + np.abs(bias)).max() < BOUND
            as_stored = frozen(layer)
            unit_bits = (shift + layer.input_bits).reshape(-1, 1, 1)
            for x in extreme_inputs(rng, weight, layer.max_input):
                given = torch.from_numpy(scaled(x, layer.input_bits)).float()
                sums = conv(x, weight, bias)
                furthest = max(furthest, np.abs(sums).max() / BOUND)
                out = layer(given)
                assert np.array_equal(out.double().numpy(), scaled(sums, unit_bits))
                assert torch.equal(as_stored(given), out)
                down = np.broadcast_to(unit_bits - 4, sums.shape)
                assert np.array_equal(on_grid(out).double().numpy(), scaled(to_grid(sums, down), 4))
                down = np.where(sums < 0, down + 3, down)
                assert np.array_equal(activation(out).double().numpy(), scaled(to_grid(sums, down), 4))
    assert furthest > 0.6  # else the layers were too tame to show anything


@pytest.mark.parametrize("seed", range(4))
def test_random_residuals_are_int64(seed: int) -> None:
    rng, n_inside = np.random.default_rng(seed), 0
    for _ in range(20):
        block = ExactResidual(int(rng.integers(1, 25)))
        for layer in (block.a, block.b):
            fill(layer, rng)
        if rng.random() < 0.7:  # biases at their ends leave little but clamped sums
            for layer in (block.a, block.b):
                with torch.no_grad():
                    layer.weight.copy_(torch.from_numpy(0.1 * rng.standard_normal(layer.weight.shape)))
                    layer.bias.copy_(torch.from_numpy(rng.standard_normal(layer.bias.shape)))
        with numerics(), torch.no_grad():
            (weight_a, bias_a, shift_a), (weight_b, bias_b, shift_b) = (
                tuple(ints(t) for t in layer.integers()) for layer in (block.a, block.b)
            )
            # both terms in units of 2^-(max(shift, 0) + 4)
            fine = np.maximum(shift_b, 0).reshape(-1, 1, 1)
            for x in extreme_inputs(rng, weight_a, 127):
                inner = conv(x, weight_a, bias_a)
                down = np.broadcast_to(shift_a.reshape(-1, 1, 1), inner.shape)
                inner = to_grid(inner, np.where(inner < 0, down + 3, down))
                sums = (conv(inner, weight_b, bias_b) << (fine - shift_b.reshape(-1, 1, 1))) + (x << fine)
                expected = to_grid(sums, np.broadcast_to(fine, sums.shape))
                n_inside += int((np.abs(expected) < 127).sum())
                out = block(torch.from_numpy(scaled(x, 4)).float())
                assert np.array_equal(out.double().numpy(), scaled(expected, 4))
    assert n_inside > 1000


def test_rounding_ties_to_even() -> None:
    halves = torch.tensor([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 126.5, 127.5, 1e9, -127.5, -1e9]) / 16
    assert (on_grid(halves) * 16).tolist() == [-2, -2, 0, 0, 2, 2, 126, 127, 127, -127, -127]
    assert (rounded(halves * 4, 2, 100) * 4).tolist() == [-2, -2, 0, 0, 2, 2, 100, 100, 100, -100, -100]
    # The slope comes first: -4 / 8 is the tie.
    assert (activation(torch.tensor([-4.0, -12.0, -8.0, -8 * 126.5, 0.5, 1.5]) / 16) * 16).tolist() == [0, -2, -1, -126, 0, 2]


@pytest.fixture(scope="module")
def network() -> torch.nn.Sequential:
    torch.manual_seed(3)
    net = torch.nn.Sequential(
        ExactResidual(32), ExactResidual(32), ExactConv2d(32, 40, 3), ExactConv2d(40, 8, 1, max_input=4095)
    )
    return net.eval()


def run(net: torch.nn.Sequential, x: Tensor) -> Tensor:
    one, two, three, four = net
    return four(rounded(three(two(one(x))), 4, 4095))


def test_layout_batch_and_threads_change_nothing(network: torch.nn.Sequential) -> None:
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.integers(-127, 128, (20, 32, 12, 13))).float() / 16
    with torch.no_grad():
        with numerics():
            whole = run(network, x)
            assert torch.equal(run(network, x.to(memory_format=torch.channels_last)), whole)
            assert torch.equal(torch.cat([run(network, x[i : i + 1]) for i in range(len(x))]), whole)
            assert torch.equal(torch.cat([run(network, x[:3]), run(network, x[3:])]), whole)
            assert torch.equal(run(network, x.flip(0)).flip(0), whole)
            last = copy.deepcopy(network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            assert torch.equal(run(last, x), whole)
            enabled = torch.backends.mkldnn.set_flags(False)[0]
            try:
                assert torch.equal(run(network, x[:4]), whole[:4])
            finally:
                torch.backends.mkldnn.set_flags(enabled)
        with numerics(2):
            assert torch.equal(run(network, x), whole)
            assert torch.equal(run(network, x[:1]), whole[:1])
    assert whole.unique().numel() > 1000
    with numerics():  # with gradients it is the same network
        assert torch.equal(run(copy.deepcopy(network).train(), x).detach(), whole)


def test_gradient_of_rounded() -> None:
    x = (torch.tensor([-200.0, -127.6, -127.5, -127.4, -1, 0, 0.3, 127.4, 127.5, 127.6, 1e6]) / 16).requires_grad_()
    weight = torch.arange(1.0, 12.0)
    (on_grid(x) * weight).sum().backward()
    inside = torch.tensor([0, 0, 0, 1, 1, 1, 1, 1, 0, 0, 0])  # 127.5 rounds to 128, which the clamp cuts
    assert torch.equal(x.grad, weight * inside)


def test_gradient_of_the_activation() -> None:
    x = (torch.tensor([-2000.0, -8, 8, 200]) / 16).requires_grad_()
    activation(x).sum().backward()
    assert x.grad.tolist() == [0, 0.125, 1, 0]


def test_gradients_pass_through_the_weights() -> None:
    torch.manual_seed(0)
    layer, x = ExactConv2d(5, 7, 3), torch.randint(-127, 128, (2, 5, 6, 6)) / 16
    target = torch.randn(2, 7, 6, 6)
    (layer(x) * target).sum().backward()
    weight, bias = (t.detach().requires_grad_() for t in layer.quantised())
    (torch.nn.functional.conv2d(x, weight, bias, padding=1) * target).sum().backward()
    assert torch.equal(layer.weight.grad, weight.grad)
    assert torch.equal(layer.bias.grad, bias.grad)


def test_straight_through() -> None:
    x = torch.tensor([0.3, -1.7], requires_grad=True)
    y = straight_through(x, torch.round(x))
    y.backward(torch.tensor([2.0, 3.0]))
    assert y.tolist() == [0, -2]
    assert x.grad.tolist() == [2, 3]


def test_switched_off_it_is_a_plain_convolution() -> None:
    torch.manual_seed(0)
    layer, x = ExactConv2d(3, 4, 3, exact=False), torch.randn(1, 3, 5, 5)
    assert torch.equal(layer(x), torch.nn.functional.conv2d(x, layer.weight, layer.bias, padding=1))
    assert torch.equal(activation(x, exact=False), torch.nn.functional.leaky_relu(x, 0.125))
    assert on_grid(x, exact=False) is x


# The three that follow are known holes at the edges, far from what training reaches.


def test_a_bias_far_beyond_its_clamp_is_on_the_grid() -> None:
    layer = ExactConv2d(4, 4, 3)
    with torch.no_grad():
        layer.weight.mul_(1e-6)
        layer.bias.copy_(torch.tensor([1e6 + 0.0625, 123.456, -9.1, 1000.3]))
    assert (np.abs(ints(layer.integers()[1])) < BOUND // 8).all()


def test_too_many_taps_are_refused() -> None:
    with pytest.raises(ValueError, match="no room"):
        ExactConv2d(700, 1, 3, max_input=4095)


Settings = tuple[bool, str, bool, int, bool]


def current() -> Settings:
    return (
        torch._C._get_nnpack_enabled(),
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.get_num_threads(),
        torch.is_autocast_enabled("cpu"),
    )


PINNED = (False, "highest", False, 1, False)
HOST = (True, "medium", True, 2, False)


@pytest.fixture
def host() -> Iterator[None]:
    """A process that asked for speed, not for exactness."""
    before = current()
    torch.backends.nnpack.set_flags(True)
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    torch.set_num_threads(2)
    try:
        assert current() == HOST
        yield
    finally:
        torch.backends.nnpack.set_flags(before[0])
        torch.set_float32_matmul_precision(before[1])
        torch.backends.cudnn.allow_tf32 = before[2]
        torch.set_num_threads(before[3])


@pytest.mark.usefixtures("host")
def test_numerics_are_pinned_and_put_back() -> None:
    with numerics():
        assert current() == PINNED
    assert current() == HOST
    with torch.autocast("cpu"), numerics(2):
        assert current() == (False, "highest", False, 2, False)
    assert current() == HOST


@pytest.mark.usefixtures("host")
def test_numerics_after_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), numerics():
        _ = 1 // 0
    assert current() == HOST
    with pytest.raises(RuntimeError, match="size"), numerics():
        ExactConv2d(3, 3, 3)(torch.zeros(1, 4, 5, 5)).size()
    assert current() == HOST


@pytest.mark.usefixtures("host")
def test_nested_numerics() -> None:
    with numerics():
        with numerics(2):
            assert current() == (False, "highest", False, 2, False)
            with pytest.raises(KeyError), numerics():
                raise KeyError
            assert current() == (False, "highest", False, 2, False)
        assert current() == PINNED
    assert current() == HOST


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("first_to_leave", ["this", "other"])
def test_numerics_of_two_threads(first_to_leave: str) -> None:
    """Whoever leaves first, the other stays pinned; the last one puts the settings back."""
    inside, leave = threading.Event(), threading.Event()
    seen: list[Settings] = []

    def other() -> None:
        torch.set_num_threads(2)
        with numerics():
            seen.append(current())
            inside.set()
            assert leave.wait(20)
            seen.append(current())
        seen.append(current())

    thread = threading.Thread(target=other)
    if first_to_leave == "this":
        with numerics():
            thread.start()
            assert inside.wait(20)
        assert current() == (*PINNED[:3], 2, False)  # still pinned for the other
        leave.set()
        thread.join(20)
    else:
        with numerics():
            thread.start()
            assert inside.wait(20)
            leave.set()
            thread.join(20)
            assert current() == PINNED
    assert not thread.is_alive()
    assert seen[:2] == [PINNED, PINNED]
    assert seen[2] == ((*PINNED[:3], 2, False) if first_to_leave == "other" else HOST)
    assert current() == HOST
    assert exact._users == 0


@pytest.mark.usefixtures("host")
def test_many_threads_at_once() -> None:
    torch.manual_seed(0)
    layer, x = ExactConv2d(16, 16, 3), torch.randint(-127, 128, (2, 16, 9, 9)) / 16
    with numerics(), torch.no_grad():
        expected = layer(x)
    wrong: list[Settings] = []

    def work() -> None:
        for _ in range(30):
            with numerics(), torch.no_grad():
                if current() != PINNED or not torch.equal(layer(x), expected):
                    wrong.append(current())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    assert current() == HOST


@pytest.mark.usefixtures("host")
def test_a_refused_number_of_threads_leaves_nothing_behind() -> None:
    try:
        with pytest.raises(RuntimeError), numerics(0):
            pass
        assert current() == HOST
        assert exact._users == 0
    finally:
        exact._users = 0


def _in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_host_that_uses_the_new_settings_of_precision() -> None:
    """torch 2.9 and later; in a process of its own, since there is no way to unset them."""
    if not hasattr(torch.backends, "fp32_precision"):
        pytest.skip("this torch has no such settings")
    code = """
import torch
from batchcodec.learned.exact import numerics
torch.backends.fp32_precision = "tf32"
torch.backends.mkldnn.matmul.fp32_precision = "bf16"
with numerics():
    assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert torch.backends.mkldnn.conv.fp32_precision == "ieee"
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
print(torch.backends.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision)
"""
    assert _in_a_new_process(code).split() == ["tf32", "bf16"]


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_a_thread_computes() -> None:
    """The child neither waits for the parent's lock nor keeps what the parent's threads have pinned."""
    inside, done = threading.Event(), threading.Event()

    def hold() -> None:
        with numerics():
            inside.set()
            done.wait()

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    with exact._lock:
        child = os.fork()
        if not child:
            signal.alarm(10)
            fine = torch.get_float32_matmul_precision() == "high"
            with numerics():
                fine &= torch.get_float32_matmul_precision() == "highest"
            os._exit(0 if fine and torch.get_float32_matmul_precision() == "high" else 1)
    _, status = os.waitpid(child, 0)
    done.set()
    thread.join()
    torch.set_float32_matmul_precision(before)
    assert status == 0
