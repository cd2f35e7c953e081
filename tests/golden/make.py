"""Makes the golden files of this version: one small example of every format that Atypia writes.

::

    python -m tests.golden.make

writes ``tests/golden/vMAJOR.MINOR/`` from the installed code, and refuses where that folder is there: what a
release wrote is never written again. Run it once when a release is tagged, read the report of sizes, and commit
the folder. ``test_golden.py`` then opens it, beside those of all earlier releases, by the code of its day; a
format that is new needs a reader in ``reading.py`` first.

Everything is made in one fixed folder, :data:`WORK`, so that paths which a format keeps name no machine. What
names one by its nature (host, process, platform) is replaced at the end. Networks are the tiny ones of the
catalogue; weights of the whole ones are rounded to three levels, so that they pack into a few kB (``.xz``; the
tests unpack them); files of the same bytes are kept once. All figures are phantom figures.
"""

from __future__ import annotations

import json
import lzma
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from .inputs import LORA, PROBE, SIDE, STUDY, coarse, every_key, make_data
from .reading import EXPECTED, READERS, SAME, as_json, unpacked

HERE = Path(__file__).parent
WORK = Path("/tmp/atypia-golden")
LIMIT_BYTES = 350_000
PACKED_FROM = 3_000
"""Files above this size are kept as ``.xz``, where that saves a sixth."""
OF_FLOATS = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "lc": 0, "lp": 2, "pb": 2}
OF_BYTES = {"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}
NEVER_PACKED = (".csv", ".png", ".yaml")
"""What people write, and what is packed already."""
HOST = "golden"
SAME_FROM = 1_000
"""Of files with the same bytes above this size one is kept; :data:`.reading.SAME` names which, for each that is not."""


def atypia(*words: str) -> None:
    """One command in the working folder."""
    print("$ atypia", *words, flush=True)
    subprocess.run([sys.executable, "-m", "atypia.cli.main", *words], cwd=WORK, check=True)


def write_yaml(path: Path, values: Any) -> Path:
    """A YAML file with the keys in their order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(values, sort_keys=False, allow_unicode=True), "utf-8")
    return path


def make_tables() -> None:
    """``manifest``, ``split`` and ``store``: what is derived of figures."""
    from atypia.data.crops.store import open_store
    from atypia.data.images.geometry import CropGeometry
    from atypia.data.sources.opening import open_data

    manifest = open_data("data/crops/crops.csv")
    manifest.save(WORK / "manifest/figures.parquet")
    atypia("data", "split", "data/crops/crops.csv", "--protocol", "official", "--protocol-set", "folds=2",
           "--out", "split/official.json")  # fmt: skip
    other = open_data("data/elsewhere/elsewhere.csv")
    store = open_store(other, CropGeometry(SIDE))
    shutil.copytree(store.path, WORK / "store" / store.path.name)


def make_written() -> None:
    """``recipe``, ``generator-recipe`` and ``study-file``: what people write."""
    for name, values in every_key().items():
        write_yaml(WORK / name, values)
    write_yaml(WORK / "recipe/probe.yaml", PROBE)
    write_yaml(WORK / "recipe/lora.yaml", LORA)
    write_yaml(WORK / "study-file/golden.yaml", STUDY)


# What is trained ------------------------------------------------------------------------------


def make_trainings() -> None:
    """``training`` and ``study``: complete folders, with one run of the study failed and one left by a dead process."""
    for name in ("probe", "lora"):
        fold = ("--fold", "fold-1") if name == "lora" else ()
        atypia("train", f"recipe/{name}.yaml", "--data", "data/crops/crops.csv", "--protocol", "official",
               "--protocol-set", "folds=2", "--out", f"training/{name}", *fold)  # fmt: skip
    atypia("evaluate", "training/probe", "--on", "data/elsewhere/elsewhere.csv")
    atypia("study", "run", "study-file/golden.yaml", "--out", "study", "--engine", "inline")
    atypia("study", "report", "study-file/golden.yaml", "--out", "study")
    atypia("synth", "train", str(write_generator()), "--data", "data/crops/crops.csv", "--protocol", "kfold",
           "--protocol-set", "folds=2", "--fold", "fold-1", "--out", "generator", "--device", "cpu")  # fmt: skip
    atypia("synth", "sample", "generator/fold-1", "--out", "samples", "--atypical", "3", "--normal", "2",
           "--steps", "4", "--device", "cpu")  # fmt: skip


def write_generator() -> Path:
    """The smallest generator that there can be."""
    part = {"epochs": 1, "batch_size": 8, "lr": 0.003}
    values = {
        "summary": "the smallest generator",
        "geometry": {"out_px": 16},
        "autoencoder": {"channels": [4, 4], "groups": 4, "latent_channels": 2},
        "denoiser": {"layers": 1, "heads": 1, "head_dim": 8, "patch": 4},
        "diffusion": {"steps": 10, "ema": 0.5},
        "pretrain": {"autoencoder": part, "denoiser": part},
        "finetune": {"autoencoder": {"epochs": 0}, "denoiser": {**part, "balanced": True}},
        "turns": False,
        "precision": "fp32",
    }
    write_yaml(WORK / "generator-recipe/smallest.yaml", values)
    return Path("generator-recipe/smallest.yaml")


def make_classifiers() -> None:
    """``bundle`` and ``openvino``: a whole network with its ONNX form inside; trainings hold the other kinds."""
    whole_network().save(WORK / "bundle")
    atypia("export", "bundle", "--to", "onnx", "--out", "bundle/model.onnx")
    atypia("export", "bundle", "--to", "openvino", "--out", "openvino")


def whole_network() -> Any:
    """A whole tiny network with a fitted decision; its weights are 0 but for a few in a hundred, so it packs."""
    import torch

    from atypia.data.crops.store import open_store
    from atypia.data.images.geometry import CropGeometry
    from atypia.data.sources.opening import open_data
    from atypia.inference.bundles.bundle import Bundle
    from atypia.inference.bundles.decision import Decision, fit_decision
    from atypia.inference.runtimes.torch_runtime import TorchRuntime
    from atypia.methods.network import NetworkSpec, build_network

    manifest = open_data("data/crops/crops.csv")
    crops = np.array(open_store(manifest, CropGeometry(SIDE)).crops)
    spec = NetworkSpec("tiny-cnn", 32, "full")
    network = build_network(spec)
    with torch.no_grad():
        for value in network.parameters():
            if value.ndim > 1:
                size = value.abs().flatten(1)
                level = size.flatten().quantile(0.98)
                kept = (size >= level) | (size == size.max(1, keepdim=True).values)  # something for each output
                value.copy_(value.sign() * level * kept.reshape(value.shape))
        side = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 127.5 - 1
        network.train()
        side = torch.nn.functional.interpolate(side, size=32)
        for _ in range(40):  # running statistics, so that the signal is alive at the end
            network(side)
        pooled = network.eval()(side).pooled
        atypical = torch.from_numpy(np.asarray(manifest.labels) == 1)
        apart = pooled[atypical].mean(0) - pooled[~atypical].mean(0)
        apart *= 2 / (pooled @ apart).std()
        state = network.state_dict()
        state["head.weight"].copy_(apart[None])
        state["head.bias"].copy_(-(pooled @ apart).mean()[None])
        for value in network.state_dict().values():
            if value.is_floating_point():  # half of the bits are 0
                value.copy_(value.bfloat16())
    tensors = {name: value.numpy() for name, value in network.trained_state().items()}

    def bundle(decision: Decision) -> Bundle:
        return Bundle("golden-full", "atypical", "full", "tiny-cnn", None, 32, CropGeometry(SIDE), tensors, decision,
                      spec.as_dict(), {"recipe": "none: made by tests/golden"}, round(0.25 * 64, 4))  # fmt: skip

    logits, features = TorchRuntime(bundle(Decision(0.5))).run(crops)
    train, val = np.arange(0, len(crops), 2), np.arange(1, len(crops), 2)
    labels = np.asarray(manifest.labels)
    return bundle(
        fit_decision(
            logits[val], labels[val], features[train], labels[train], features[val], coverage=0.8, components=2
        )
    )


# What is predicted and decided ----------------------------------------------------------------


def make_results() -> None:
    """``predictions`` and ``slides``: results of `atypia predict` in every form, the case summary, many slides."""
    for form, summary in (("csv", "json"), ("parquet", "md"), ("json", "csv"), ("jsonl", "tex"), ("geojson", "txt")):
        atypia("predict", "data/slide.png", "--points", "data/points.csv", "--mpp", "0.5", "--model", "bundle",
               "--out", f"predictions/slide.{form}", "--summary", f"predictions/summary.{summary}")  # fmt: skip
    for form in ("csv", "parquet"):
        atypia("predict", "data/elsewhere", "--model", "bundle", "--out", f"predictions/crops.{form}")
    (WORK / "data/slides.csv").write_text(
        "slide,points,name,mpp\nslide.png,points.csv,,0.5\nslide.png,points.csv,finer,0.25\n"
        "slide.png,absent.csv,broken,0.5\n",
        "utf-8",
    )
    try:
        atypia("predict", "--slides", "data/slides.csv", "--model", "bundle", "--out", "slides",
               "--form", "parquet", "--form", "csv", "--workers", "1")  # fmt: skip
    except subprocess.CalledProcessError as error:
        if error.returncode != 1:  # 1: the slide whose points are absent
            raise


def make_slide() -> None:
    """``data/slide.png``, four crops beside each other, and positions on it; one lies outside."""
    from PIL import Image

    slide = Image.new("RGB", (96, 96), (232, 216, 232))
    for index, path in enumerate(sorted((WORK / "data/elsewhere").glob("*.png"))[:4]):
        with Image.open(path) as crop:
            slide.paste(crop.resize((48, 48)), (index % 2 * 48, index // 2 * 48))
    slide.point(coarse).save(WORK / "data/slide.png", optimize=True)
    (WORK / "data/points.csv").write_text(
        "figure_id,x_px,y_px\na,24,24\nb,72,24\nc,24,72\nd,72,72\ne,300,10\n", "utf-8"
    )


def make_decisions() -> None:
    """``decisions``: what two raters decided, took back and settled, and its exports."""
    from atypia.review.decisions.exchange import decisions_csv, log_csv
    from atypia.review.figures.opening import Opening, open_figures
    from atypia.review.server.context import Review

    figures = open_figures(Opening(("predictions/crops.parquet",), data="data/elsewhere/elsewhere.csv"))
    folder = WORK / "decisions"
    folder.mkdir()
    review = Review(figures, folder / "decisions.sqlite")
    try:
        intake = review.intake
        intake.join("Ada")
        intake.join("Ben")
        intake.decide("Ada", 0, "atypical", "a bridge")
        intake.decide("Ada", 1, "normal")
        intake.decide("Ada", 2, "unsure")
        intake.decide("Ada", 3, "not-mitosis", "pyknotic")
        intake.decide("Ada", 4, "normal")
        intake.undo("Ada")
        intake.decide("Ben", 0, "normal")
        intake.decide("Ben", 1, "normal")
        intake.decide("Ben", 2, "atypical")
        intake.decide("Ben", 2, None)
        intake.decide("Ben", 0, "atypical", "settled together", arbitrate=True)
        intake.take_over("Ben", [(figures.id(5), "atypical", "from a file", None)])
        intake.decide("Ada", 5, "atypical", tags=["lagging", "bridge"])
        intake.decide_several("Ada", [6, 7], "normal")
        intake.assign("Ada", [6], ["Ben"])
        (folder / "decisions.csv").write_text(decisions_csv(intake), "utf-8")
        (folder / "log.csv").write_text(log_csv(intake), "utf-8")
    finally:
        review.close()


# The folder -----------------------------------------------------------------------------------

FORMATS = (
    "data", "manifest", "split", "store", "recipe", "generator-recipe", "study-file", "training", "study", "bundle",
    "openvino", "predictions", "slides", "decisions", "generator", "samples",
)  # fmt: skip
DROPPED = ("*.lock", ".*", "*.sqlite-wal", "*.sqlite-shm", "tensorboard", "report", "sheets")
"""Locks, leftovers, pages and pictures, which nothing reads again."""


def anonymous() -> None:
    """Replaces what names a machine or a process: in environments, events and claims."""
    for path in [*WORK.rglob("environment.json"), *(WORK / "store").rglob("meta.json"), WORK / "study/findings.json"]:
        text = path.read_text("utf-8").replace(platform.platform(), "Linux")
        path.write_text(text.replace(json.dumps(os.uname().nodename), json.dumps(HOST)), "utf-8")
    for path in (WORK / "study").rglob("events.jsonl"):
        lines = [{**json.loads(line), "host": HOST, "pid": 1} for line in path.read_text("utf-8").splitlines()]
        path.write_text("".join(json.dumps(line, sort_keys=True) + "\n" for line in lines), "utf-8")


def leave_two_behind() -> None:
    """Makes one complete run of the study a failed one, and another one that a process of another machine holds."""
    from atypia.studies.ledger import Ledger
    from atypia.studies.plan import Plan

    plan, ledger = Plan.load(WORK / "study"), Ledger(WORK / "study")
    failed, held = plan.runs[-2].id, plan.runs[-1].id
    for run in (failed, held):
        for path in ledger.folder(run).iterdir():
            if path.name != "events.jsonl":
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    ledger.fail(failed, "the disk is full; fix: free some space", "Traceback: none")
    claim = {"token": "0" * 32, "host": HOST, "pid": 1, "born": "1"}
    (ledger.folder(held) / "claim.json").write_text(json.dumps(claim), "utf-8")


def collect(version: Path) -> None:
    """Copies what was made into the version's folder, large weights packed."""
    part = version.with_name(f".{version.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for name in FORMATS:
        shutil.copytree(WORK / name, part / name, ignore=shutil.ignore_patterns(*DROPPED))
    for path in sorted(part.rglob("*")):
        if path.is_file() and path.suffix not in NEVER_PACKED and path.stat().st_size > PACKED_FROM:
            filters = OF_FLOATS if path.suffix in (".safetensors", ".onnx", ".bin") else OF_BYTES
            packed = lzma.compress(path.read_bytes(), filters=[filters])
            if len(packed) < path.stat().st_size * 5 / 6:
                path.with_name(path.name + ".xz").write_bytes(packed)
                path.unlink()
    same: dict[str, str] = {}
    first: dict[bytes, str] = {}
    for path in sorted(path for path in part.rglob("*") if path.is_file() and path.stat().st_size > SAME_FROM):
        name = path.relative_to(part).as_posix()
        if first.setdefault(path.read_bytes(), name) != name:
            same[name] = first[path.read_bytes()]
            path.unlink()
    (part / SAME).write_text(json.dumps(same, indent=1) + "\n", "utf-8")
    part.rename(version)


def expect(version: Path) -> None:
    """Writes what must be read from each format, by the readers of the tests."""
    target = unpacked(version, WORK / "read")
    os.chdir(target)
    os.environ["ATYPIA_CACHE"] = str(WORK / "read-cache")
    found = {name: as_json(READERS[name]()) for name in FORMATS}
    text = json.dumps(found, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    (version / f"{EXPECTED}.xz").write_bytes(lzma.compress((text + "\n").encode(), filters=[OF_BYTES]))


def check(version: Path) -> None:
    """Reports sizes; fails where the folder is too large or names this machine."""
    files = [path for path in sorted(version.rglob("*")) if path.is_file()]
    for name in FORMATS:
        print(f"{sum(p.stat().st_size for p in files if p.is_relative_to(version / name)):8,} {name}")
    total = sum(path.stat().st_size for path in files)
    names = {str(Path.home()), str(HERE), os.uname().release, json.dumps(os.uname().nodename)}
    found = [f"{path}: {name}" for path in files for name in names if name.encode() in content(path)]
    assert not found, found
    print(f"{total:8,} bytes in {len(files)} files")
    assert total < LIMIT_BYTES


def content(path: Path) -> bytes:
    """The bytes of a file as it was before it was packed."""
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def main() -> None:
    """Makes the folder of the installed version."""
    from importlib.metadata import version as installed

    major, minor, *_ = installed("atypia").split(".")
    version = HERE / f"v{major}.{minor}"
    if version.exists():
        sys.exit(f"{version} is there: golden files of a release are never made again")
    if WORK.exists():
        sys.exit(f"{WORK} is there; fix: remove it")
    WORK.mkdir()
    os.chdir(WORK)
    os.environ["ATYPIA_HOME"] = str(WORK / "home")
    os.environ.pop("ATYPIA_CACHE", None)
    make_data(WORK)
    for step in (make_written, make_tables, make_trainings, make_classifiers, make_slide, make_results, make_decisions,
                 leave_two_behind, anonymous):  # fmt: skip
        print(f"-- {step.__name__}", flush=True)
        step()
    collect(version)
    expect(version)
    check(version)


if __name__ == "__main__":
    main()
