"""The server of the viewer, through real sockets: who is answered, and what."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import picture
from PIL import Image

import batchcodec
from batchcodec import display
from batchcodec.errors import CorruptArchiveError, InputError, NotAnArchiveError, OptionError
from batchcodec.types import Pixels
from batchcodec.view.server import view

from .conftest import HOSTILE, Serve, Site


def pixels_of(png: bytes) -> Pixels:
    return np.asarray(Image.open(io.BytesIO(png)))


def pictures_of(body: bytes) -> list[bytes | str]:
    """The PNG files of an answer with small pictures, or why there are none."""
    (n_head,) = struct.unpack_from("<I", body)
    offset, found = 4 + n_head, list[bytes | str]()
    for head in json.loads(body[4:offset]):
        found.append(head["error"] or body[offset : offset + head["bytes"]])
        offset += head["bytes"]
    assert offset == len(body)
    return found


# ---- who is answered


def test_the_page_and_its_files(site: Site) -> None:
    page = site.get("")
    assert (page.status, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    text = page.body.decode()
    assert "style=" not in text
    assert "<script>" not in text
    for name in ("view.js", "grid.js", "detail.js", "server.js", "theme.css", "view.css", "icon.svg"):
        assert site.get(name).status == 200, name


def test_every_answer_forbids_what_the_page_does_not_need(site: Site) -> None:
    replies = [site.get(""), site.get("archive"), site.get("no"), site.ask("/"), site.ask("/", "POST"), site.ask("/", Host="x")]
    for reply in [*replies, site.get("picture", index=0)]:
        policy = reply.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["referrer-policy"] == "no-referrer"
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        assert reply.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in reply.headers


def test_a_wrong_token_is_refused_whatever_is_asked(site: Site) -> None:
    token = site.root.strip("/")
    assert len(token) == 32
    other = token[:-1] + ("A" if token[-1] != "A" else "B")
    for path in ("/", "/archive", "/favicon.ico", f"/{other}/", f"/{other}/archive", f"/{token}", f"/{token}x/", "//", "/%00/"):
        reply = site.ask(path)
        assert reply.status == 403, path
        assert b"zoo" not in reply.body
    assert site.ask(f"/?token={token}").status == 403
    assert site.ask(f"http://evil.example/{token}/archive").status == 403


def test_another_servers_token_is_wrong(serve: Serve, zoo: tuple[Path, Path]) -> None:
    first, second = serve(zoo[1]), serve(zoo[1])
    assert first.root != second.root
    assert second.ask(first.root).status == 403


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80", "", "127.0.0.2"])
def test_another_host_is_refused(host: str, site: Site) -> None:
    assert site.ask(f"{site.root}archive", Host=host).status == 403


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1:1"])
def test_a_tunnel_may_have_another_port(host: str, site: Site) -> None:
    assert site.ask(f"{site.root}archive", Host=host).status == 200


def raw(site: Site, data: bytes) -> bytes:
    """What comes back until the server closes the connection or waits for more."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        with contextlib.suppress(ConnectionResetError):
            while part := connection.recv(1 << 16):
                parts.append(part)
        return b"".join(parts)


