"""``atypia data``: published sources, a user's own sets, audits, splits and the phantom set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atypia.base.errors import count_noun
from atypia.cli.shared.console import bars, keeps, note, show_json, warn, width
from atypia.cli.shared.options import DropOverlap, DropRepeats, Json, Labels, ProtocolSet, Root, Seed, Where

app = typer.Typer(help="Published sources, own data, audits, splits and the phantom set.", no_args_is_help=True)

References = Annotated[list[str], typer.Argument(help="Sources, manifests, CSV files or class folders.")]


@app.command("list", epilog="Example: `atypia data list`")
def list_sources(root: Root = None, as_json: Json = False) -> None:
    """List the published sources, and which of them are on this machine."""
    from atypia.workflows.data import listed_sources

    rows = listed_sources(root)
    if as_json:
        show_json(rows)
        return
    from atypia.reports.drawing.listing import columns_table

    shown = [
        [row["name"], row["title"], row["figures"], row["positive"], row["licence"], row["folder"] or "absent"]
        for row in rows
    ]
    print(columns_table(["source", "what", "figures", "positive", "licence", "where"], shown).to_text(width()), end="")
    note("where: a folder may hold the labels alone; `atypia data info NAME` tells")


@app.command("get", epilog="Example: `atypia data get ami-br atnorm-br --root ~/data`")
def get(names: Annotated[list[str], typer.Argument(help="Names of sources.")], root: Root = None) -> None:
    """Download published sources: resumable, checksum verified. Needs a network."""
    from atypia.workflows.data import get_source

    keeps("downloads, whole and in part,")
    for name in names:
        with bars() as progress:
            manifest = get_source(name, root, progress)
        note(f"{name}: {count_noun(len(manifest), 'figure')}")


@app.command("import", epilog="Example: `atypia data import ami-br --from AMi-Br_Benchmark`")
def import_source(
    name: Annotated[str, typer.Argument(help="Name of the source.")],
    folder: Annotated[
        Path | None, typer.Option("--from", help="Folder in the published layout.", show_default=False)
    ] = None,
    root: Root = None,
) -> None:
    """Check a folder in the published layout and remember where it is; nothing is copied."""
    from atypia.workflows.data import import_source as run

    with bars() as progress:
        found = run(name, folder, root, progress)
    for text in found.manifest.notes:
        note(text)
    note(f"{name}: {count_noun(len(found.manifest), 'figure')} in {found.folder}")


@app.command("info", epilog="Example: `atypia data info ami-br --figure counts.svg --sheet crops.png`")
def info(
    references: References,
    root: Root = None,
    figure: Annotated[Path | None, typer.Option(help="Write the counts as a plot (.svg or .png).")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet of random crops (.png).")] = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Show this augmentation on the sheet; may be repeated.", show_default=False),
    ] = None,
    as_json: Json = False,
    seed: Seed = 0,
    drop_overlap: DropOverlap = False,
    drop_repeats: DropRepeats = False,
    labels: Labels = "published",
    where: Where = None,
) -> None:
    """Count figures by class and domain; optionally write a plot and a contact sheet, plain or augmented."""
    from atypia.base.extras import require
    from atypia.data.pools import Picked, filters_of
    from atypia.workflows.data import describe_data, write_contact_sheet, write_counts_plot

    if augment and sheet is None:
        raise typer.BadParameter("give --sheet FILE, where the augmented crops are to go", param_hint="--augment")
    if figure is not None:
        require("`atypia data info --figure`", "matplotlib")
    described, picked = [], Picked(drop_overlap, drop_repeats, labels, filters_of(where or ()))
    for reference in references:
        described.append(describe_data(reference, root, picked))
        for text in described[-1].warnings:
            warn(text)
    if as_json:
        show_json([one.counts for one in described])
    else:
        from atypia.reports.drawing.listing import summary_table

        for one in described:
            print(summary_table(one.counts).to_text(width()))
    if figure is not None:
        write_counts_plot(described, figure)
        note(f"figure: {figure}")
    if sheet is not None:
        with bars() as progress:
            write_contact_sheet(references[0], sheet, augment or (), seed, root, progress, picked)
        note(f"contact sheet: {sheet}")


@app.command("audit", epilog="Example: `atypia data audit ami-br atnorm-br --json`")
def audit_sets(
    references: References,
    split: Annotated[list[Path] | None, typer.Option(help="Saved split of the first set; may be repeated.")] = None,
    near: Annotated[bool, typer.Option(help="Search near-duplicates over flips and rotations.")] = True,
    root: Root = None,
    as_json: Json = False,
    drop_overlap: DropOverlap = False,
    drop_repeats: DropRepeats = False,
    labels: Labels = "published",
    where: Where = None,
) -> None:
    """Find unusable images, duplicates, conflicting labels, leakage, contamination. Exit code 1 on an error."""
    from atypia.data.pools import Picked, filters_of
    from atypia.workflows.data import audit_data

    picked = Picked(drop_overlap, drop_repeats, labels, filters_of(where or ()))
    with bars() as progress:
        report = audit_data(references, split or (), near=near, root=root, progress=progress, picked=picked)
    if as_json:
        show_json(report.as_dict())
    else:
        print(report.text())
    if report.has_errors:
        raise typer.Exit(1)


@app.command("split", epilog="Example: `atypia data split ami-br --protocol banerjee --out banerjee.json`")
def split_data(
    data: Annotated[str, typer.Argument(help="A source, manifest, CSV or class folder.")],
    out: Annotated[Path, typer.Option(help="File to write (.json).")],
    protocol: Annotated[str, typer.Option(help="Name of the protocol; an unknown one lists the choices.")] = "official",
    settings: ProtocolSet = None,
    seed: Seed = 0,
    root: Root = None,
    drop_overlap: DropOverlap = False,
    drop_repeats: DropRepeats = False,
    labels: Labels = "published",
    where: Where = None,
) -> None:
    """Divide a data set by a protocol and save the folds as a file."""
    from atypia.data.pools import Picked, filters_of
    from atypia.workflows.data import split_data as run

    divided = run(
        data,
        out,
        protocol,
        settings or (),
        seed,
        root,
        Picked(drop_overlap, drop_repeats, labels, filters_of(where or ())),
    )
    for warning in divided.warnings:
        warn(warning)
    for fold in divided.folds:
        note(f"{fold.name}: {len(fold.train)} train, {len(fold.val)} validation, {len(fold.test)} test")
    note(f"split: {out}")


@app.command(
    "sample",
    epilog='Example: `atypia data sample midogpp --each 350 --by tumour --without "tumour=breast cancer" --out rated.parquet`',
)
def sample(
    data: Annotated[str, typer.Argument(help="A source, manifest, CSV or class folder.")],
    out: Annotated[Path, typer.Option(help="Manifest to write (.parquet).")],
    each: Annotated[int, typer.Option(help="Figures of each domain.", min=1)],
    by: Annotated[
        str, typer.Option(help="What is drawn from alike: domain, scanner, origin, species or tumour.")
    ] = "domain",
    only: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Draw these alone; may be repeated.", show_default=False),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Leave these out; may be repeated.", show_default=False),
    ] = None,
    seed: Seed = 0,
    root: Root = None,
    drop_repeats: DropRepeats = False,
) -> None:
    """Draw figures for raters at random, alike from each domain, without their labels."""
    from atypia.data.pools import Picked
    from atypia.reports.drawing.listing import columns_table
    from atypia.workflows.data import sample_data

    drawn = sample_data(
        data, out, each, by, only or (), without or (), seed, root, Picked(False, drop_repeats, "published")
    )
    for text in drawn.warnings:
        warn(text)
    rows = [[name, got, there] for name, (got, there) in drawn.counts.items()]
    print(columns_table([by, "drawn", "of"], rows).to_text(width()), end="")
    note(f"{count_noun(drawn.figures, 'figure')} of {count_noun(drawn.cases, 'case')}, without labels: {out}")
    note(f"rate them: atypia serve {out} --blind --rater NAME")


@app.command("phantom", epilog="Example: `atypia data phantom --out phantom -n 2000`")
def phantom(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    n: Annotated[int, typer.Option("-n", help="Number of crops.", min=1)] = 2000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Write a procedural set of H&E crops: seeded, with domains, cases and disagreeing votes."""
    from atypia.workflows.data import phantom_set

    keeps("crops that are written")
    with bars() as progress:
        counts = phantom_set(out, n, seed, progress)
    if as_json:
        show_json(counts)
    else:
        from atypia.reports.drawing.listing import summary_table

        print(summary_table(counts).to_text(width()))
    note(f"phantom set: {out}")


