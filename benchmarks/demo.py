"""`make demo`: the main job from end to end, on pictures made here or in a folder of yours.

Packs them, reports against the originals and unpacks again; leaves the archive, the unpacked folder and `comparison.png` in the
demo folder.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from pictures import write_pictures


def run(*arguments: str | Path) -> None:
    """Run the installed command as a user would, showing it."""
    command = [str(argument) for argument in arguments]
    print(f"\n$ batchcodec {shlex.join(command)}", flush=True)
    tool = Path(sys.executable).with_name("batchcodec")
    subprocess.run([str(tool), *command], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("demo"), help="where everything goes; emptied first")
    parser.add_argument("--images", type=Path, help="a folder of your own pictures instead of generated ones")
    options = parser.parse_args()
    folder: Path = options.folder
    if folder.exists() and not (folder / ".batchcodec-demo").exists() and any(folder.iterdir()):
        sys.exit(f"{folder} holds other things; choose another --folder")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / ".batchcodec-demo").touch()
    if options.images:
        images = options.images
    else:
        images = folder / "images"
        print(f"{write_pictures(images)} pictures written to {images}")
    archive, picture = folder / "images.cpack", folder / "comparison.png"
    run("pack", images, archive, "--on-error", "skip")
    run("report", archive, "--against", images, "--figure", picture)
    run("unpack", archive, folder / "unpacked")
    print(f"\nLook at {picture}: originals over what comes back from the archive.")


if __name__ == "__main__":
    main()