def test_no_host_and_two_hosts_are_refused(site: Site) -> None:
    start = f"GET {site.root}archive HTTP/1.1\r\n".encode()
    assert b" 403 " in raw(site, start + b"\r\n")
    assert b" 403 " in raw(site, start + b"Host: localhost\r\nHost: localhost\r\n\r\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "PATCH", "CONNECT", "FOO"])
def test_only_get_is_answered(method: str, site: Site) -> None:
    answer = raw(site, f"{method} {site.root}archive HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nGET ".encode())
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET\r\n" in answer
    assert answer.count(b"HTTP/1.1") == 1
    assert b"n_items" not in answer


@pytest.mark.parametrize(
    "path",
    [
        "../../../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "%2e%2e/server.py",
        "../pages.py",
        "assets/page.html",
        "/etc/passwd",
        "page.html/",
        "page.html%00.js",
        "PAGE.HTML",
        "__init__.py",
        "_files",
        "\\windows",
        "archive/",
    ],
)
def test_no_path_leads_to_a_file(path: str, site: Site) -> None:
    reply = site.get(path)
    assert reply.status == 404
    assert reply.json == {"error": "there is no such page"}


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n",
        bytes(range(256)) * 4,
        b"GET /[x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://[x/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
def test_what_is_no_request_harms_nothing(data: bytes, site: Site) -> None:
    answer = raw(site, data)
    assert answer == b"" or answer.split(b"\r\n")[0].split(b" ")[1][:1] in (b"4", b"5") or b"error" in answer
    assert site.get("archive").status == 200


def test_it_listens_on_loopback_only(site: Site) -> None:
    """Of all addresses of the machine only 127.0.0.1 has the port: the kernel's table of listening sockets says so."""
    table = Path("/proc/net/tcp")
    if not table.exists():
        pytest.skip("no /proc/net/tcp")
    listening = [line.split() for line in table.read_text().splitlines()[1:]]
    found = [row[1] for row in listening if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == site.port]
    assert found == [f"0100007F:{site.port:04X}"]


# ---- what is answered


def test_items_in_pages(site: Site, zoo: tuple[Path, Path]) -> None:
    with batchcodec.open(zoo[1]) as archive:
        names, labels = archive.names, archive.labels
    about = site.get("archive").json
    assert (about["name"], about["n_items"], about["against"]) == ("zoo.cpack", 21, None)
    assert site.get("labels").json == {"labels": [["cat", 8], ["dog", 13]], "n_labels": 2, "n_unlabelled": 0}
    items = [item for start in (0, 10, 20) for item in site.get("items", **{"from": start, "count": 10}).json["items"]]
    assert items == [{"index": i, "name": names[i], "label": labels[i]} for i in range(21)]
    assert site.get("items", **{"from": 21}).json == {"total": 21, "from": 21, "items": []}
    assert f"dog/{HOSTILE}" in names
    found = site.get("items", name="ONERROR").json
    assert [item["name"] for item in found["items"]] == [f"dog/{HOSTILE}"]
    found = site.get("items", name="*/3.png", label="dog", count=5).json
    assert (found["total"], [item["name"] for item in found["items"]]) == (1, ["dog/3.png"])


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("items", {"from": -1}),
        ("items", {"from": 22}),
        ("items", {"count": 513}),
        ("items", {"count": "ten"}),
        ("items", {"count": "9" * 30}),
        ("items", {"name": "a" * 1025}),
        ("thumbnails", {"items": "1,x"}),
        ("thumbnails", {"items": "1", "side": 4}),
        ("thumbnails", {"items": "1", "side": 100_000}),
        ("thumbnails", {"items": ",".join(["1"] * 513)}),
        ("item", {}),
        ("item", {"index": "\u0661"}),
        ("picture", {"index": 1, "kind": "raw"}),
        ("picture", {"index": 1, "gain": 0}),
    ],
)
def test_bad_parameters(path: str, parameters: dict[str, object], site: Site) -> None:
    reply = site.get(path, **parameters)
    assert reply.status == 400
    assert "expected" in reply.json["error"]


@pytest.mark.parametrize("path", ["item", "quality", "picture"])
@pytest.mark.parametrize("index", [21, -1, 10**15])
def test_items_that_are_not_there(path: str, index: int, site: Site) -> None:
    assert site.get(path, index=index).status == 404
    assert site.get("thumbnails", items=f"0,{index}").status == 404


def test_small_pictures_have_the_pixels_of_small_images(site: Site, zoo: tuple[Path, Path]) -> None:
    with batchcodec.open(zoo[1]) as archive:
        small = pictures_of(site.get("thumbnails", items=",".join(map(str, range(21))), side=64).body)
        for index, png in enumerate(small):
            assert isinstance(png, bytes)
            pixels, item = pixels_of(png), archive[index]
            assert max(pixels.shape[:2]) <= 64
            if max(item.pixels.shape[:2]) <= 64 and item.pixels.dtype == np.uint8:
                assert np.array_equal(pixels.reshape(item.pixels.shape), item.pixels)
        assert pictures_of(site.get("thumbnails", items="5,3,5", side=64).body) == [small[5], small[3], small[5]]
        assert pictures_of(site.get("thumbnails", items="", side=64).body) == []


def test_small_pictures_of_large_16_bit_images(serve: Serve, tmp_path: Path) -> None:
    """As those of the same image with 8 bits, nearly: it is stretched by its own range."""
    deep = picture((1000, 700, 1), 3, "uint16") >> 3
    np.save(tmp_path / "deep.npy", deep[None])
    batchcodec.pack(tmp_path / "deep.npy", tmp_path / "deep.cpack", batchcodec.PackOptions(codec="zstd:level=1"))
    (png,) = pictures_of(serve(tmp_path / "deep.cpack").get("thumbnails", items="0", side=64).body)
    assert isinstance(png, bytes)
    made = pixels_of(png)
    assert made.shape == (64, 45)
    whole = Image.fromarray(display.shown(deep)[..., 0]).resize((45, 64), Image.Resampling.BOX)
    assert np.abs(made.astype(int) - np.asarray(whole)).mean() < 12


def test_facts_of_an_item(site: Site, zoo: tuple[Path, Path]) -> None:
    with batchcodec.open(zoo[1]) as archive:
        sixteen = archive.find("dog/sixteen.png")
        assert sixteen is not None
    found = site.get("item", index=sixteen).json
    assert (found["name"], found["image"], found["reduced"]) == ("dog/sixteen.png", "50x40 L 16-bit", False)
    low, high = found["window"]
    assert 0 < low < high <= 4096
    assert pixels_of(site.get("picture", index=sixteen).body).max() == 255
    assert site.get("item", index=0).json["window"] is None
    assert site.get("quality", index=0).json == {"quality": None, "reason": ""}
    assert site.get("picture", index=0, kind="original").status == 404


