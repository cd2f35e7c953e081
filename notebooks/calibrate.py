# %% [markdown]
# # Calibrate to your laboratory
#
# The ranking of a model travels better than its threshold. Some labelled crops of your own say how good it is with you, and whether they are reason to move its decision.
# Here the laboratory is a rendered one, to which the model that ships is a stranger.

# %%
import numpy as np

import atypia

figures = atypia.write_phantom("lab", 160, domains=["brick"], seed=3, workers=1)
cases = sorted(set(figures.cases))
chosen = set(cases[: len(cases) * 2 // 3])
mine = figures.take([case in chosen for case in figures.cases])
later = figures.take([case not in chosen for case in figures.cases])
print(mine)
print(later)

# %% [markdown]
# ## How good is it here, and is there reason to change it?

# %%
found = atypia.calibrate("atypia", mine, "my-lab")
print(found.to_text())

# %% [markdown]
# The table compares on cases that were left out of the fit. The threshold moves where its shift is larger than the uncertainty of the shift, unless balanced accuracy on
# these cases falls by more than chance explains; so a small difference below zero can stand beside a threshold that moves. Its interval says how little is known. Nothing is
# written where the figures are no reason to.
#
# ## On cases that came later

# %%
for model in ("atypia", *([found.out] if found.out else [])):
    classifier = atypia.Classifier.load(model)
    said = classifier.predict([later.root / name for name in later.column("image")], mpp=0.25)
    scored = said.with_labels(later.labels, cases=later.cases)
    print(classifier)
    for name, one in scored.intervals(["balanced_accuracy", "sensitivity", "specificity"]).items():
        print(f"   {name:18} {one.estimate:.2f}  [{one.low:.2f}, {one.high:.2f}]")
    print(f"   {dict(said.counts)}")

# %% [markdown]
# After a calibration the number of *uncertain* calls may rise steeply while balanced accuracy stays. Its prediction sets promise that of each class only a small share is called
# the other class *in this laboratory*; a model that tells rendered figures apart poorly can keep this promise only by leaving many calls open. Balanced accuracy goes
# by the threshold and does not show it.
#
# ## With fewer figures
#
# What ten or fifty figures are reason to, by the same rule:

# %%
rng = np.random.default_rng(0)
for number in (10, 50):
    few = mine.take(np.sort(rng.permutation(len(mine.ids))[:number]))
    answer = atypia.calibrate("atypia", few)
    print(f"--- {number} figures\n{answer.to_text()}")

# %% [markdown]
# **Next:** [how the decision is moved, and its limits](../calibrate.md), [fine-tuning](../adapt.md), [drift](../drift.md).
