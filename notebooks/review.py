# %% [markdown]
# # From review to training
#
# A classifier calls, a person corrects, a model learns from it. On a real case the corrections are made on the page of `atypia serve`; here the truth of the
# phantom set plays the reviewer, and writes the file that the page exports.

# %%
import csv

import numpy as np

import atypia

figures = atypia.write_phantom("phantom", 240, domains=["rose", "violet"], seed=5, workers=1)
cases = sorted(set(figures.cases))
new = set(cases[::3])
pool = figures.take([case not in new for case in figures.cases])
test = figures.take([case in new for case in figures.cases])
classifier = atypia.Classifier.load()
said = classifier.predict([pool.root / name for name in pool.column("image")], mpp=0.25)
print(said)

# %% [markdown]
# ## What to look at first
#
# A reviewer has time for 60 figures. The least certain ones teach most; the page's queue *most useful* does this, and spreads them over unlike figures too.

# %%
distance = np.abs(np.nan_to_num(said.p_atypical, nan=0.5) - classifier.threshold)
chosen = np.sort(np.argsort(distance)[:60])
with open("decisions.csv", "w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["figure_id", "rater", "decision", "note"])
    for row in chosen:
        table.writerow([pool.ids[row], "first", "atypical" if pool.labels[row] else "normal", ""])
wrong = int((said.decisions[chosen] != pool.labels[chosen]).sum())
print(f"{len(chosen)} decisions, of which {wrong} correct the model")

# %% [markdown]
# ## A labelled set from decisions and calls
#
# Decided figures have the reviewer's label. For the others there is the model's call; whether to train on it is the question.

# %%
rows = pool.table.to_pylist()
decided = set(chosen.tolist())
for number, row in enumerate(rows):
    if number not in decided:
        row["label"] = int(said.decisions[number] == 1)
    row["votes"] = row["soft_label"] = row["n_raters"] = None
mixed = atypia.Manifest.from_rows(rows, "calls-and-decisions", root=pool.root)
calls = atypia.Manifest.from_rows(
    [row | {"label": int(said.decisions[n] == 1)} for n, row in enumerate(rows)], "calls-alone", root=pool.root
)
print(mixed, calls, sep="\n")

# %% [markdown]
# ## Train on each, test on cases that nobody looked at

# %%
recipe = atypia.load_recipe("probe", {"options.strengths": [0.1]}, backbone="efficientnet-lite0")
results = {}
for labels, data in {"calls alone": calls, "calls and decisions": mixed, "the truth": pool}.items():
    trained = atypia.train(recipe, data, f"runs/{data.name}", split=atypia.make_split("kfold", data, folds=2))
    results[labels] = atypia.evaluate(trained.out, test, allow=["case-across-sets"]).predictions()
    found = results[labels].metrics(["auroc", "balanced_accuracy"])
    print(f"{labels:20}", {name: round(value, 3) for name, value in found.items()})

# %% [markdown]
# The last line is trained on the truth of every figure: what complete labels would give. The difference of the first two, figure by figure:

# %%
results["calls and decisions"].compare(results["calls alone"])

# %% [markdown]
# Sixty decisions of one reviewer are few, and so are the four cases of the test: the p-value swaps the two models case by case, in sixteen ways, and can never be below
# 2/16 = 0.125. Intervals over so few cases are too narrow. Where the two disagree, believe the p-value. The same decisions also
# [calibrate](calibrate.md) the model that made the calls. Read its table with care: these figures were picked near the threshold, so it shows the model on its
# hardest figures. For a calibration the page has a queue of its own, which spreads over all scores.

# %%
found = atypia.calibrate("atypia", pool, decisions="decisions.csv")
print(found.to_text())

# %% [markdown]
# **Next:** [the review page](../review.md), [adapt a network to your figures](../adapt.md).
