# %% [markdown]
# # Classify and understand a case
#
# From a folder of crops to calls, an atypical rate, and the reasons to believe it or not. Put your own folder, stack or slide in the place of
# the rendered one.

# %%
import atypia

atypia.write_phantom("phantom", 60, domains=["rose"], workers=1)
classifier = atypia.Classifier.load()  # the model in the package
classifier

# %% [markdown]
# ## Calls
#
# One row a crop, in the order of the files. *uncertain* means that the prediction set holds both classes, *refused* that the crop cannot be read or
# looks unlike everything that the model knows.

# %%
case = atypia.predict_crops("phantom", classifier, page="case.html")
said = case.predictions()
print(said)
said.to_pandas()[["figure_id", "p_atypical", "call", "novelty"]].sort_values("p_atypical", ascending=False).head(8)

# %% [markdown]
# `case.html` shows all of them in a browser. Here are the most probable, the least sure, and the least probable:

# %%
import numpy as np
from PIL import Image

order = np.argsort(-said.p_atypical)
order = order[~said.refused[order]]
unsure = order[np.argsort(np.abs(said.p_atypical[order] - classifier.threshold))]
rows = [order[:6], unsure[:6], order[-6:]]
sheet = Image.new("RGB", (6 * 130, 3 * 130), "white")
for y, row in enumerate(rows):
    for x, figure in enumerate(row):
        sheet.paste(Image.open(f"phantom/{said.ids[figure]}"), (130 * x, 130 * y))
sheet

# %% [markdown]
# Above: called atypical; in the middle: near the threshold; below: called normal.
#
# ## The atypical rate, twice
#
# The raw rate counts calls. Its interval knows which figures were seen, and nothing of the classifier's errors. The corrected rate takes these into account; its
# interval is wide, because no laboratory is like the other.

# %%
summary = case.summary.as_dict()
corrected = summary["corrected"]
print(
    f"raw       {summary['rate']:.2f}  [{summary['rate_low']:.2f}, {summary['rate_high']:.2f}]  {summary['atypical']} of {summary['scored']}"
)
print(f"corrected {corrected['rate']:.2f}  [{corrected['rate_low']:.2f}, {corrected['rate_high']:.2f}]")

# %% [markdown]
# The count of the raw rate goes by the threshold alone, so it holds *uncertain* figures too and can be larger than the number of calls *atypical*. The
# corrected rate is the mean of the probabilities; its interval comes from the count and from the errors in laboratories that were left out. Where the rate lies at
# an end of its interval, the two disagree: the case is unlike the training's laboratories, as rendered figures are, and neither number should be trusted much
# ([the rate](../rate.md)).
#
# ## Was it right?
#
# The phantom set knows its truth. On real cases this is what a review, or a [calibration](calibrate.md), is for.

# %%
figures = atypia.open_data("phantom")
label_of = dict(zip(figures.column("image"), figures.labels, strict=True))
known = said.with_labels([label_of[name] for name in said.ids])
for name, one in known.intervals(["balanced_accuracy", "sensitivity", "specificity", "auroc"]).items():
    print(f"{name:18} {one.estimate:.2f}  [{one.low:.2f}, {one.high:.2f}]")

# %% [markdown]
# Sixty figures tell little: the intervals say so. What was refused is in no number:

# %%
[(one.figure_id, one.reason) for one in said[said.refused]]

# %% [markdown]
# **Next:** [what the outputs mean](../outputs.md), [the rate](../rate.md), [what *uncertain* and *refused* promise](../decision.md).
