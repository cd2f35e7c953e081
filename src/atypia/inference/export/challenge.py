"""Export as a challenge container: a folder from which an image for MIDOG 2025, track 2, is built.

The folder holds all that the image needs: the exported network, this package as a wheel, the pinned
versions of the few packages that predicting takes, the entry point and a Dockerfile. Packages are
installed when the image is built; the container itself needs no network and no GPU.
"""

from __future__ import annotations

import json
import math
import platform
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from atypia.base.artifacts import atomic_folder, write_json
from atypia.base.version import VERSION
from atypia.inference.export.openvino import check_replaceable
from atypia.inference.runtimes.catalogue import ONNX_FILE

SLUG: Final = "stacked-histopathology-roi-cropouts"
"""The interface's name of the input."""
ANSWER_FILE: Final = "multiple-mitotic-figure-classification.json"
"""The interface's name of the answer."""
PACKAGES: Final = ("filelock", "numpy", "onnxruntime", "pillow", "platformdirs", "safetensors")
"""Distributions that predicting from a stack imports; a test compares them with what is imported."""
MODEL_FOLDER: Final = "model"
ENTRY_FILE: Final = "inference.py"
EXAMPLE_FOLDER: Final = "example"
EXAMPLE_PAGES: Final = 8
EXAMPLE_PX: Final = 128
EXAMPLE_SEVERITY: Final = 0.9
FILES: Final = ("Dockerfile", "README.md", "requirements.txt", ENTRY_FILE, MODEL_FOLDER, EXAMPLE_FOLDER)
LIGHT_BYTES: Final = 200_000_000
COPIES: Final = 2
"""A network's bytes are held as they were compared with their hash, and once more as the runtime lays them out."""
EPOCH: Final = (1980, 1, 1, 0, 0, 0)
"""Time of every file in the wheel, so that equal code gives equal bytes."""

DOCKERFILE = """\
# MIDOG 2025, track 2: classifies a stack of mitotic figures as normal or atypical.
FROM --platform=linux/amd64 python:{python}-slim

ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
RUN groupadd --system user && useradd --system --create-home --gid user user

WORKDIR /opt/app
COPY requirements.txt {wheel} ./
RUN pip install --no-cache-dir --requirement requirements.txt \\
    && pip install --no-cache-dir --no-deps {wheel} \\
    && rm {wheel}
COPY {model} {model}
COPY {entry} .

USER user
ENTRYPOINT ["python", "{entry}"]
"""

ENTRY = '''\
"""Entry point of the container: /input to /output, with the network, or several, beside this file."""

import sys
from pathlib import Path

from atypia.challenge import main

HERE = Path(__file__).parent
MODELS = {models}

if __name__ == "__main__":
    chosen = [part for model in MODELS for part in ("--model", str(HERE / model))]
    sys.exit(main(["--input", "/input", "--output", "/output", *chosen, *sys.argv[1:]]))
'''

README = """\
# {name}: a container for MIDOG 2025, track 2

Reads `/input/inputs.json` and one multi-page TIFF below `/input/images/{slug}/`, and writes
`/output/{answer}`: for each page, in order, its class (`normal` or `atypical`) and the
probability of *atypical* as `confidence`{mean}. A figure is called atypical where that reaches {threshold:.4g}.

Build, try and save the image, in this folder; `{example}/` is an input of {pages} rendered figures, which stand for no patient:

```console
$ docker build --tag {tag} .
$ mkdir -m 777 ../answer
$ docker run --rm --network none --volume "$PWD/{example}:/input:ro" --volume "$PWD/../answer:/output" {tag}
$ docker save {tag} | gzip > {tag}.tar.gz
```

The container runs as a user without rights, who must be able to write the output folder (hence `-m 777`); it needs no
network, no GPU and about {memory} of memory.

The same without Docker, where `atypia` is installed:

```console
$ python -m atypia.challenge --input {example} --output ../answer {options}
```

Exit codes: 0 done; 1 work that failed; 2 input that cannot be used. The reason is on standard error, and no
answer is written then.

Research use only; not a medical device.
"""


