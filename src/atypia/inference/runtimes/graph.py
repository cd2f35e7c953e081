"""What is exported: one module from stored crops to logits and features.

Everything between the pixels of a crop and the network is constant, so it becomes part of the graph:
the cut to what the network sees, the antialiased resize (two constant matrices, ``R x Rᵀ``), and the
normalisation (one multiplication and one addition). Who runs the graph hands over uint8 pixels.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atypia.backbones.build import Encoder, build, folded
from atypia.backbones.weights import locate
from atypia.base.artifacts import canonical_json
from atypia.base.seeds import generator
from atypia.inference.bundles.bundle import BIAS, FINGERPRINT, PROBE, WEIGHT, Bundle, check_weights
from atypia.inference.crops import Frame
from atypia.inference.networks import load_network
from atypia.methods.network import Network

TRAINING_ONLY: Final = {"mixstyle_stages": (), "checkpointing": False, "drop_path": 0.0}
"""Parts of an architecture that do nothing at inference; built without them, nothing of them is traced."""


class Scorer(nn.Module):
    """A network with its head: normalised crops (b, 3, p, p) to logits (b,) and pooled features (b, d).

    Attributes:
        feature_dim: d.
    """

    feature_dim: int


class ProbeScorer(Scorer):
    """A linear head on a frozen backbone's raw features.

    Args:
        encoder: The backbone, in evaluation mode.
        weight: Shape (feature_dim,).
        bias: The intercept.
    """

    def __init__(self, encoder: Encoder, weight: npt.NDArray[np.float64], bias: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.feature_dim = encoder.feature_dim
        self.head = nn.Linear(encoder.feature_dim, 1)
        with torch.no_grad():
            self.head.weight.copy_(torch.from_numpy(weight)[None])
            self.head.bias.fill_(bias)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (b,) and features (b, d)."""
        features = self.encoder(images)
        return self.head(features).squeeze(1), features


NOVELTY_STRIDES: Final = (8, 16)
"""Strides of the stages whose channel means are features too: a tuned network's last features ignore whatever is no
figure, these do not (docs/decision.md)."""
NOVELTY_DEPTH: Final = 1 / 3
"""The same of a transformer: the share of its blocks after which the mean of the tokens is taken."""


class NetworkScorer(Scorer):
    """A trained network. Its features: pooled, and the channel means of middle stages or of a middle block's tokens.

    Args:
        network: In evaluation mode, adapters merged.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        chosen = middle(network)
        self.stages = [index for index, _ in chosen]
        self.feature_dim = network.encoder.feature_dim + sum(channels for _, channels in chosen)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (b,) and features (b, d)."""
        if not self.stages:
            out = self.network(images)
            return out.logits, out.pooled
        net: Any = self.network.encoder.net
        # A transformer's middle tokens pass its last norm too, and so count like the pooled features.
        norm = {} if self.network.encoder.pooling == "avg" else {"norm": True}
        last, maps = net.forward_intermediates(images, indices=self.stages, **norm)
        out = self.network.after_last(last)
        return out.logits, torch.cat([out.pooled, *(stage.mean((2, 3)) for stage in maps)], dim=1)


def middle(network: Network) -> list[tuple[int, int]]:
    """Which intermediate maps of a network are features too: their index and number of channels."""
    net = network.encoder.net
    info: Any = getattr(net, "feature_info", None)
    if not info or not hasattr(net, "forward_intermediates"):
        return []
    if network.encoder.pooling == "avg":
        found = {stage["reduction"]: (index, stage["num_chs"]) for index, stage in enumerate(info)}
        return [found[stride] for stride in NOVELTY_STRIDES if stride in found]
    blocks = len(info)
    return [(max(0, round(blocks * NOVELTY_DEPTH) - 1), info[0]["num_chs"])]


class Deployable(nn.Module):
    """A classifier from pixels to logits.

    Args:
        scorer: The network.
        frame: What of a crop the network sees, and at which size.
        side_px: Side of the crops.
        mean: Mean of RGB in [0, 1] that the network's inputs are normalised with.
        std: Standard deviation, likewise.
    """

    matrix: Tensor | None
    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        scorer: Scorer,
        frame: Frame,
        side_px: int,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
    ) -> None:
        super().__init__()
        self.scorer = scorer
        self.side_px = side_px
        seen = frame.seen_px(side_px)
        # Whole numbers here, not in `forward`: an exporter that traces would see shapes as tensors.
        self.first, self.end = (side_px - seen) // 2, (side_px + seen) // 2
        self.register_buffer("matrix", None if seen == frame.input_px else resize_matrix(seen, frame.input_px))
        deviation = torch.tensor(std, dtype=torch.float64)
        self.register_buffer("scale", (1 / (255 * deviation)).float().view(1, 3, 1, 1))
        self.register_buffer("shift", (-torch.tensor(mean, dtype=torch.float64) / deviation).float().view(1, 3, 1, 1))

    @property
    def feature_dim(self) -> int:
        """Length of a feature vector."""
        return self.scorer.feature_dim

    def normalised(self, crops: Tensor) -> Tensor:
        """What enters the network: crops (b, s, s, 3) uint8 to (b, 3, input_px, input_px) float32."""
        # Cut and turned as uint8: a quarter of the bytes.
        seen = crops[:, self.first : self.end, self.first : self.end]
        images = seen.permute(0, 3, 1, 2).contiguous().float()
        if self.matrix is not None:
            images = torch.matmul(torch.matmul(self.matrix, images), self.matrix.T)
        return images * self.scale + self.shift

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor]:
        """Scores crops.

        Args:
            crops: RGB, shape (b, s, s, 3), uint8.

        Returns:
            Logits of the positive class, shape (b,), and features, shape (b, d), float32; the first are the pooled.
        """
        return self.scorer(self.normalised(crops))


