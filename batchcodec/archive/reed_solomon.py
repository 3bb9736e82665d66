"""A systematic Reed-Solomon code over GF(2^8): parity rows of rows of bytes, and lost rows from any others.

A codeword is a column: one byte of each row. It is the values of a polynomial at the points 0, 1, x, x^2, ..., of a degree
below the number of data rows. (The code of Rizzo's `fec`, 1997, "Effective erasure codes for reliable computer communication
protocols".) The field is GF(2)[x] / (x^8 + x^4 + x^3 + x^2 + 1).

The libraries for it are slow or come with a licence that this one cannot take, so it is here, in numpy. A byte of data adds its
multiple of each coefficient to its column of parity. All of these multiples stand in one row of a table of 256 rows, so a byte
costs one look-up and one exclusive or, whatever the number of parity rows up to the width of a few machine words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.uint8]
Bytes = bytes | bytearray | memoryview

POLYNOMIAL = 0x11D
PIECE = 1 << 13
"""Columns that are computed together: their parity stays in a fast cache."""


@cache
def _logarithms() -> tuple[npt.NDArray[np.int64], Matrix]:
    """Logarithms to the base x (of 0: nonsense), and powers of x for exponents 0 to 509."""
    powers = np.zeros(510, np.uint8)
    value = 1
    for exponent in range(510):
        powers[exponent] = value
        value = value << 1 ^ (POLYNOMIAL if value & 0x80 else 0)
    logarithms = np.zeros(256, np.int64)
    logarithms[powers[:255]] = np.arange(255)
    return logarithms, powers


def times(a: Matrix, b: Matrix) -> Matrix:
    """Products, elementwise."""
    logarithms, powers = _logarithms()
    product = powers[logarithms[a] + logarithms[b]]
    return np.where((a == 0) | (b == 0), np.uint8(0), product)


@cache
def _multiples() -> Matrix:
    """All products: uint8 [256, 256]."""
    every = np.arange(256, dtype=np.uint8)
    return times(every[:, None], every)


def inverse(matrix: Matrix) -> Matrix:
    """The inverse of an invertible matrix [n, n], by Gauss and Jordan."""
    n = len(matrix)
    work = np.concatenate([matrix, np.eye(n, dtype=np.uint8)], 1)
    logarithms, powers = _logarithms()
    for i in range(n):
        pivot = i + int(np.argmax(work[i:, i] != 0))
        work[[i, pivot]] = work[[pivot, i]]
        work[i] = times(work[i], powers[255 - logarithms[work[i, i]]])
        factors = work[:, i].copy()
        factors[i] = 0
        work ^= times(factors[:, None], work[i])
    return work[:, n:]


@lru_cache(maxsize=8)
def parity_matrix(n_data: int, n_parity: int) -> Matrix:
    """What makes parity of data: uint8 [n_parity, n_data]; Lagrange's interpolation polynomials at the further points."""
    logarithms, powers = _logarithms()
    points = np.concatenate([[0], powers[: n_data + n_parity - 1]]).astype(np.uint8)
    data, further = points[:n_data], points[n_data:]

    def log_product(differences: Matrix) -> npt.NDArray[np.int64]:
        """Logarithm of the product of all but zeros of each row."""
        return np.asarray(np.where(differences == 0, 0, logarithms[differences]).sum(1))

    above = log_product(further[:, None] ^ data)[:, None] - logarithms[further[:, None] ^ data]
    below = log_product(data[:, None] ^ data)
    return np.asarray(powers[(above - below) % 255])


def product(matrix: Matrix, rows: Sequence[Bytes]) -> list[bytes]:
    """Rows that are sums of multiples of rows of equal length: one for each row of `matrix` [n, len(rows)]."""
    n, length = len(matrix), len(rows[0])
    words = -(-n // 8)
    tables = np.zeros((len(rows), 256, 8 * words), np.uint8)
    for i, coefficients in enumerate(matrix.T):
        tables[i, :, :n] = _multiples()[:, coefficients]
    wide = tables.view(np.uint64)  # [rows, 256, words]
    data = [np.frombuffer(row, np.uint8) for row in rows]
    out = np.empty((n, length), np.uint8)
    for start in range(0, length, PIECE):
        piece = slice(start, start + PIECE)
        sums = np.zeros((len(data[0][piece]), words), np.uint64)
        for table, row in zip(wide, data, strict=True):
            sums ^= table[row[piece]]
        out[:, piece] = sums.view(np.uint8)[:, :n].T
    return [row.tobytes() for row in out]


def extend(rows: Sequence[Bytes], n_parity: int) -> list[bytes]:
    """Parity rows of rows of equal length; at most 256 rows together."""
    return product(parity_matrix(len(rows), n_parity), rows) if n_parity else []


def restore(rows: Mapping[int, Bytes], n_data: int, n_rows: int) -> list[bytes]:
    """All rows of data from at least `n_data` rows of data or parity of equal length, by their number among `n_rows`."""
    lost = [number for number in range(n_data) if number not in rows]
    found: dict[int, bytes] = {}
    if lost:
        there = [number for number in range(n_data) if number in rows]
        used = [number for number in sorted(rows) if number >= n_data][: len(lost)]
        matrix = parity_matrix(n_data, n_rows - n_data)[[number - n_data for number in used]]
        solving = inverse(matrix[:, lost])
        # the parity that the rows which are there account for, taken from the parity as it is, leaves that of the lost ones
        known = np.concatenate([solving, _matmul(solving, matrix[:, there])], 1)
        made = product(known, [rows[number] for number in (*used, *there)])
        found = dict(zip(lost, made, strict=True))
    return [found[number] if number in found else bytes(rows[number]) for number in range(n_data)]


def _matmul(a: Matrix, b: Matrix) -> Matrix:
    total = np.zeros((len(a), b.shape[1]), np.uint8)
    for column, row in zip(a.T, b, strict=True):
        total ^= times(column[:, None], row)
    return total
