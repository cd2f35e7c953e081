"""What teachers cost a student's epoch: those that score each batch, against those that were asked once.

The student is that of the recipe `atypia` (ViT-S/14 with adapters, 98 px); its teachers are two networks of its own
kind and one EfficientNet-Lite0. Three loops of the same student take the same steps in turns, and are compared by the
medians of several rounds:

- *scored*: the three teachers score every batch, as the student sees it;
- *asked*: their answers are kept (`views: 8`), so a step looks them up;
- *alone*: the student without the term.

What asking costs, once, is measured too: eight views and three changes of stain of each figure, in epochs of the
student with teachers that score.

Predicted before the first run: scored/asked 1.7 (a step is three forward passes' worth for the student with its backward
pass, and one for each teacher of its kind), asked/alone 1.0; asking once, 32 forms of three teachers, 16 epochs. Came out, on one busy core: scored/asked 2.1 (462 and 219 ms a figure), asked/alone within the
noise, and asking once 12.5 epochs of the student whose teachers score.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from atypia.backbones.catalogue import BACKBONES
from atypia.methods.network import Network, NetworkSpec, build_network
from atypia.methods.options import Variants
from atypia.training.epochs.answers import forms
from atypia.training.epochs.loop import Loop
from atypia.training.epochs.objective import Objective
from atypia.training.epochs.teachers import Teacher
from atypia.training.networks import network_spec
from atypia.training.recipe import load_recipe
from atypia.training.schema import NetworkRecipe
from benchmarks.measuring import turns
from benchmarks.training import ROUNDS, STEPS, data, loop_steps, make_loop, ms_an_image

FORMS = Variants(8, 3)
TERM = "terms.distillation"


def recipe(*changes: str) -> NetworkRecipe:
    """The student's recipe, in full precision, with three teachers."""
    teachers = f'{TERM}.teachers=["a", "b", "c"]'
    found = load_recipe("atypia", ["precision=fp32", "decision=null", teachers, f"{TERM}.draw=null", *changes])[1]
    assert isinstance(found, NetworkRecipe)
    return found


def teachers(student: NetworkSpec) -> list[Network]:
    """Two networks of the student's kind and one other, untrained: their time does not depend on what they know."""
    other = NetworkSpec("efficientnet-lite0", 128, "full", view=student.view)
    return [build_network(spec, pretrained=spec is not other).merged().eval() for spec in (student, student, other)]


def measure() -> dict[str, Any]:
    """Milliseconds a figure, and ratios."""
    manifest = data()
    scored, asked = recipe(), recipe(f"{TERM}.views=8")
    alone = recipe("terms=[]")
    student = network_spec(scored)
    networks = teachers(student)
    live = [Teacher(network, BACKBONES[scored.backbone]).eval() for network in networks]
    told = {"distillation": torch.randn(len(manifest))}
    with TemporaryDirectory() as folder:
        loops: dict[str, Loop] = {}
        for name, made in (("scored", scored), ("asked", asked), ("alone", alone)):
            objective = Objective(
                made, networks[0].encoder.feature_dim, 1, live if name == "scored" else (), answers=told
            )
            loops[name] = make_loop(made, manifest, Path(folder), objective=objective)
        feed = loops["scored"].plan.feed
        rows = np.arange(8)

        def ask() -> None:
            with torch.inference_mode():
                for form in forms(np.array(feed.crops[rows]), FORMS):
                    images = torch.from_numpy(form).permute(0, 3, 1, 2).float().div_(255)
                    for teacher in live:
                        teacher(feed.normalised(feed.frame.cut(images)))

        size = STEPS * scored.batch_size
        times = turns.in_turns({name: loop_steps(loop) for name, loop in loops.items()}, ROUNDS)
        ms = {name: 1e3 * seconds / size for name, seconds in turns.medians(times).items()}
        once = ms_an_image({"once": ask}, len(rows))["once"]
    return {
        "threads": torch.get_num_threads(),
        **{f"{name}_ms": round(value, 2) for name, value in ms.items()},
        "scored_to_asked": round(ms["scored"] / ms["asked"], 2),
        "asked_to_alone": round(ms["asked"] / ms["alone"], 2),
        "asking_once_ms": round(once, 2),
        "epochs_that_asking_costs": round(once / ms["scored"], 1),
        "pairs": {
            "distillation: teachers asked once, against scoring each batch": turns.pairs(
                times["scored"], times["asked"]
            )
        },
    }
