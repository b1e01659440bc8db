"""What a wheel has to bring: `python tests/support/wheel.py WHEEL`, run by .ci/run."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
# Folder of the repository -> folder of the wheel; every file that git keeps there has to be in it.
FOLDERS = {
    "fdrn_adapter": "fdrn_adapter",
    "patches": "fdrn_adapter/patches",
    "model_zoo": "fdrn_adapter/model_zoo",
    "examples": "fdrn_adapter/examples",
    "experiments": "fdrn_adapter/experiments",
}


def missing(wheel: Path) -> list[str]:
    """Files of the repository that the wheel lacks."""
    inside = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", *FOLDERS], check=True, capture_output=True, text=True
    ).stdout.split("\n")
    wanted = [name for name in listed if name]
    return [
        name for name in wanted
        if FOLDERS[name.split("/")[0]] + "/" + name.partition("/")[2] not in inside
    ]


def main(path: str) -> int:
    """Print what is missing; returns the exit code."""
    wheel = Path(path)
    licences = [n for n in zipfile.ZipFile(wheel).namelist() if n.endswith(("LICENSE", "NOTICE"))]
    lacks = missing(wheel) + ([] if len(licences) == 2 else ["LICENSE or NOTICE"])
    if lacks:
        print(f"{wheel.name} lacks {', '.join(lacks)}", file=sys.stderr)
        return 1
    print(f"{wheel.name}: {wheel.stat().st_size / 1e6:.0f} MB, nothing is missing")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
