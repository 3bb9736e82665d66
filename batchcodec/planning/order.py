"""In which order to look at parts of a whole, if it may have to end at any time: every beginning of it is spread evenly."""

from __future__ import annotations

GOLDEN = (5**0.5 - 1) / 2


def spread_order(n: int, shift: float = 0.5) -> list[int]:
    """A permutation of `range(n)`. Its first k members are spread evenly, whatever k is.

    Multiples of the golden ratio modulo 1 do this (Weyl 1916); with a random `shift` from 0 to 1 each place is as likely as any
    other to be among the first. A place that is taken gives way to the next free one.
    """
    following = list(range(n + 1))  # of each place, the next that may be free; found with path halving

    def free(place: int) -> int:
        while following[place] != place:
            following[place] = following[following[place]]
            place = following[place]
        return place

    order = []
    for k in range(n):
        place = free(int(n * ((shift + k * GOLDEN) % 1)))
        if place == n:
            place = free(0)
        order.append(place)
        following[place] = place + 1
    return order
