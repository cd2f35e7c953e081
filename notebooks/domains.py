# %% [markdown]
# # Domain generalisation, laboratory by laboratory
#
# How good is a model in a laboratory that it never saw? Each is left out once, and the others train; the threshold is 0.5 everywhere, so nothing is fitted to the one left out.
#
# Set the environment variable `ATYPIA_NOTEBOOK_DATA=ami-br` to run it on AMi-Br where that is on disk.

# %%
import os

import atypia

own = os.environ.get("ATYPIA_NOTEBOOK_DATA")
figures = atypia.open_data(own) if own else atypia.write_phantom("phantom", 480, workers=1)
recipe = atypia.load_recipe("probe", {"options.strengths": [0.1]}, backbone="efficientnet-lite0")
print(figures)

# %% [markdown]
# ## At home, and away
#
# The same recipe, twice: by folds of cases inside all laboratories, and with one laboratory left out at a time.

# %%
home = atypia.train(recipe, figures, "runs/home", split=atypia.make_split("kfold", figures, folds=3, nested=True))
away = atypia.train(recipe, figures, "runs/away", split=atypia.make_split("lodo", figures))
for name, run in {"home": home, "away": away}.items():
    found = run.predictions("test").metrics(["balanced_accuracy", "auroc"])
    print(name, {metric: round(value, 3) for metric, value in found.items()})

# %% [markdown]
# ## Which laboratory is hard
#
# The mean hides the worst laboratory, and the worst is where somebody works. Intervals are over cases.

# %%
rows = {}
for place, run in {"home": home, "away": away}.items():
    for domain, said in run.predictions("test").groups("domain").items():
        rows.setdefault(domain, {})[place] = said.intervals(["auroc"])["auroc"]

for domain, found in rows.items():
    shown = "   ".join(f"{place} {one.estimate:.2f} [{one.low:.2f}, {one.high:.2f}]" for place, one in found.items())
    print(f"{domain.split('|')[1].strip():22} {shown}")
worst = min((one["away"].estimate, name) for name, one in rows.items() if one["away"].estimate == one["away"].estimate)
print(f"worst away: {worst[1].split('|')[1].strip()}, AUROC {worst[0]:.2f}")

# %%
import matplotlib.pyplot as plt

plot, axis = plt.subplots(figsize=(7, 3.2))
for shift, place, colour in ((-0.12, "home", "#7a2e6b"), (0.12, "away", "#c1761c")):
    for y, found in enumerate(rows.values()):
        one = found[place]
        axis.plot([one.low, one.high], [y + shift] * 2, color=colour)
        axis.plot(one.estimate, y + shift, "o", color=colour, label=place if y == 0 else None)
axis.set_yticks(range(len(rows)), [name.split("|")[1].strip() for name in rows])
axis.axvline(0.5, color="grey", linewidth=0.8)
axis.set_xlabel("AUROC, interval over cases")
axis.legend(frameon=False)

# %% [markdown]
# Five cases a laboratory are few: intervals over so few cases are narrow by chance as often as wide, and *away* may even come out above *home*. What the figure is for is to
# see all laboratories at once, and how little is known of each.
#
# ## What can be done about it
#
# A method against domain shift is one more row on the same split, compared figure by figure: here stronger regularisation of the probe.

# %%
strong = atypia.load_recipe("probe", {"options.strengths": [10.0]}, backbone="efficientnet-lite0")
other = atypia.train(strong, figures, "runs/strong", split=atypia.make_split("lodo", figures))
other.compare(away)

# %% [markdown]
# Networks have more: stain augmentation, MixStyle, alignment, IRM ([training](../training.md)); what they gave stands in
# [the results](../results/generalisation.md). **Next:** [calibrate to your laboratory](calibrate.md), [the study `unseen-laboratories`](../studies.md#unseen-laboratories).
