"""``atypia synth``: train generators of mitotic figures, sample from them, score the samples."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atypia.cli.console import bars, keeps, note, show_json, warn, width
from atypia.cli.options import Allow, Device, Json, Overrides, ProtocolSet, Root, Seed, SplitFile

if TYPE_CHECKING:
    from atypia.synthesis.generator import Generator

app = typer.Typer(help="Generate crops: train, sample, score.", no_args_is_help=True)


@app.command("train", epilog="Example: `atypia synth train tiny --data ami-br --protocol official --out synth/tiny`")
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe (`atypia synth recipes`), or a YAML file.")],
    out: Annotated[Path, typer.Option(help="Output folder; the same command continues there.")],
    data: Annotated[
        str | None, typer.Option(help="Labelled figures: one generator a fold.", show_default=False)
    ] = None,
    protocol: Annotated[str, typer.Option(help="How the labelled figures are divided.")] = "official",
    protocol_set: ProtocolSet = None,
    split_file: SplitFile = None,
    pretrain: Annotated[
        str | None,
        typer.Option(
            help="Crops for the unlabelled stage, of other cases; without them each fold's own.", show_default=False
        ),
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="A trained generator's folder to start from.", show_default=False)
    ] = None,
    positives: Annotated[
        float, typer.Option(help="Share of the positives of each training part that is used.", min=0, max=1)
    ] = 1.0,
    fold: Annotated[
        list[str] | None, typer.Option(help="Train for this fold only; may be repeated.", show_default=False)
    ] = None,
    overrides: Overrides = None,
    seed: Seed = 0,
    allow: Allow = None,
    device: Device = "auto",
    root: Root = None,
) -> None:
    """Train generators: unlabelled first, then class-conditional on each fold's training part alone."""
    from atypia.data.sources.opening import open_data
    from atypia.splits.split import Split
    from atypia.synthesis.schema import load_generator_recipe
    from atypia.synthesis.training.fitting import Synthesis, train_generators
    from atypia.training.added import subset_of_positives
    from atypia.workflows.dividing import chosen_split

    started = time.perf_counter()
    name, loaded = load_generator_recipe(recipe, overrides or [])
    labelled = split = None
    if data is not None:
        chosen = chosen_split(protocol, protocol_set or [], split_file, seed)
        labelled = open_data(data, root)
        split = chosen if isinstance(chosen, Split) else chosen(labelled)
        split = subset_of_positives(split, labelled, positives, seed)
    keeps("generators that are complete, and checkpoints,")
    with bars() as progress:
        job = Synthesis(
            name=name,
            recipe=loaded,
            out=out,
            manifest=labelled,
            split=split,
            pretrain=open_data(pretrain, root) if pretrain else None,
            start=start,
            folds=tuple(fold or ()),
            seed=seed,
            allow=tuple(allow or ()),
            device=device,
        )
        made = train_generators(job, progress)
    for warning in made.warnings:
        warn(warning)
    kept = len(made.generators) - len(made.trained)
    note(f"{len(made.trained)} generators trained, {kept} kept, in {time.perf_counter() - started:.1f} s")
    note(f"files: {out}/ (one folder a generator; sheets/ shows what each can do)")


