"""``atypia synth``: train generators of mitotic figures, sample from them, score the samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atypia.base.errors import count_noun
from atypia.cli.shared.console import bars, keeps, note, show_json, warn, width
from atypia.cli.shared.options import Allow, Device, Json, Overrides, ProtocolSet, Root, Seed, SplitFile

app = typer.Typer(help="Generate crops: train, sample, score.", no_args_is_help=True)


@app.command("train", epilog="Example: `atypia synth train tiny --data ami-br --protocol official --out synth/tiny`")
def train(
    recipe: Annotated[str, typer.Argument(help="Name of a shipped recipe (`atypia synth recipes`), or a YAML file.")],
    out: Annotated[Path, typer.Option(help="Output folder; the same command continues there.")],
    data: Annotated[
        str | None, typer.Option(help="Labelled figures: one generator per fold.", show_default=False)
    ] = None,
    protocol: Annotated[str, typer.Option(help="How the labelled figures are divided.")] = "official",
    protocol_set: ProtocolSet = None,
    split_file: SplitFile = None,
    pretrain: Annotated[
        str | None,
        typer.Option(
            help="Crops for the unlabelled stage, from other cases; default: each fold's training part.",
            show_default=False,
        ),
    ] = None,
    pretrain_where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN=VALUE",
            help="Of those crops take the ones with this value, for instance label=mitotic; may be repeated.",
            show_default=False,
        ),
    ] = None,
    start: Annotated[
        Path | None, typer.Option("--from", help="A trained generator's folder to start from.", show_default=False)
    ] = None,
    positives: Annotated[
        float, typer.Option(help="Share of the positives of each training part to use.", min=0, max=1)
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
    from atypia.workflows.synth import train_generator

    keeps("generators that are complete, and checkpoints,")
    with bars() as progress:
        made = train_generator(
            recipe,
            out,
            data=data,
            overrides=overrides or (),
            protocol=protocol,
            protocol_settings=protocol_set or (),
            split=split_file,
            pretrain=pretrain,
            pretrain_where=pretrain_where or (),
            start=start,
            positives=positives,
            folds=fold or (),
            seed=seed,
            allow=allow or (),
            device=device,
            root=root,
            progress=progress,
        )
    for warning in made.warnings:
        warn(warning)
    note(f"{count_noun(len(made.trained), 'generator')} trained, {made.kept} kept, in {made.seconds:.1f} s")
    note(f"files: {out}/ (one folder a generator; sheets/ shows what each can do)")


@app.command("sample", epilog="Example: `atypia synth sample synth/tiny/fold-1 --out synth/tiny-samples/fold-1`")
def sample(
    generator: Annotated[Path, typer.Argument(help="A generator's folder, or a folder with one generator per fold.")],
    out: Annotated[Path, typer.Option(help="The set's folder; the same command continues there.")],
    atypical: Annotated[
        int | None,
        typer.Option(help="Crops of class 1. Default: as many as balance the classes.", min=0, show_default=False),
    ] = None,
    normal: Annotated[
        int | None, typer.Option(help="Crops of class 0. Default: none.", min=0, show_default=False)
    ] = None,
    unlabelled: Annotated[int, typer.Option(help="Crops without a class.", min=0)] = 0,
    guidance: Annotated[
        float, typer.Option(help="Guidance strength: 1 follows the class, larger values exaggerate it.", min=0, max=100)
    ] = 2.0,
    steps: Annotated[int, typer.Option(help="Denoising steps.", min=1)] = 50,
    sampler: Annotated[str, typer.Option(help="ddim or ddpm.")] = "ddim",
    batch: Annotated[int, typer.Option(help="Crops per batch.", min=1)] = 64,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write generated crops as an ordinary data set: PNG files and a manifest with their origin."""
    from atypia.workflows.synth import sample_generators, wanted_samples

    wanted = wanted_samples(
        normal=normal,
        atypical=atypical,
        unlabelled=unlabelled,
        guidance=guidance,
        steps=steps,
        sampler=sampler,
        seed=seed,
        batch=batch,
    )
    written = []
    keeps("crops that are written")
    with bars() as progress:
        for made in sample_generators(generator, out, wanted, device, progress):
            written.append(made.as_dict())
            note(f"{count_noun(len(made.manifest), 'crop')} in {made.folder} ({made.seconds:.1f} s)")
    if as_json:
        show_json(written)