def write_challenge(
    network: bytes | Path, name: str, threshold: float, folder: Path, members: Sequence[str] = ()
) -> Path:
    """Writes the folder of a container.

    Args:
        network: An exported ONNX network that carries its configuration; or a folder whose files are moved into the
            container's: ``model.onnx``, and what it reads its weights from; with ``members`` one such folder each.
        name: The classifier's, for the image's tag and the README.
        threshold: At which probability it calls a figure atypical, for the README.
        folder: Folder to write; an earlier export there is replaced.
        members: Names of the folders of networks whose probabilities are averaged; none for one network.

    Raises:
        InputError: The folder holds something else.
    """
    wheel = wheel_name()
    check_replaceable(folder, replaceable(folder))
    tag = "atypia-" + "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower()).strip("-")
    models = [f"{MODEL_FOLDER}/{member}" for member in members] or [MODEL_FOLDER]
    with atomic_folder(folder) as part:
        if isinstance(network, Path):
            shutil.move(network, part / MODEL_FOLDER)
        else:
            (part / MODEL_FOLDER).mkdir()
            (part / MODEL_FOLDER / ONNX_FILE).write_bytes(network)
        size = sum(file.stat().st_size for file in (part / MODEL_FOLDER).rglob("*") if file.is_file())
        facts = {
            "python": ".".join(platform.python_version_tuple()[:2]), "wheel": wheel, "model": MODEL_FOLDER,
            "entry": ENTRY_FILE, "name": name, "threshold": threshold, "slug": SLUG, "answer": ANSWER_FILE, "tag": tag,
            "models": json.dumps(models), "options": " ".join(f"--model {shlex.quote(model)}" for model in models),
            "example": EXAMPLE_FOLDER, "pages": EXAMPLE_PAGES,
            "mean": f", the mean of {len(models)} networks" if members else "",
            "memory": f"{1 + math.ceil(COPIES * size / 1e9) if size > LIGHT_BYTES else 1} GB",
        }  # fmt: skip
        (part / "Dockerfile").write_text(DOCKERFILE.format(**facts), "utf-8")
        (part / ENTRY_FILE).write_text(ENTRY.format(**facts), "utf-8")
        (part / "README.md").write_text(README.format(**facts), "utf-8")
        (part / "requirements.txt").write_text(requirements(), "utf-8")
        write_example(part / EXAMPLE_FOLDER)
        write_wheel(part / wheel)
    return folder


def write_example(folder: Path) -> Path:
    """Writes an input as the challenge mounts it, of rendered figures: a stack of crops and ``inputs.json``."""
    from PIL import Image

    from atypia.inference.runtimes.graph import rendered_crops

    place = f"images/{SLUG}"
    interface = {"slug": SLUG, "kind": "Image", "super_kind": "Image", "relative_path": place}
    (folder / place).mkdir(parents=True)
    write_json(folder / "inputs.json", [{"interface": interface}])
    pages = [Image.fromarray(crop) for crop in rendered_crops(EXAMPLE_PX, EXAMPLE_PAGES, EXAMPLE_SEVERITY)]
    pages[0].save(folder / place / "rendered.tiff", save_all=True, append_images=pages[1:])
    return folder


def replaceable(folder: Path) -> tuple[str, ...]:
    """Names in a folder that are an earlier export's, whatever version wrote it."""
    return (*FILES, *(path.name for path in folder.glob("atypia-*.whl")))


def requirements() -> str:
    """The pinned versions of :data:`PACKAGES`, as they are installed here."""
    from importlib.metadata import version

    return "".join(f"{package}=={version(package)}\n" for package in PACKAGES)


def wheel_name() -> str:
    """File name of this package's wheel."""
    return f"atypia-{VERSION}-py3-none-any.whl"


def write_wheel(path: Path) -> Path:
    """Packs this package's modules, as they are installed here, into a wheel (PEP 427).

    It holds code alone: none of the package's dependencies, tables, recipes or trained models.

    Args:
        path: File to write; its name must be :func:`wheel_name`.
    """
    import zipfile

    root = Path(__file__).parents[2]
    sources = sorted(source for source in root.rglob("*.py") if "__pycache__" not in source.parts)
    files = {f"atypia/{source.relative_to(root).as_posix()}": source.read_bytes() for source in sources}
    info = f"atypia-{VERSION}.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: atypia\nVersion: {VERSION}\n".encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: atypia\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    lines = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in files.items()]
    files[f"{info}/RECORD"] = ("\n".join([*lines, f"{info}/RECORD,,"]) + "\n").encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return path


def _digest(data: bytes) -> str:
    import base64
    import hashlib

    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
