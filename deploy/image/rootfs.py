"""Puts together the root file system of an image that holds a Python, a folder of packages, and nothing else.

    python rootfs.py ROOT PACKAGES

Taken are the interpreter that runs this, its standard library without what only people at a terminal use, PACKAGES as
`/app`, the shared libraries that any of these asks for (by `ldd`), the system's certificates, two users, and the bill
of materials `sbom.cdx.json` where one lies beside this file, with what this script adds to its packages: interpreter,
libraries and certificates.
"""

import compileall
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

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
    # What packages bring along lies where they look for it.
    found = {needed for needed in _libraries([interpreter, *_shared(root)]) if not needed.is_relative_to(root)}
    libraries = sorted(found)
    for needed in libraries:
        _copy(needed, root / needed.relative_to("/"))
    compileall.compile_dir(root / "app", quiet=1, stripdir=str(root))
    compileall.compile_dir(root / library.relative_to("/"), quiet=1, stripdir=str(root))
    bill = Path(__file__).with_name("sbom.cdx.json")
    if bill.is_file():
        named = with_system(json.loads(bill.read_text()), interpreter, [*libraries, _certificates()])
        (root / SBOM).parent.mkdir(parents=True)
        (root / SBOM).write_text(json.dumps(named, indent=2) + "\n")
    _settings(root)


def with_system(bill: dict[str, Any], interpreter: Path, files: Iterable[Path]) -> dict[str, Any]:
    """A CycloneDX document with a component for the interpreter, its standard library included, and one for each file
    of the system: SHA-256, and where the system's package manager (dpkg) knows the file, its package and version."""
    version = platform.python_version()
    python = {
        **_component("application", "cpython", interpreter, version),
        "cpe": f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*",
    }
    made = [python]
    for file in files:
        # A Python that was not installed as a package of the system brings its own library.
        own = version if file.name.startswith("libpython") else ""
        package, of_package, architecture = _package(file)
        component = _component("library", file.name, file, of_package or own)
        if package:
            name = f"{package}@{of_package.replace('+', '%2B').replace(':', '%3A')}"
            component["purl"] = f"pkg:deb/{_distribution()}/{name}?arch={architecture}"
            component["group"] = package
        made.append(component)
    return {**bill, "components": [*bill.get("components", ()), *made]}


def _component(kind: str, name: str, file: Path, version: str) -> dict[str, Any]:
    made: dict[str, Any] = {"bom-ref": f"file:{file}", "type": kind, "name": name}
    if version:
        made["version"] = version
    made["hashes"] = [{"alg": "SHA-256", "content": hashlib.sha256(file.read_bytes()).hexdigest()}]
    return made


def _package(file: Path) -> tuple[str, str, str]:
    """Package, version and architecture of a file by dpkg, each "" when it is of none."""
    if shutil.which("dpkg-query") is None:
        return "", "", ""
    # Where /lib is a link to /usr/lib, the package manager knows a file by one of both names.
    names = dict.fromkeys((str(file), str(file.resolve()), str(file).removeprefix("/usr")))
    for name in names:
        owner = _told("dpkg-query", "--search", name).partition(": ")[0]
        if owner and ", " not in owner and " " not in owner:
            package, _, rest = _told("dpkg-query", "-W", "-f=${Package} ${Version} ${Architecture}", owner).partition(
                " "
            )
            version, _, architecture = rest.partition(" ")
            return package, version, architecture
    return "", "", ""


def _told(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("ID", "linux")
    except OSError:
        return "linux"


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


def _certificates() -> Path:
    found = next((Path(place) for place in _WHERE_CERTIFICATES_ARE if Path(place).is_file()), None)
    if found is None:
        raise FileNotFoundError("no certificates on this system: install ca-certificates")
    return found


def _settings(root: Path) -> None:
    target = root / CERTIFICATES
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(_certificates(), target)
    (root / "etc/passwd").write_text(f"root:x:0:0::/:/none\nsecretbinding:x:{UID}:{UID}::/:/none\n")
    (root / "etc/group").write_text(f"root:x:0:\nsecretbinding:x:{UID}:\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files dns\n")
    for path in (root, *root.rglob("*")):
        if not path.is_symlink():
            # Readable by everybody, writable by root alone, whatever the builder's umask; no set-uid bits.
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)


if __name__ == "__main__":
    build(Path(sys.argv[1]), Path(sys.argv[2]))