class ClassTokenBlock(nn.Module):
    """A transformer's last block for its class token alone: the same numbers, for a quarter of the work.

    Nothing after the last block reads the other tokens of a network whose features are the class token. They are still
    keys and values, but no queries, and neither the projection nor the layers after the attention are computed for them.

    Args:
        block: timm's, with its own attention.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (b, t, c) to the class token after the block, (b, 1, c)."""
        block: Any = self.block
        attention = block.attn
        b, t, _ = tokens.shape
        parts = attention.qkv(block.norm1(tokens)).reshape(b, t, 3, attention.num_heads, attention.head_dim)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4).unbind(0)
        found = F.scaled_dot_product_attention(
            attention.q_norm(queries[:, :, :1]), attention.k_norm(keys), values, scale=attention.scale
        )
        found = attention.proj(attention.norm(found.transpose(1, 2).reshape(b, 1, -1)))
        token = tokens[:, :1] + block.ls1(found)
        return token + block.ls2(block.mlp(block.norm2(token)))


def without_idle_tokens(module: Deployable) -> Deployable:
    """Makes a transformer's last block skip what nothing reads (:class:`ClassTokenBlock`), in place.

    Other networks, and transformers whose features are more than the class token, stay what they are.
    """
    encoder = next((part for part in module.modules() if isinstance(part, Encoder)), None)
    blocks: Any = None if encoder is None else getattr(encoder.net, "blocks", None)
    if encoder is None or encoder.pooling != "cls" or not blocks:
        return module
    from timm.layers.attention import Attention
    from timm.models.vision_transformer import Block

    last, scorer = blocks[-1], module.scorer
    is_read = isinstance(scorer, NetworkScorer) and len(blocks) - 1 in scorer.stages
    if (
        type(last) is Block
        and type(last.attn) is Attention
        and getattr(last.attn, "gate", None) is None
        and not is_read
    ):
        blocks[-1] = ClassTokenBlock(last)
    return module


def resize_matrix(source_px: int, target_px: int) -> Tensor:
    """Antialiased bilinear resampling of one axis as a matrix: shape (target_px, source_px), rows sum to 1.

    The weights are those of torch's own resize, read off its answer to unit vectors.
    """
    unit = torch.eye(source_px, dtype=torch.float64)[None, None]
    answer = F.interpolate(unit, (target_px, source_px), mode="bilinear", antialias=True, align_corners=False)
    return answer[0, 0].float()


def deployable(bundle: Bundle, weights_file: Path | None = None) -> Deployable:
    """The module of a bundle: adapters merged, batch norms folded, in evaluation mode on the CPU.

    Args:
        bundle: Of any adaptation.
        weights_file: A file of the user with the backbone's weights.

    Raises:
        AbsentError: The backbone's weights are not on this machine, or are others than the bundle was made with.
        InputError: The bundle's tensors do not fit its architecture.
    """
    preparation = bundle.preparation
    entry = preparation.entry(bundle.backbone)
    if bundle.adaptation == PROBE:
        check_weights(bundle, locate(bundle.backbone, weights_file).sha256)
        encoder = folded(build(bundle.backbone, bundle.input_px, weights_file, entry.pooling))
        scorer: Scorer = ProbeScorer(encoder, bundle.tensors[WEIGHT], float(bundle.tensors[BIAS][0]))
    else:
        network = load_network(replace(bundle, network={**(bundle.network or {}), **TRAINING_ONLY}), weights_file)
        if network.neck is None:
            network.encoder = folded(network.encoder)
        scorer = NetworkScorer(network)
    frame = Frame(bundle.input_px, preparation.view)
    return Deployable(scorer, frame, bundle.geometry.out_px, entry.mean, entry.std).eval().requires_grad_(False)


def exported_config(bundle: Bundle) -> dict[str, Any]:
    """What an exported network carries of its bundle: what is read from ``config.json``, fingerprint included."""
    return json.loads(canonical_json({**bundle.config, FINGERPRINT: bundle.fingerprint}))


def sample_crops(side_px: int, count: int = 8) -> npt.NDArray[np.uint8]:
    """Crops on which an exported graph is compared with torch: half random pixels, half rendered figures.

    Returns:
        RGB, shape (count, side_px, side_px, 3), the same at every call.
    """
    random = generator(0, "export", "random").integers(0, 256, (count - count // 2, side_px, side_px, 3), np.uint8)
    return np.concatenate([random, rendered_crops(side_px, count // 2)]) if count > 1 else random


def rendered_crops(side_px: int, count: int, severity: float = 0.5) -> npt.NDArray[np.uint8]:
    """Rendered figures, normal and tripolar in turn.

    Returns:
        RGB, shape (count, side_px, side_px, 3), the same at every call; count at least 1.
    """
    from atypia.data.images.geometry import resize
    from atypia.data.phantom.domains import DOMAINS
    from atypia.data.phantom.render import render_crop

    domains = list(DOMAINS.values())
    return np.stack(
        [
            resize(render_crop(domains[i % len(domains)], ("metaphase", "tripolar")[i % 2], severity, 0, i), side_px)
            for i in range(count)
        ]
    )
