"""Puts together the root file system of an image that holds a Python, a folder of packages, and nothing else.

    python rootfs.py ROOT PACKAGES

Taken are the interpreter that runs this, its standard library without what only people at a terminal use, PACKAGES as
`/app`, the shared libraries that any of these asks for (by `ldd`), the system's certificates, two users, and the bill
of materials `sbom.cdx.json` where one lies beside this file.
"""

import compileall
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

UID = 65532
CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
SBOM = "usr/share/sbom/secretbinding.cdx.json"
_LEFT_OUT = (
    "__pycache__", "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "turtle.py",
    "ensurepip", "venv", "pydoc_data", "lib2to3", "config-*", "_tkinter*", "_test*", "*.a",
)  # fmt: skip
_USED_BY_LDD = re.compile(r"(?:=> )?(/[^ ]+) \(0x")
_WHERE_CERTIFICATES_ARE = ("/" + CERTIFICATES, "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def build(root: Path, packages: Path) -> None:
    """Write the file system into `root`, which must not exist yet. Raises `FileExistsError`, `FileNotFoundError` when
    the system has no certificates, and `subprocess.CalledProcessError`."""
    root.mkdir(parents=True)
    interpreter = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib")).resolve()
    # Python finds its library from where it lies itself, so that it keeps its place.
    for source in (interpreter, library):
        _copy(source, root / source.relative_to("/"))
    _copy(packages, root / "app")
    _link(root / "usr/bin/python3", interpreter)
    for needed in sorted(set(_libraries([interpreter, *_shared(root)]))):
        _copy(needed, root / needed.relative_to("/"))
    compileall.compile_dir(root / "app", quiet=1, stripdir=str(root))
    compileall.compile_dir(root / library.relative_to("/"), quiet=1, stripdir=str(root))
    bill = Path(__file__).with_name("sbom.cdx.json")
    if bill.is_file():
        _copy(bill, root / SBOM)
    _settings(root)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_LEFT_OUT) if target.name != "app" else None)
    elif not target.exists():
        shutil.copy2(source, target)


def _link(place: Path, to: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.symlink_to(to)


def _shared(root: Path) -> Iterator[Path]:
    return (path for path in root.rglob("*.so*") if path.is_file())


def _libraries(files: Iterable[Path]) -> Iterator[Path]:
    """Where the shared libraries that the files ask for are on this system, the loader included."""
    here = [str(path) for path in files]
    for start in range(0, len(here), 100):
        # A file that is no program of this system has none: its status says so, and the others are told all the same.
        told = subprocess.run(["ldd", *here[start : start + 100]], capture_output=True, text=True, check=False).stdout
        yield from (Path(found) for found in _USED_BY_LDD.findall(told) if Path(found).is_file())


def _settings(root: Path) -> None:
    certificates = next((Path(place) for place in _WHERE_CERTIFICATES_ARE if Path(place).is_file()), None)
    if certificates is None:
        raise FileNotFoundError("no certificates on this system: install ca-certificates")
    target = root / CERTIFICATES
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(certificates, target)
    (root / "etc/passwd").write_text(f"root:x:0:0::/:/none\nsecretbinding:x:{UID}:{UID}::/:/none\n")
    (root / "etc/group").write_text(f"root:x:0:\nsecretbinding:x:{UID}:\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            # Readable by everybody, writable by root alone, whatever the builder's umask; no set-uid bits.
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