@app.command("sample", epilog="Example: `atypia synth sample synth/tiny/fold-1 --out synth/tiny-samples/fold-1`")
def sample(
    generator: Annotated[Path, typer.Argument(help="A generator's folder, or one that holds a folder a fold.")],
    out: Annotated[Path, typer.Option(help="The set's folder; the same command continues there.")],
    atypical: Annotated[
        int | None,
        typer.Option(help="Crops of class 1. Default: as many as make classes equal.", min=0, show_default=False),
    ] = None,
    normal: Annotated[
        int | None, typer.Option(help="Crops of class 0. Default: none.", min=0, show_default=False)
    ] = None,
    unlabelled: Annotated[int, typer.Option(help="Crops that are told no class.", min=0)] = 0,
    guidance: Annotated[float, typer.Option(help="1 follows the class, more exaggerates it.", min=0, max=100)] = 2.0,
    steps: Annotated[int, typer.Option(help="Denoising steps.", min=1)] = 50,
    sampler: Annotated[str, typer.Option(help="ddim or ddpm.")] = "ddim",
    batch: Annotated[int, typer.Option(help="Crops drawn at once.", min=1)] = 64,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write generated crops as an ordinary data set: PNG files and a manifest with their origin."""
    from atypia.synthesis.model.diffusion import SAMPLERS, SamplingConfig
    from atypia.synthesis.sampling import Wanted, sample_set

    if sampler not in SAMPLERS:
        raise typer.BadParameter(f"{sampler} is none of {', '.join(SAMPLERS)}", param_hint="--sampler")
    chosen = "ddim" if sampler == "ddim" else "ddpm"
    wanted = Wanted(normal, atypical, unlabelled, SamplingConfig(guidance, steps, chosen), seed, batch)
    written = []
    for made, folder in _generators(generator, out):
        started = time.perf_counter()
        with bars() as progress:
            manifest = sample_set(made, folder, wanted, device, progress)
        seconds = time.perf_counter() - started
        written.append({"folder": str(folder), "figures": len(manifest), "fingerprint": manifest.fingerprint})
        note(f"{len(manifest):,} crops in {folder} ({seconds:.1f} s)")
    if as_json:
        show_json(written)


@app.command("score", epilog="Example: `atypia synth score synth/tiny-samples/fold-1 --data ami-br --drop-copies`")
def score(
    samples: Annotated[Path, typer.Argument(help="A folder of `atypia synth sample`.")],
    data: Annotated[str, typer.Option(help="Real figures: those of `atypia synth train`.")],
    backbone: Annotated[str, typer.Option(help="Whose features are compared.")] = "efficientnet-lite0",
    bundle: Annotated[
        list[Path] | None,
        typer.Option(help="A classifier that judges the class; may be repeated.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report.", show_default=False)] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Write the crops that pass as a set here.", show_default=False)
    ] = None,
    drop_copies: Annotated[bool, typer.Option("--drop-copies", help="Copies do not pass.")] = False,
    min_p: Annotated[
        float | None,
        typer.Option(help="Least probability of the intended class to pass.", min=0, max=1, show_default=False),
    ] = None,
    seed: Seed = 0,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """FID, KID, precision, recall, density, coverage, copies of training crops, and label fidelity."""
    from atypia.data.sources.opening import open_data
    from atypia.synthesis.measures.picking import reason, write_picked
    from atypia.synthesis.measures.score import ScoreJob, kept_rows, open_samples, score_set, score_text, write_score

    if (drop_copies or min_p is not None) and keep is None:
        raise typer.BadParameter("give --keep FOLDER, where the crops that pass are to go", param_hint="--keep")
    made = open_samples(samples)
    real = open_data(data, root)
    with bars() as progress:
        found = score_set(ScoreJob(made, real, backbone, tuple(bundle or ()), seed), progress)
    report = write_score(found, out or samples)
    if as_json:
        show_json(found.values)
    else:
        print(score_text(found.values), end="")
    if keep is not None:
        kept = kept_rows(found, made, drop_copies, min_p)
        why = reason(kept, drop_copies, min_p)
        judges = found.judgements if min_p is not None else ()
        write_picked(made, kept, found.seen, judges, keep, why)
        note(f"{why}: {keep}")
    note(f"report: {report[1]}, {report[0]}")


@app.command("recipes", epilog="Example: `atypia synth recipes`")
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this recipe in full.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """The shipped generator recipes; with a name, the file."""
    from atypia.base.errors import InputError
    from atypia.reports.drawing.listing import columns_table
    from atypia.synthesis.schema import load_generator_recipe, shipped_generators

    shipped = shipped_generators()
    if name is not None and name not in shipped:
        raise InputError(f"unknown generator recipe {name!r}; choices: {', '.join(shipped)}")
    if name is not None and not as_json:
        print(shipped[name].read_text("utf-8"), end="")
        return
    loaded = [(key, load_generator_recipe(key)[1]) for key in ([name] if name else shipped)]
    if as_json:
        show_json([{"name": key, **recipe.model_dump(mode="json")} for key, recipe in loaded])
        return
    rows = [[key, recipe.geometry.out_px, recipe.summary] for key, recipe in loaded]
    print(columns_table(["recipe", "px", "what"], rows).to_text(width()), end="")


@app.command("gain", epilog="Example: `atypia synth gain studies/benito`")
def gain(
    study: Annotated[Path, typer.Argument(help="The --out folder of a study that adds generated figures.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="Metric to compare; may be repeated.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """What generated figures gain in a study: paired folds, with minus without, by number of positives.

    Writes gains.parquet, and one chart a metric into gains/ (SVG and PNG).
    """
    from dataclasses import asdict

    import pyarrow.parquet as pq

    from atypia.base.artifacts import atomic_file
    from atypia.base.errors import AbsentError
    from atypia.reports.drawing.listing import columns_table
    from atypia.reports.drawing.plot_files import write_charts
    from atypia.reports.study.gain_plots import gain_charts
    from atypia.studies.findings.gains import METRICS, gains_table, study_gains

    found = study_gains(study, metric or METRICS)
    with atomic_file(study / "gains.parquet") as file:
        pq.write_table(gains_table(found), file)
    try:
        charts = write_charts(gain_charts(found), study / "gains")
    except AbsentError as error:  # tables do not wait for matplotlib, as in a study's report
        charts = []
        note(str(error))
    if as_json:
        plain = [{k: None if isinstance(v, float) and v != v else v for k, v in asdict(one).items()} for one in found]
        show_json(plain)
        return
    rows = [
        [one.row, one.against, f"{one.n_positives:.0f}", one.dataset, one.part, one.metric, one.folds,
         f"{one.mean:+.4f}", f"{one.low:+.4f} to {one.high:+.4f}" if one.low == one.low else "n/a"]
        for one in found
    ]  # fmt: skip
    heads = ["row", "against", "positives", "data", "part", "metric", "folds", "gain", "95 % interval"]
    print(columns_table(heads, rows).to_text(width()), end="")
    note(", ".join([f"table: {study}/gains.parquet", *(str(path) for path in charts)]))


def _generators(folder: Path, out: Path) -> list[tuple[Generator, Path]]:
    """The generator of a folder, or those of all folds in it, and where each one's samples go."""
    from atypia.base.runs import natural_key
    from atypia.synthesis.generator import META, load_generator

    if not (folder / META).is_file():
        inside = sorted((path.parent for path in folder.glob(f"*/{META}")), key=lambda path: natural_key(path.name))
        folds = [one for one in map(load_generator, inside) if one.facts.fold]
        if folds:
            return [(one, out / str(one.facts.fold)) for one in folds]
    return [(load_generator(folder), out)]
