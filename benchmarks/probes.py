"""Probes: from image files to the table, cold and warm; and what features computed once save.

**End to end.** The two commands of the README, ``atypia train probe …`` and ``atypia evaluate …``,
as processes: once with an empty home (cold: crop stores, features and everything else are made),
then several times with what the first left and a new output folder (warm). Seconds of processor
time are given beside the wall's: they tell what the wall would show on cores that nothing else uses.

**Work.** Probes of all folds with their inner cross-validation, plus one pass of the backbone over
every crop, against the published way of probing: the frozen backbone runs over the training crops in
every one of 100 epochs of every fold. The forward pass is measured on a subsample in the same run
and multiplied by the number of crops; its backward pass and the head's updates are left out, in
favour of the published way. All in seconds of processor time.

**Solver.** Strengths and inner folds of one fold solved together, against scikit-learn's L-BFGS one
by one on the same standardised problems (the first inner fold only), seconds a problem.

Real AMi-Br and AtNorM-Br are used where the data folder holds them, else a phantom set.

Predicted before the first run, for two idle cores with AMi-Br and EfficientNet-Lite0 at 128 px:
cold 40 s, warm 6 s, work ratio 250, solver ratio 20. Found with other work on both cores (load 4.9,
no compiled bytecode): cold 140 s of the wall for 76 s of processor time, warm 11.2 s for 7.9 s, of
which the probes 2.1 s; work ratio 286; solver ratio 2.8. The last was predicted much too high:
scikit-learn needs few steps as well at the great strengths, and what solving together saves in
passes over the features it spends in part on element-wise work that grows with the problems.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measuring import turns

BACKBONE = "efficientnet-lite0"
TRAINED, OTHER = "ami-br", "atnorm-br"
WARM_RUNS, SOLVER_ROUNDS = 3, 5
PUBLISHED_EPOCHS = 100
FORWARD_CROPS = 512
PHANTOM_CROPS = 2000


def measure(warm_runs: int = WARM_RUNS) -> dict[str, Any]:
    """Runs the three measurements.

    Args:
        warm_runs: Warm runs, of which the median is taken.

    Returns:
        JSON-like figures; seconds of the wall end in ``_s``, seconds of processor time in ``_cpu_s``.
    """
    with tempfile.TemporaryDirectory(prefix="atypia-bench-") as name:
        base = Path(name)
        kind, trained, other = _data(base)
        found: dict[str, Any] = {"data": kind, "load_before": os.getloadavg()[0]}
        before = {key: os.environ.get(key) for key in ("ATYPIA_HOME", "ATYPIA_CACHE")}
        os.environ["ATYPIA_HOME"] = str(base / "home")
        os.environ.pop("ATYPIA_CACHE", None)
        try:
            found |= _end_to_end(base, trained, other, warm_runs)
            return found | _work(trained, base)
        finally:
            for key, value in before.items():
                os.environ.pop(key, None) if value is None else os.environ.update({key: value})


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """What people read."""
    yield f"{BACKBONE} on {found['data']}: {found['crops']:,} crops, {found['folds']} folds, {found['dim']} features a crop"
    yield f"load before: {found['load_before']:.1f}"
    for state in ("cold", "warm"):
        yield (
            f"  {state}: train {found[f'{state}_train_s']:.1f} s + evaluate {found[f'{state}_evaluate_s']:.1f} s "
            f"= {found[f'{state}_s']:.1f} s ({found[f'{state}_cpu_s']:.1f} s of processor time)"
        )
    yield (
        f"  probes of all folds on stored features: {found['fit_s']:.2f} s ({found['fit_cpu_s']:.2f} s of processor time)"
    )
    yield f"  frozen forward pass: {1000 * found['forward_cpu_s']:.2f} ms of processor time a crop, measured"
    yield f"  × {found['crops']:,} crops + probes: {found['once_cpu_s']:,.1f} s"
    yield (
        f"  × {found['training_crops']:,} training crops of all folds × {PUBLISHED_EPOCHS} epochs: "
        f"{found['every_epoch_cpu_s']:,.0f} s (multiplied, not run)"
    )
    yield f"  work ratio: {found['work_ratio']:.0f}"
    yield (
        f"  solver: {1000 * found['solve_cpu_s']:.1f} ms a problem ({found['solved']} together), scikit-learn "
        f"{1000 * found['sklearn_cpu_s']:.1f} ms ({found['sklearn_solved']} one by one): ratio {found['solver_ratio']:.1f}; "
        f"greatest difference of objectives {found['objective_gap']:.1e}"
    )


def _data(base: Path) -> tuple[str, str, str]:
    """Whether real or phantom, and what to train on and to evaluate on."""
    from atypia.data.sources.opening import source_folder

    if all(source_folder(name, None) is not None for name in (TRAINED, OTHER)):
        return TRAINED, TRAINED, OTHER
    from atypia.data.phantom.dataset import write_phantom
    from atypia.data.phantom.domains import DOMAINS

    names = list(DOMAINS)
    write_phantom(base / "training", PHANTOM_CROPS, 0, domains=names[:-1])
    write_phantom(base / "elsewhere", PHANTOM_CROPS // 4, 1, domains=names[-1:])
    return "phantom", str(base / "training"), str(base / "elsewhere")


def _end_to_end(base: Path, trained: str, other: str, warm_runs: int) -> dict[str, float]:
    runs = [_commands(base / f"run-{number}", trained, other) for number in range(1 + warm_runs)]
    found = {f"cold_{key}": value for key, value in runs[0].items()}
    return found | {f"warm_{key}": statistics.median(run[key] for run in runs[1:]) for key in runs[0]}


def _commands(out: Path, trained: str, other: str) -> dict[str, float]:
    """Seconds of the two commands."""
    train = ["train", "probe", "--data", trained, "--protocol", "official", "--backbone", BACKBONE, "--out", str(out)]
    used = _children_cpu()
    seconds = [_timed(lambda words=words: _atypia(*words)) for words in (train, ["evaluate", str(out), "--on", other])]
    return {
        "train_s": seconds[0],
        "evaluate_s": seconds[1],
        "s": sum(seconds),
        "cpu_s": _children_cpu() - used,
    }


def _atypia(*words: str) -> None:
    code = "import sys; from atypia.cli.main import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"atypia {' '.join(words)} failed: {done.stderr[-2000:]}")


def _work(trained: str, base: Path) -> dict[str, Any]:
    """Probes on stored features, the frozen forward pass, and the solver beside scikit-learn."""
    from atypia.backbones.features import open_features
    from atypia.data.crops.store import open_store
    from atypia.data.sources.opening import open_data
    from atypia.methods.catalogue import PROBES
    from atypia.methods.head import FeatureRows
    from atypia.splits.protocol import make_split
    from atypia.training.recipe import load_recipe
    from atypia.training.trainer import stored_labels

    _, recipe = load_recipe("probe", [f"backbone={BACKBONE}"])
    manifest = open_data(trained)
    store = open_store(manifest, recipe.geometry.build())
    features = np.asarray(open_features(store, BACKBONE).values)
    split = make_split("official", manifest, 0)
    folds = [FeatureRows(manifest.rows_of(fold.train), manifest.rows_of(fold.val)) for fold in split.folds]
    labels, cases, probe = stored_labels(manifest), manifest.cases, PROBES["atypia"]
    options = probe.parse_options({})

    used = time.process_time()
    fit_s = _timed(lambda: probe.fit_folds(features, labels, cases, folds, 0, options))
    fit_cpu = time.process_time() - used

    some = np.linspace(0, len(manifest) - 1, min(FORWARD_CROPS, len(manifest)), dtype=np.int64)
    part_store = open_store(manifest.take(some), recipe.geometry.build())
    open_features(open_store(manifest.take(some[:8]), recipe.geometry.build()), BACKBONE)  # imports, outside the clock
    used = time.process_time()
    open_features(part_store, BACKBONE, cache=base / "forward")
    forward_cpu = (time.process_time() - used) / len(some)

    once = forward_cpu * len(manifest) + fit_cpu
    training = sum(len(fold.train) for fold in folds)
    every = forward_cpu * training * PUBLISHED_EPOCHS
    return {
        "crops": len(manifest),
        "dim": features.shape[1],
        "folds": len(folds),
        "training_crops": training,
        "fit_s": fit_s,
        "fit_cpu_s": fit_cpu,
        "forward_cpu_s": forward_cpu,
        "once_cpu_s": once,
        "every_epoch_cpu_s": every,
        "work_ratio": every / once,
        **_solver(features, labels, cases, folds[0].train, options.strengths),
    }


def _solver(features: Any, labels: Any, cases: Any, rows: Any, strengths: tuple[float, ...]) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    from atypia.methods.head import balanced_weights
    from atypia.methods.logistic import Preconditioner, solve
    from atypia.methods.probes.atypia import INNER_TOLERANCE, inner_folds

    x, y = features[rows].astype(np.float32), labels[rows]
    inner = inner_folds(y, cases[rows], 5, 0, "benchmark")
    weights = np.zeros((inner.max() + 1, len(y)))
    for part in range(len(weights)):
        weights[part, inner != part] = balanced_weights(y[inner != part])
    lambdas = np.tile(np.array(strengths, dtype=np.float32), len(weights))
    together, one_by_one, gaps = [], [], []
    with threadpool_limits(1, user_api="blas"):
        inside = inner != 0
        z = x[inside]
        z = (z - z.mean(0)) / np.maximum(z.std(0), 1e-6)
        w = weights[0, inside]
        for _ in range(SOLVER_ROUNDS):
            used = time.process_time()
            solution = solve(x, y, np.repeat(weights, len(strengths), axis=0), lambdas,
                             tolerance=INNER_TOLERANCE, preconditioner=Preconditioner(x))  # fmt: skip
            together.append((time.process_time() - used) / len(lambdas))
            used, gaps = time.process_time(), []
            for k, strength in enumerate(strengths):
                model = LogisticRegression(C=1 / (strength * w.sum()), max_iter=1000)
                t = model.fit(z, y[inside], sample_weight=w).decision_function(z).astype(np.float64)
                loss = (w * (np.logaddexp(0, t) - y[inside] * t)).sum() / w.sum()
                value = loss + strength / 2 * float((model.coef_.astype(np.float64) ** 2).sum())
                gaps.append(abs(value - float(solution.objective[k])))
            one_by_one.append((time.process_time() - used) / len(strengths))
    ratios = turns.pairs(one_by_one, together)
    return {
        "solved": len(lambdas),
        "sklearn_solved": len(strengths),
        "solve_cpu_s": statistics.median(together),
        "sklearn_cpu_s": statistics.median(one_by_one),
        "solver_ratio": statistics.median(ratios),
        "pairs": {"probes: solving together, against scikit-learn one by one": ratios},
        "objective_gap": max(gaps),
    }


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
