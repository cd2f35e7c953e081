"""``atypia data``: published sources, a user's own sets, audits, splits and the phantom set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from atypia.cli.console import bars, keeps, note, show_json, warn, width
from atypia.cli.options import Json, ProtocolSet, Root, Seed

app = typer.Typer(help="Published sources, own data, audits, splits and the phantom set.", no_args_is_help=True)

References = Annotated[list[str], typer.Argument(help="Sources, manifests, CSV files or class folders.")]


@app.command("list", epilog="Example: `atypia data list`")
def list_sources(root: Root = None, as_json: Json = False) -> None:
    """The published sources, and which of them are on this disk."""
    from atypia.data.sources.catalogue import SOURCES
    from atypia.data.sources.opening import source_folder

    rows = []
    for name, source in SOURCES.items():
        folder = source_folder(name, root)
        rows.append(
            {
                "name": name,
                "title": source.title,
                "task": source.task,
                "figures": source.expected.total,
                "positive": source.expected.positive,
                "licence": source.licence,
                "folder": str(folder) if folder else None,
            }
        )
    if as_json:
        show_json(rows)
        return
    from atypia.reports.drawing.listing import columns_table

    shown = [
        [row["name"], row["title"], row["figures"], row["positive"], row["licence"], row["folder"] or "absent"]
        for row in rows
    ]
    print(columns_table(["source", "what", "figures", "positive", "licence", "where"], shown).to_text(width()), end="")


@app.command("get", epilog="Example: `atypia data get ami-br atnorm-br --root ~/data`")
def get(names: Annotated[list[str], typer.Argument(help="Names of sources.")], root: Root = None) -> None:
    """Download published sources: resumable, checksum verified. Needs a network."""
    from atypia.data.sources import importing

    keeps("downloads, whole and in part,")
    for name in names:
        with bars() as progress:
            manifest = importing.get(name, root, progress)
        note(f"{name}: {len(manifest)} figures")


@app.command("import", epilog="Example: `atypia data import ami-br --from AMi-Br_Benchmark`")
def import_source(
    name: Annotated[str, typer.Argument(help="Name of the source.")],
    folder: Annotated[
        Path | None, typer.Option("--from", help="Folder in the published layout.", show_default=False)
    ] = None,
    root: Root = None,
) -> None:
    """Check a folder in the published layout and remember where it is; nothing is copied."""
    from atypia.base.errors import AbsentError
    from atypia.data.sources import importing
    from atypia.data.sources.opening import source_folder

    found = folder or source_folder(name, root)
    if found is None:
        raise AbsentError(f"{name} was not found under the data root; fix: name its folder with --from DIR")
    with bars() as progress:
        manifest = importing.import_folder(name, found, root, progress)
    for text in manifest.notes:
        note(text)
    note(f"{name}: {len(manifest)} figures in {found}")


@app.command("info", epilog="Example: `atypia data info ami-br --figure counts.svg --sheet crops.png`")
def info(
    references: References,
    root: Root = None,
    figure: Annotated[Path | None, typer.Option(help="Write the counts as a figure (.svg or .png).")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Write a contact sheet of random crops (.png).")] = None,
    augment: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Show this augmentation on the sheet; may be repeated.", show_default=False),
    ] = None,
    as_json: Json = False,
    seed: Seed = 0,
) -> None:
    """Counts by class and domain; optionally a figure and a contact sheet, plain or augmented."""
    from atypia.data.audit.summary import broken_images, summarise
    from atypia.data.sources.opening import open_data

    if augment and sheet is None:
        raise typer.BadParameter("give --sheet FILE, where the augmented crops are to go", param_hint="--augment")
    summaries = []
    for reference in references:
        manifest = open_data(reference, root)
        broken = broken_images(manifest)
        summaries.append({**summarise(manifest), "broken": broken})
        if broken:
            first = next(iter(broken.values()))
            warn(f"{manifest.name}: {len(broken)} of these figures cannot be used; the first: {first}")
    if as_json:
        show_json(summaries)
    else:
        from atypia.reports.drawing.listing import summary_table

        for summary in summaries:
            print(summary_table(summary).to_text(width()))
    if figure is not None:
        from atypia.reports.drawing.data_plots import counts_figure

        rows = [(s["name"], d["domain"], d["negative"], d["positive"]) for s in summaries for d in s["domains"]]
        counts_figure(rows, figure)
        note(f"figure: {figure}")
    if sheet is not None:
        from atypia.data.audit.summary import augmented_sheet, random_sheet

        with bars() as progress:
            if augment:
                augmented_sheet(open_data(references[0], root), augment, sheet, seed, progress)
            else:
                random_sheet(open_data(references[0], root), sheet, seed, progress)
        note(f"contact sheet: {sheet}")


@app.command("audit", epilog="Example: `atypia data audit ami-br atnorm-br --json`")
def audit_sets(
    references: References,
    split: Annotated[list[Path] | None, typer.Option(help="Saved split of the first set; may be repeated.")] = None,
    near: Annotated[bool, typer.Option(help="Look for near-duplicates over flips and rotations.")] = True,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Unusable images, duplicates, conflicting labels, leakage, contamination. Exit code 1 on an error."""
    from atypia.data.audit.report import audit
    from atypia.data.sources.opening import open_data
    from atypia.splits.split import Split

    manifests = [open_data(reference, root) for reference in references]
    parts = []
    for path in split or []:
        saved = Split.load(path)
        saved.check_manifest(manifests[0])
        parts += [
            (f"{path.stem}/{fold.name}", {"train": fold.train, "val": fold.val, "test": fold.test})
            for fold in saved.folds
        ]
    with bars() as progress:
        report = audit(manifests, splits=parts, near=near, progress=progress, root=root)
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
) -> None:
    """Divide a data set by a protocol and save the folds as a file."""
    from atypia.base.config import with_overrides
    from atypia.data.sources.opening import open_data
    from atypia.splits.protocol import make_split

    divided = make_split(protocol, open_data(data, root), seed, **with_overrides({}, settings or []))
    divided.save(out)
    for warning in divided.warnings:
        warn(warning)
    for fold in divided.folds:
        note(f"{fold.name}: {len(fold.train)} train, {len(fold.val)} validation, {len(fold.test)} test")
    note(f"split: {out}")


@app.command("phantom", epilog="Example: `atypia data phantom --out phantom -n 2000`")
def phantom(
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    n: Annotated[int, typer.Option("-n", help="Number of crops.", min=1)] = 2000,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Write a procedural set of H&E crops: seeded, with domains, cases and disagreeing votes."""
    from atypia.data.audit.summary import summarise
    from atypia.data.phantom.dataset import write_phantom

    with bars() as progress:
        manifest = write_phantom(out, n, seed, progress=progress)
    if as_json:
        show_json(summarise(manifest))
    else:
        from atypia.reports.drawing.listing import summary_table

        print(summary_table(summarise(manifest)).to_text(width()))
    note(f"phantom set: {out}")
