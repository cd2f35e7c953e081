"""``atypia demo``: an honest benchmark table in a few minutes, on real crops where they are on disk."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atypia.cli.console import bars, note, warn
from atypia.cli.options import Root

if TYPE_CHECKING:
    from atypia.data.manifest import Manifest

PHANTOM_CROPS = 2000
TRAINED, OTHER = "ami-br", "atnorm-br"


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command("demo", epilog="Example: `atypia demo --out demo`")
    def demo(
        out: Annotated[Path, typer.Option(help="Folder to write; what is there already is kept.")] = Path("demo"),
        backbone: Annotated[str, typer.Option(help="Backbone of the catalogue.")] = "efficientnet-lite0",
        phantom: Annotated[bool, typer.Option(help="Use the phantom set even where real crops are.")] = False,
        root: Root = None,
    ) -> None:
        """A linear probe, cross-validated by case and tested on held-out sets, from pixels to table.

        Uses the real AMi-Br and AtNorM-Br where they are under the data root, else a procedural phantom set.
        """
        from atypia.cli.results import show_results
        from atypia.cli.train import chosen_split
        from atypia.data.sources.opening import open_data, source_folder
        from atypia.evaluation.external import evaluate, open_target
        from atypia.training.fit import check_recipe, train
        from atypia.training.fitted import Training
        from atypia.training.recipe import load_recipe

        started = time.perf_counter()
        name, recipe = load_recipe("probe", [f"backbone={backbone}"])
        check_recipe(recipe)
        real = not phantom and all(source_folder(name, root) is not None for name in (TRAINED, OTHER))
        if real:
            note(f"real crops: {TRAINED} in {source_folder(TRAINED, root)}")
            training, other, runs = open_data(TRAINED, root), open_data(OTHER, root), out / "probe"
        else:
            note("no real crops under the data root (see `atypia data list`): using the phantom set")
            training, other = _phantom_sets(out / "phantom")
            runs = out / "probe-phantom"
        with bars() as progress:
            job = Training(name, recipe, training, chosen_split("official", []), runs)
            trained = train(job, progress)
            _, warnings = evaluate(open_target(runs), other, progress=progress)
        for warning in dict.fromkeys([*trained.warnings, *warnings]):
            warn(warning)
        files = [runs / f"table.{suffix}" for suffix in ("md", "csv", "tex", "json")]
        show_results(runs, files=files)
        note(
            f"done in {time.perf_counter() - started:.0f} s; files: {runs}/ (table.md, results.parquet, one folder a fold)"
        )


def _phantom_sets(folder: Path) -> tuple[Manifest, Manifest]:
    """A phantom set to train on, and one from laboratories that it does not hold."""
    from atypia.data.phantom.dataset import write_phantom
    from atypia.data.phantom.domains import DOMAINS

    names = list(DOMAINS)
    with bars() as progress:
        training = write_phantom(folder / "training", PHANTOM_CROPS, 0, domains=names[:-1], progress=progress)
        other = write_phantom(folder / "elsewhere", PHANTOM_CROPS // 4, 1, domains=names[-1:], progress=progress)
    return training, other
