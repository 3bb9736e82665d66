"""Archives to look at, and a server that runs in this process on a real socket."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import numpy as np
import pytest
from helpers import picture
from PIL import Image

import batchcodec
from batchcodec.archive import wire
from batchcodec.view.server import view

HOSTILE = "<img src=x onerror=document.title='owned'>\u202egnp.png"


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Site:
    """A server that runs."""

    url: str

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 0

    @property
    def root(self) -> str:
        """The path with the token."""
        return urlsplit(self.url).path

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Reply:
        """The reply to a whole path, on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return Reply(answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()})

    def get(self, path: str, **parameters: object) -> Reply:
        """The reply to a path behind the token."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        return self.ask(f"{self.root}{path}{query}")


@contextlib.contextmanager
def serving(archive: Path, against: Path | None = None) -> Iterator[Site]:
    """A server on a free port, until the block ends."""
    stop, up, urls, failures = threading.Event(), threading.Event(), list[str](), list[BaseException]()

    def ready(url: str, n_items: int) -> None:
        urls.append(url)
        up.set()

    def run() -> None:
        try:
            view(archive, against, ready=ready, stop=stop)
        except BaseException as exc:
            failures.append(exc)
            up.set()

    thread = threading.Thread(target=run)
    thread.start()
    up.wait(60)
    try:
        if failures:
            raise failures[0]
        yield Site(urls[0])
    finally:
        stop.set()
        thread.join(30)
    assert not thread.is_alive()


Serve = Callable[..., Site]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """`serve(archive, against)` gives a site that ends with the test."""
    with contextlib.ExitStack() as stack:
        yield lambda archive, against=None: stack.enter_context(serving(archive, against))


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of images of all kinds in two labels, one with a hostile name, and its archive, lossless."""
    folder = tmp_path_factory.mktemp("zoo")
    source, archive = folder / "zoo", folder / "zoo.cpack"
    for label in ("cat", "dog"):
        (source / label).mkdir(parents=True)
        for i in range(8):
            Image.fromarray(picture((24, 32, 3), i + ord(label[0]))).save(source / label / f"{i}.png")
    Image.fromarray(picture((300, 90, 4), 3)).save(source / "dog" / "tall.png")
    Image.fromarray(picture((60, 700, 2), 3)).save(source / "dog" / "wide.png")
    Image.fromarray(picture((40, 50), 4, "uint16") >> 4).save(source / "dog" / "sixteen.png")
    Image.fromarray(picture((20, 20, 3), 1)).save(source / "dog" / HOSTILE)
    Image.fromarray(picture((20, 20, 3), 2)).save(source / "dog" / "new\nline.png")
    batchcodec.pack(source, archive, batchcodec.PackOptions(codec="zstd", group_items=8, workers=1))
    return source, archive


@pytest.fixture(scope="session")
def site(zoo: tuple[Path, Path]) -> Iterator[Site]:
    """A server of that archive, for all tests that only ask."""
    with serving(zoo[1]) as found:
        yield found


@pytest.fixture
def damaged(zoo: tuple[Path, Path], tmp_path: Path) -> Path:
    """The same archive with a byte of the group of `cat/0.png` to `cat/7.png` changed."""
    target = tmp_path / "damaged.cpack"
    data = bytearray(zoo[1].read_bytes())
    with batchcodec.open(zoo[1]) as archive:
        group, _ = archive.locate(0)
        entry = archive._groups.entries[group]
    data[entry.offset + wire.BLOCK.size + entry.n_bytes - 40] ^= 255
    target.write_bytes(data)
    return target


@pytest.fixture(scope="session")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive of 150,000 images of one pixel, whose value is its number modulo 251; labels of 50,000 each.

    In one column of large pictures that is higher than a browser lets an element be.
    """
    folder = tmp_path_factory.mktemp("many")
    numbers = np.arange(150_000)
    names = np.char.add("item-", np.char.zfill(numbers.astype(str), 6))
    labels = np.char.add("part ", (numbers // 50_000).astype(str))
    np.savez(folder / "many.npz", images=(numbers % 251).astype(np.uint8).reshape(-1, 1, 1, 1), names=names, labels=labels)
    batchcodec.pack(folder / "many.npz", folder / "many.cpack", batchcodec.PackOptions(codec="zstd:level=1", workers=1))
    return folder / "many.cpack"