def test_beside_the_original(serve: Serve, rgb_archive: tuple[Path, Path]) -> None:
    source, path = rgb_archive
    site = serve(path, source)
    assert site.get("archive").json["against"] == str(source)
    with batchcodec.open(path) as archive:
        for index in (0, 5):
            decoded = archive[index].pixels
            original = np.asarray(Image.open(source / archive[index].name))
            assert np.array_equal(pixels_of(site.get("picture", index=index).body), decoded)
            assert np.array_equal(pixels_of(site.get("picture", index=index, kind="original").body), original)
            error = np.abs(original.astype(int) - decoded)
            shown = pixels_of(site.get("picture", index=index, kind="difference", gain=16).body)
            assert np.array_equal(shown, np.minimum(16 * error, 255))
            quality = site.get("quality", index=index).json["quality"]
            assert quality["max_error"] == error.max()
            assert quality["psnr"] == pytest.approx(10 * np.log10(255**2 / (error**2).mean()))
            assert quality["equal"] is False


def test_equal_missing_and_changed_originals(serve: Serve, zoo: tuple[Path, Path], tmp_path: Path) -> None:
    source, path = zoo
    assert serve(path, source).get("quality", index=0).json["quality"] == {"equal": True, "psnr": None, "max_error": 0}
    other = tmp_path / "other"
    (other / "cat").mkdir(parents=True)
    Image.fromarray(picture((10, 10, 3))).save(other / "cat" / "1.png")
    site = serve(path, other)
    assert "no such item" in site.get("quality", index=0).json["reason"]
    assert "another size" in site.get("quality", index=1).json["reason"]
    assert site.get("picture", index=1, kind="difference").status == 404
    assert site.get("picture", index=1).status == 200


def test_a_damaged_group_costs_its_own_pictures_only(serve: Serve, damaged: Path) -> None:
    site = serve(damaged)
    small = pictures_of(site.get("thumbnails", items=",".join(map(str, range(21)))).body)
    errors = [index for index, found in enumerate(small) if isinstance(found, str)]
    assert errors == list(range(8))
    assert "checksum" in str(small[0])
    assert site.get("item", index=0).json["name"] == "cat/0.png"
    reply = site.get("picture", index=0)
    assert (reply.status, "checksum" in reply.json["error"]) == (500, True)
    assert site.get("picture", index=8).status == 200
    assert site.get("items", name="cat").json["total"] == 8


def test_many_ask_at_once(serve: Serve, zoo: tuple[Path, Path]) -> None:
    site = serve(zoo[1], zoo[0])
    paths: list[tuple[str, dict[str, object]]] = [("items", {"name": str(k)}) for k in range(6)]
    paths += [("thumbnails", {"items": ",".join(map(str, range(k, 21, 3)))}) for k in range(6)]
    paths += [("picture", {"index": k, "kind": kind}) for k in range(6) for kind in ("decoded", "original", "difference")]
    one_by_one = [site.get(path, **parameters) for path, parameters in paths]
    with ThreadPoolExecutor(16) as pool:
        at_once = list(pool.map(lambda asked: site.get(asked[0], **asked[1]), paths * 3))
    assert [reply.status for reply in at_once] == [200] * len(at_once)
    assert [reply.body for reply in at_once] == [reply.body for reply in one_by_one] * 3


def test_a_connection_serves_several_requests(site: Site) -> None:
    request = f"GET {site.root}archive HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    assert raw(site, 3 * request).count(b"HTTP/1.1 200 ") == 3


def test_a_plugin_that_fails_is_told_of(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("nobody expected this")

    monkeypatch.setattr("batchcodec.view.pages.item_info", broken)
    reply = site.get("item", index=0)
    assert (reply.status, reply.json) == (500, {"error": "ZeroDivisionError: nobody expected this"})


# ---- its life


def test_it_ends_when_nothing_is_asked(zoo: tuple[Path, Path]) -> None:
    thread = threading.Thread(target=view, args=(zoo[1],), kwargs={"idle_seconds": 0.1})
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def test_a_port_that_is_taken(site: Site, zoo: tuple[Path, Path]) -> None:
    with pytest.raises(OptionError, match="port"):
        view(zoo[1], port=site.port)


def test_what_cannot_be_viewed(zoo: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(NotAnArchiveError):
        view(zoo[0] / "cat" / "0.png")
    with pytest.raises(InputError):
        view(zoo[1], tmp_path / "no")
    data = bytearray(zoo[1].read_bytes())
    with batchcodec.open(zoo[1]) as archive:
        entry = archive._items._directories[0]
    data[entry.offset + 60] ^= 255
    (tmp_path / "bad.cpack").write_bytes(data)
    with pytest.raises(CorruptArchiveError):
        view(tmp_path / "bad.cpack")