@app.command("phantom-slides", epilog="Example: `atypia data phantom-slides --out slides -n 8 --mm2 2`")
def phantom_slides(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    n: Annotated[int, typer.Option("-n", help="Number of slides.", min=1)] = 4,
    mm2: Annotated[float, typer.Option(help="Tissue of each slide, mm².")] = 2.0,
    figures: Annotated[float, typer.Option(help="Mitotic figures per mm².", min=0)] = 25.0,
    look_alikes: Annotated[float, typer.Option(help="Look-alikes per mm².", min=0)] = 35.0,
    domain: Annotated[
        list[str] | None,
        typer.Option(help="Domain of the slides; may be repeated. Default: all in turn.", show_default=False),
    ] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Write phantom slides with known mitotic figures and look-alikes, on which a detector can be trained and tried."""
    from atypia.workflows.data import phantom_slide_set

    keeps("slides that are written")
    with bars() as progress:
        counts = phantom_slide_set(out, n, mm2, seed, figures, look_alikes, domain, progress)
    if as_json:
        show_json(counts)
    else:
        from atypia.reports.drawing.listing import summary_table

        print(summary_table(counts).to_text(width()))
    note(
        f"phantom slides: {out}/slides; figures and look-alikes of each: {out}/points; data set: {out}/manifest.parquet"
    )