@app.command("score", epilog="Example: `atypia synth score synth/tiny-samples/fold-1 --data ami-br --drop-copies`")
def score(
    samples: Annotated[Path, typer.Argument(help="A folder of `atypia synth sample`.")],
    data: Annotated[str, typer.Option(help="Real figures: those of `atypia synth train`.")],
    backbone: Annotated[str, typer.Option(help="Backbone whose features are compared.")] = "efficientnet-lite0",
    bundle: Annotated[
        list[Path] | None,
        typer.Option(help="A classifier that predicts the class; may be repeated.", show_default=False),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the report.", show_default=False)] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Write the crops that pass as a new set to this folder.", show_default=False)
    ] = None,
    drop_copies: Annotated[bool, typer.Option("--drop-copies", help="Reject copies of training crops.")] = False,
    min_p: Annotated[
        float | None,
        typer.Option(help="Smallest probability of the intended class to pass.", min=0, max=1, show_default=False),
    ] = None,
    seed: Seed = 0,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Compute FID, KID, precision, recall, density, coverage, copies of training crops, and label fidelity."""
    from atypia.workflows.synth import score_samples

    if (drop_copies or min_p is not None) and keep is None:
        raise typer.BadParameter("give --keep FOLDER, where the crops that pass are to go", param_hint="--keep")
    with bars() as progress:
        found = score_samples(
            samples,
            data,
            backbone=backbone,
            bundles=bundle or (),
            out=out,
            keep=keep,
            drop_copies=drop_copies,
            min_p=min_p,
            seed=seed,
            root=root,
            progress=progress,
        )
    if as_json:
        show_json(found.values)
    else:
        print(found.text, end="")
    if found.kept:
        note(f"{found.kept}: {found.folder}")
    report, text, *picture = found.files
    note(f"report: {', '.join(str(path) for path in (text, report, *picture))}")


@app.command("recipes", epilog="Example: `atypia synth recipes`")
def recipes(
    name: Annotated[str | None, typer.Argument(help="Show this recipe in full.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """List the shipped generator recipes; with a name, print its file."""
    from atypia.reports.drawing.listing import columns_table
    from atypia.workflows.recipes import generator_recipe_text, generator_recipes

    text = generator_recipe_text(name) if name is not None else ""
    if name is not None and not as_json:
        print(text, end="")
        return
    loaded = generator_recipes()
    if as_json:
        shown = loaded if name is None else {name: loaded[name]}
        show_json([{"name": key, **recipe.model_dump(mode="json")} for key, recipe in shown.items()])
        return
    rows = [[key, recipe.geometry.out_px, recipe.summary] for key, recipe in loaded.items()]
    print(columns_table(["recipe", "px", "what"], rows).to_text(width()), end="")


@app.command("gain", epilog="Example: `atypia synth gain studies/benito`")
def gain(
    study: Annotated[Path, typer.Argument(help="The --out folder of a study that adds generated figures.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="Metric to compare; may be repeated.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the gain by generated figures in a study: paired folds, with minus without, by number of positives.

    Writes gains.parquet, and one plot per metric into gains/ (SVG and PNG).
    """
    from dataclasses import asdict

    from atypia.reports.drawing.listing import columns_table
    from atypia.workflows.synth import gains_of_study

    found = gains_of_study(study, metric)
    for text in found.warnings:
        note(text)
    if as_json:
        plain = [
            {k: None if isinstance(v, float) and v != v else v for k, v in asdict(one).items()} for one in found.gains
        ]
        show_json(plain)
        return
    rows = [
        [one.row, one.against, f"{one.n_positives:.0f}", one.dataset, one.part, one.metric, one.folds,
         f"{one.mean:+.4f}", f"{one.low:+.4f} to {one.high:+.4f}" if one.low == one.low else "n/a"]
        for one in found.gains
    ]  # fmt: skip
    heads = ["row", "against", "positives", "data", "part", "metric", "folds", "gain", "95 % interval"]
    print(columns_table(heads, rows).to_text(width()), end="")
    note(", ".join([f"table: {found.table}", *(str(path) for path in found.plots)]))
