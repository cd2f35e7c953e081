# %% [markdown]
# # Compare two backbones honestly
#
# Two frozen networks, a linear probe on each, the same folds. The question is not which mean is larger but whether the difference would be there on other cases.
#
# Set the environment variable `ATYPIA_NOTEBOOK_DATA=ami-br` to run it on AMi-Br where that is on disk.

# %%
import os

import atypia

own = os.environ.get("ATYPIA_NOTEBOOK_DATA")
figures = atypia.open_data(own) if own else atypia.write_phantom("phantom", 240, workers=1)
split = atypia.make_split("kfold", figures, folds=3, nested=True)
print(figures)
print(split)

# %% [markdown]
# ## Train both on the same split

# %%
runs = {}
for backbone in ("efficientnet-lite0", "efficientnet-lite1"):
    recipe = atypia.load_recipe("probe", {"options.strengths": [0.1]}, backbone=backbone)
    runs[backbone] = atypia.train(recipe, figures, f"runs/{backbone}", split=split)

for name, one in runs.items():
    found = one.predictions("test").metrics(["balanced_accuracy", "sensitivity", "specificity", "auroc"])
    print(name, {metric: round(value, 3) for metric, value in found.items()})

# %% [markdown]
# ## The tempting answer
#
# Three folds, three differences, an ordinary t-test. It is too sure of itself: the training parts of folds overlap, and figures of a case are no independent draws.

# %%
import numpy as np
from scipy import stats


def by_fold(run):
    found = []
    for fold in split.folds:
        tested = run.predictions("test")
        of_fold = tested[np.isin(tested.ids, list(fold.test))]
        found.append(of_fold.metrics(["auroc"])["auroc"])
    return np.array(found)


lite0, lite1 = (by_fold(run) for run in runs.values())
print("AUROC by fold", lite0.round(3), lite1.round(3))
print(f"t-test over folds: p = {stats.ttest_rel(lite0, lite1).pvalue:.3f}")

# %% [markdown]
# ## The honest one
#
# `compare` takes the figures that both scored, draws *cases* for the interval, and swaps the two models case by case for the p-value.

# %%
comparison = runs["efficientnet-lite0"].compare(runs["efficientnet-lite1"])
for row in comparison.rows():
    print({name: round(value, 3) if isinstance(value, float) else value for name, value in row.items()})
comparison

# %% [markdown]
# ## Many comparisons
#
# With a third and a fourth backbone there are more questions, and one of them will look convincing by chance. Holm's correction keeps that chance at 5 %.

# %%
p = [row["p"] for row in comparison.rows()]
for row, corrected in zip(comparison.rows(), atypia.statistics.multiple.holm(p), strict=True):
    print(f"{row['metric']:20} p = {row['p']:.3f}, corrected {corrected:.3f}")

# %% [markdown]
# **What to report:** both values, the difference with its interval, how many cases it rests on, how many comparisons were made, and that nothing was chosen on the figures
# that were tested. [Studies](../studies.md) do all of it for many rows. **Next:** [laboratories left out](domains.md), [statistics](../statistics.md).
