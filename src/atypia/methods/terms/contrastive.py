"""Metric learning: Multi-Similarity mining and the supervised contrastive loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from atypia.base.errors import InputError, must
from atypia.methods.catalogue import TERMS
from atypia.methods.options import TermOptions
from atypia.methods.term import HIDDEN, Batch, Term


class ContrastiveOptions(TermOptions):
    """Multi-Similarity mining and the supervised contrastive loss, on the final hidden layer."""

    weight: float = Field(default=0.5, gt=0)
    temperature: float = Field(default=0.1, gt=0)
    epsilon: float = Field(default=0.1, ge=0)


@TERMS.register("contrastive")
class Contrastive(Term[ContrastiveOptions]):
    """Supervised contrastive loss over mined pairs; see :func:`mined_contrastive`."""

    Options = ContrastiveOptions
    summary = "supervised contrastive loss over mined pairs of the final hidden layer"
    formula = "−1/|P(a)| Σ_p log(exp(s_ap/τ) / Σ_k exp(s_ak/τ)), mean over anchors a"
    source = "Khosla et al. 2020, eq. 2; mining of Wang et al. 2019; Giedziun et al."
    needs = frozenset({HIDDEN})

    def forward(self, batch: Batch) -> Tensor:
        classes = (batch.targets >= 0.5).long()  # for a mixed figure: the class with the larger share
        return mined_contrastive(batch.out.hidden.float(), classes, self.options.epsilon, self.options.temperature)


def cosine_similarity(embeddings: Tensor) -> Tensor:
    """Cosine of every pair, (b, b), from embeddings (b, c).

    In single precision also under autocast: a temperature of 0.1 would magnify the rounding of bf16 tenfold.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        z = F.normalize(embeddings.float(), dim=1)
        return z @ z.T


def mine(embeddings: Tensor, labels: Tensor, epsilon: float = 0.1) -> tuple[Tensor, Tensor]:
    """Multi-Similarity mining (Wang et al. 2019, eq. 5–6) on cosine similarities.

    A negative pair is kept where it is more similar than the anchor's least similar positive less
    ε; a positive pair where it is less similar than the anchor's most similar negative plus ε.

    Args:
        embeddings: Shape (b, c).
        labels: Shape (b,), integer classes.
        epsilon: ε, 0.1 in Giedziun et al.

    Returns:
        Boolean masks (b, b) of positive and of negative pairs, anchors in rows.
    """
    similarity = cosine_similarity(embeddings.detach())
    same = labels[:, None] == labels[None, :]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    positive, negative = same & ~itself, ~same
    inf = torch.inf
    least_positive = similarity.masked_fill(~positive, inf).amin(1, keepdim=True)
    most_negative = similarity.masked_fill(~negative, -inf).amax(1, keepdim=True)
    kept_negative = negative & (similarity > least_positive - epsilon) & torch.isfinite(least_positive)
    kept_positive = positive & (similarity < most_negative + epsilon) & torch.isfinite(most_negative)
    return kept_positive, kept_negative


def supervised_contrastive(embeddings: Tensor, positive: Tensor, negative: Tensor, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss over given pairs (Khosla et al. 2020, eq. 2, «outside» form).

    For each anchor a with positives P(a): ``−1/|P(a)| Σ_p log( exp(s_ap/τ) / Σ_{k ∈ P(a) ∪ N(a)}
    exp(s_ak/τ) )`` with cosine similarities s; mean over the anchors that have a positive pair.
    0 where there is none.

    Args:
        embeddings: Shape (b, c); normalised here.
        positive: Boolean mask (b, b) of positive pairs, anchors in rows.
        negative: Boolean mask (b, b) of negative pairs.
        temperature: τ, 0.1 in Giedziun et al.
    """
    if not temperature > 0:
        raise InputError(must("temperature", "positive", temperature, "use 0.1 as Giedziun et al. do"))
    logits = cosine_similarity(embeddings) / temperature
    taking_part = positive | negative
    log_total = torch.logsumexp(logits.masked_fill(~taking_part, -torch.inf), dim=1, keepdim=True)
    anchors = positive.any(1)
    if not bool(anchors.any()):
        return embeddings.sum() * 0
    log_p = (logits - log_total).masked_fill(~positive, 0.0)
    per_anchor = -log_p.sum(1)[anchors] / positive.sum(1)[anchors]
    return per_anchor.mean()


def mined_contrastive(embeddings: Tensor, labels: Tensor, epsilon: float = 0.1, temperature: float = 0.1) -> Tensor:
    """Supervised contrastive loss over the pairs that :func:`mine` keeps; a scalar ≥ 0."""
    positive, negative = mine(embeddings, labels, epsilon)
    return supervised_contrastive(embeddings, positive, negative, temperature)
