# %% [markdown]
# # Your own data, audit and splits
#
# A table of your own is enough: one line a crop, with what is known of it. Before anything is trained it is searched for what would spoil a result later.

# %%
import csv
import shutil

import atypia

rendered = atypia.write_phantom("crops", 120, domains=["rose", "violet", "ash"], workers=1)
with open("crops/mine.csv", "w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["image", "label", "case_id", "scanner", "origin", "mpp"])
    for row in rendered.table.to_pylist():
        table.writerow([row[name] for name in ("image", "label", "case_id", "scanner", "origin", "mpp")])

mine = atypia.open_data("crops/mine.csv")
mine

# %% [markdown]
# `case_id` is the column that matters most: figures of one case look alike, so a case must never be on both sides of a split.
#
# ## Audit
#
# Two faults are put in on purpose, as they happen in practice: a crop that was exported twice with another label, and a file that was cut off while copying.

# %%
first, second = mine.column("image")[:2]
atypical = mine.labels[0] == 1
shutil.copy(f"crops/{first}", "crops/again.png")
with open(f"crops/{second}", "r+b") as file:
    file.truncate(2000)
with open("crops/mine.csv", "a", encoding="utf-8") as file:
    file.write(f"again.png,{int(not atypical)},another case,scanner 9,laboratory 9,0.25\n")

spoiled = atypia.open_data("crops/mine.csv")
report = atypia.audit([spoiled])
print(report.text())

# %% [markdown]
# Each finding has a code and a severity. Rows are taken out as one likes:

# %%
bad = {"again.png", first, second}
keep = [name not in bad for name in spoiled.column("image")]
clean = spoiled.take([row for row, good in enumerate(keep) if good])
print(clean)
atypia.audit([clean]).has_errors

# %% [markdown]
# ## Splits
#
# A protocol divides cases, not figures, and the result is a file that names every figure of every part. `kfold` asks how good a model is on further cases of the
# same laboratories; `lodo` leaves one laboratory out at a time.

# %%
folds = atypia.make_split("kfold", clean, folds=3)
laboratories = atypia.make_split("lodo", clean)
print(folds)
print(laboratories)

# %%
for fold in laboratories.folds:
    test = clean.take(clean.rows_of(fold.test))
    print(f"{set(test.column('origin'))}: {len(fold.train)} train, {len(fold.val)} val, {len(fold.test)} test")

# %% [markdown]
# ## Leakage is an error
#
# A split that was made elsewhere, figure by figure, is checked before any work starts:

# %%
from dataclasses import replace

fold = folds.folds[0]
moved = replace(fold, train=fold.train[1:], val=(*fold.val, fold.train[0]))
by_hand = replace(folds, folds=(moved,), positives={})
try:
    atypia.train("probe", clean, "runs/leaky", split=by_hand)
except atypia.AtypiaError as error:
    print(type(error).__name__, "-", error)

# %% [markdown]
# **Next:** [formats of your data](../data.md), [protocols](../protocols.md), [two backbones compared](compare.md).
