"""The network that is trained: a backbone, optional refinement of its feature maps, and a head with one logit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, nn

from atypia.backbones.build import Encoder, architecture, build, resize_input
from atypia.backbones.catalogue import BACKBONES, Backbone, Pooling, check_input_px
from atypia.backbones.preparation import Channels, Preparation
from atypia.base.errors import InputError, must
from atypia.methods.attention import CBAM
from atypia.methods.lora import add_lora, merge_lora
from atypia.methods.mixing import MixStyle


class Output(NamedTuple):
    """The network's output for a batch of b crops.

    Attributes:
        logits: Logit of the positive class, shape (b,).
        hidden: Input of the last linear layer, shape (b, k).
        pooled: Pooled features, shape (b, c).
        aligned: Input of the alignment loss: refined maps (b, c, h, w), or ``pooled``.
    """

    logits: Tensor
    hidden: Tensor
    pooled: Tensor
    aligned: Tensor


@dataclass(frozen=True)
class NetworkSpec:
    """Everything that a network's architecture depends on; kept in its bundle.

    Attributes:
        backbone: Entry of the backbone catalogue.
        input_px: Side of the input.
        view: Share of the crop's side that the network sees, from its middle.
        adaptation: ``full``, ``lora`` or ``partial``.
        hidden: Widths of the head's hidden layers.
        dropout: Dropout on the input of the head's linear layers, but not on the pooled features where
            there are hidden layers.
        lora_rank: r of the adapters; 0 without.
        lora_alpha: α of the adapters.
        lora_dropout: Dropout of the adapters.
        train_last_blocks: For ``partial``: how many of the last blocks are trained.
        cbam: Whether CBAM refines the feature maps.
        mixstyle_stages: Stages after which MixStyle acts in training.
        mixstyle_alpha: α of MixStyle.
        mixstyle_probability: Probability that a batch is mixed.
        checkpointing: Whether activations are recomputed in the backward pass.
        drop_path: Stochastic depth.
        mean: Mean of RGB in [0, 1] that inputs are normalised with; None: the catalogue's.
        std: Standard deviation, likewise.
        pooling: How the backbone's output becomes one vector; None: the catalogue's.
        lora_targets: Names of the maps that LoRA adapts, of :data:`atypia.methods.lora.PARTS`; none: all of the backbone's.
    """

    backbone: str
    input_px: int
    adaptation: str
    hidden: tuple[int, ...] = ()
    dropout: float = 0.0
    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_dropout: float = 0.0
    train_last_blocks: int = 2
    cbam: bool = False
    mixstyle_stages: tuple[int, ...] = ()
    mixstyle_alpha: float = 0.1
    mixstyle_probability: float = 0.5
    checkpointing: bool = False
    drop_path: float = 0.0
    view: float = 1.0
    mean: Channels | None = None
    std: Channels | None = None
    pooling: Pooling | None = None
    lora_targets: tuple[str, ...] = ()

    @property
    def preparation(self) -> Preparation:
        """How crops enter the backbone, and which of its outputs is used."""
        return Preparation(self.mean, self.std, self.pooling, self.view)

    @property
    def entry(self) -> Backbone:
        """The catalogue's entry with the network's own normalisation and pooling."""
        return self.preparation.entry(self.backbone)

    def as_dict(self) -> dict[str, Any]:
        """JSON-able, for a bundle's configuration.

        Keys that came later are left out where they are not used: bundles of networks without them stay what they are.
        """
        return {key: value for key, value in asdict(self).items() if key not in LATER_KEYS or value}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> NetworkSpec:
        """Restores what :meth:`as_dict` gave."""
        tuples = {key: tuple(values[key]) for key in TUPLE_KEYS if values.get(key) is not None}
        return cls(**{**values, **tuples})


LATER_KEYS: Final = frozenset({"mean", "std", "pooling", "lora_targets"})
"""Keys of a :class:`NetworkSpec` that version 0.1 did not have."""
TUPLE_KEYS: Final = ("hidden", "mixstyle_stages", "mean", "std", "lora_targets")


class Network(nn.Module):
    """A backbone with a head; see :func:`build_network`."""

    def __init__(self, encoder: Encoder, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = encoder
        self.neck = CBAM(encoder.feature_dim) if spec.cbam else None
        widths = [encoder.feature_dim, *spec.hidden]
        self.hidden = nn.Sequential()
        for i, (before, after) in enumerate(pairwise(widths)):
            self.hidden.append(
                nn.Sequential(nn.Dropout(spec.dropout if i else 0.0), nn.Linear(before, after), nn.GELU())
            )
        self.head_dropout = nn.Dropout(spec.dropout)
        self.head = nn.Linear(widths[-1], 1)
        self.trained_names: frozenset[str] = frozenset()
        """Names of the tensors that training changes: parameters and running statistics."""

    def train(self, mode: bool = True) -> Network:
        """As in torch, but frozen normalisation layers stay in evaluation mode, so that their statistics stay fixed."""
        super().train(mode)
        for name, module in self.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and f"{name}.running_mean" not in self.trained_names:
                module.eval()
        return self

    def forward(self, images: Tensor) -> Output:
        """Scores normalised crops (b, 3, input_px, input_px)."""
        if self.neck is not None:
            return self.after_maps(self.encoder.net.forward_features(images))  # pyright: ignore[reportCallIssue]
        return self._headed(self.encoder(images))

    def after_last(self, last: Tensor) -> Output:
        """Scores the last output of a backbone: feature maps (b, c, h, w), or a transformer's tokens (b, t, c)."""
        if self.encoder.pooling != "avg":
            return self._headed(self.encoder.pooled(last))
        return self.after_maps(last)

    def after_maps(self, maps: Tensor) -> Output:
        """Scores the last feature maps (b, c, h, w) of a convolutional backbone."""
        aligned = maps if self.neck is None else self.neck(maps)
        # The backbone's own pooling, including the norm that some backbones apply afterwards.
        pooled = self.encoder.net.forward_head(aligned, pre_logits=True)  # pyright: ignore[reportCallIssue]
        return self._headed(pooled, None if self.neck is None else aligned)

    def _headed(self, pooled: Tensor, aligned: Tensor | None = None) -> Output:
        hidden = self.hidden(pooled)
        logits = self.head(self.head_dropout(hidden)).squeeze(1)
        return Output(logits, hidden, pooled, pooled if aligned is None else aligned)

    def trained_state(self) -> dict[str, Tensor]:
        """Copies of the tensors that training changes: trained parameters and running statistics, by name.

        A moving average of the network gives the same names, although nothing in it has a gradient.
        """
        return {name: value.detach().clone() for name, value in self.state_dict().items() if name in self.trained_names}

    def load_trained(self, state: Mapping[str, Tensor]) -> None:
        """Loads what :meth:`trained_state` gave.

        Raises:
            InputError: A tensor is missing, unknown, or of another shape; nothing is loaded then.
        """
        differ = sorted(self.trained_names ^ set(state))
        if differ:
            got = f"{len(differ)} missing or unknown, such as {differ[0]}"
            raise InputError(must("weights", "those of this network", got, "train again"))
        own = self.state_dict(keep_vars=True)
        for name, value in state.items():
            if own[name].shape != value.shape:
                raise InputError(must(name, f"of shape {tuple(own[name].shape)}", tuple(value.shape), "train again"))
        with torch.no_grad():
            for name, value in state.items():
                own[name].copy_(value)

    def parameter_counts(self) -> dict[str, int]:
        """Numbers of parameters: all and trained."""
        parameters = list(self.parameters())
        return {"parameters": sum(p.numel() for p in parameters),
                "trained": sum(p.numel() for p in parameters if p.requires_grad)}  # fmt: skip

    def merged(self) -> Network:
        """Adds the adapters to the weights, in place, so that inference is as fast as with the backbone alone."""
        if self.spec.adaptation == "lora":
            merge_lora(self.encoder.net)
            self.trained_names &= frozenset(self.state_dict())
        return self


def build_network(
    spec: NetworkSpec, weights_file: Path | None = None, pretrained: bool = True, seed: int = 0
) -> Network:
    """Builds a network, its new layers drawn from the seed.

    Args:
        spec: The architecture.
        weights_file: A file of the user with the backbone's weights.
        pretrained: Whether the backbone starts from its pretrained weights; else from random ones.
        seed: Of the new layers, and of the backbone if it is not pretrained.

    Raises:
        InputError: A combination that cannot work, with the reason.
        AbsentError: The backbone's weights are not on this machine.
    """
    check_spec(spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = build(spec.backbone, spec.input_px, weights_file, spec.pooling) if pretrained else _untrained(spec)
        encoder.entry = spec.entry
        network = Network(encoder, spec)
        nn.init.zeros_(network.head.bias)
        net = encoder.net
        if spec.adaptation == "lora":
            targets = BACKBONES[spec.backbone].lora_targets
            add_lora(net, targets, spec.lora_rank, spec.lora_alpha, spec.lora_dropout, spec.lora_targets)
        elif spec.adaptation == "partial":
            _train_last(net, spec.train_last_blocks)
    network.trained_names = _trained_names(network)
    if spec.checkpointing:
        net.set_grad_checkpointing(True)  # pyright: ignore[reportCallIssue]
    if spec.drop_path:
        _set_drop_path(net, spec.drop_path)
    _add_mixstyle(net, spec)
    return network


def check_spec(spec: NetworkSpec) -> None:
    """Refuses combinations that cannot work, before any weights are loaded.

    Raises:
        InputError: With the reason.
    """
    entry = spec.entry
    check_input_px(entry, spec.input_px)
    if spec.adaptation not in ("full", "lora", "partial"):
        raise InputError(must("adaptation", "full, lora or partial", spec.adaptation, "use full"))
    if spec.adaptation == "lora":
        if entry.lora_targets is None:
            reason = f"{entry.name} ({entry.lora_reason})"
            raise InputError(must("backbone", "one that LoRA can adapt", reason, "use adaptation: full"))
        if spec.lora_rank < 1:
            raise InputError(must("lora.rank", "at least 1", spec.lora_rank, "use 8"))
    needs_maps = " and ".join(
        name for name, on in (("cbam", spec.cbam), ("mixstyle", bool(spec.mixstyle_stages))) if on
    )
    if needs_maps and entry.pooling != "avg":
        raise InputError(
            must("backbone", f"one with feature maps for {needs_maps}", f"{entry.name} (it has tokens)",
                 "choose a convolutional backbone, or drop the section")
        )  # fmt: skip
    if needs_maps or spec.adaptation == "partial" or spec.drop_path:
        _check_parts(spec, needs_maps)


def _check_parts(spec: NetworkSpec, needs_maps: str) -> None:
    """Checks whether the architecture has the parts that the spec needs; no memory is used for weights."""
    with torch.device("meta"):
        net = architecture(BACKBONES[spec.backbone])
    count = len(stages(net))
    if needs_maps and str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC"):
        got = f"{spec.backbone} (its maps have the channels last)"
        raise InputError(must("backbone", f"one with maps (b, c, h, w) for {needs_maps}", got, "drop the section"))
    if spec.mixstyle_stages and not 0 <= min(spec.mixstyle_stages) <= max(spec.mixstyle_stages) < count:
        got = f"{list(spec.mixstyle_stages)} for {spec.backbone}"
        raise InputError(must("mixstyle.stages", f"between 0 and {count - 1}", got, "choose others"))
    if spec.adaptation == "partial" and not 1 <= spec.train_last_blocks <= count:
        got = f"{spec.train_last_blocks} for {spec.backbone}"
        fix = "choose fewer, or adaptation: full"
        raise InputError(must("train_last_blocks", f"between 1 and {count}", got, fix))
    if spec.drop_path and not _residual_blocks(net):
        got = f"{spec.drop_path} for {spec.backbone}"
        raise InputError(must("drop_path", "0 where no block can be skipped", got, "use head.dropout"))


def _trained_names(network: Network) -> frozenset[str]:
    """Parameters with a gradient, and the buffers of the modules that hold one; all buffers in full training."""
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    owners = {name.rpartition(".")[0] for name in trained}
    full = network.spec.adaptation == "full"
    buffers = {name for name, _ in network.named_buffers() if full or name.rpartition(".")[0] in owners}
    return frozenset((trained | buffers) & set(network.state_dict()))


def _untrained(spec: NetworkSpec) -> Encoder:
    entry = spec.entry
    net = architecture(entry)
    resize_input(net, entry, spec.input_px)
    return Encoder(net, entry, spec.input_px).eval()


def stages(net: nn.Module) -> list[nn.Module]:
    """The stages of a convolutional timm network, in order, whatever their attribute is called."""
    for name in ("stages", "blocks", "layers"):
        found = getattr(net, name, None)
        if isinstance(found, nn.Sequential | nn.ModuleList) and len(found) > 1:
            return list(found)
    numbered = [getattr(net, f"layer{i}") for i in range(1, 5) if hasattr(net, f"layer{i}")]
    if numbered:
        return numbered
    features = getattr(net, "features", None)
    if isinstance(features, nn.Sequential):
        return [module for name, module in features.named_children() if name.startswith("denseblock")]
    return []


def _add_mixstyle(net: nn.Module, spec: NetworkSpec) -> None:
    """MixStyle after the chosen stages, by forward hooks: the network's own code and names do not change."""
    if not spec.mixstyle_stages:
        return
    found = stages(net)
    for index in sorted(set(spec.mixstyle_stages)):
        mix = MixStyle(spec.mixstyle_alpha, spec.mixstyle_probability)

        def hook(module: nn.Module, inputs: object, out: Tensor, mix: MixStyle = mix) -> Tensor:
            mix.train(module.training)
            return mix(out)

        # With checkpointing, timm calls the blocks of all stages and never a stage itself.
        stage = found[index]
        (stage[-1] if isinstance(stage, nn.Sequential) else stage).register_forward_hook(hook)


def _train_last(net: nn.Module, count: int) -> None:
    """Freezes what comes before the last blocks, in the order in which the network registers its parts.

    So norms and convolutions between and after these blocks are trained with them.
    """
    first = stages(net)[-count]
    net.requires_grad_(False)
    begun = False
    for module in net.modules():
        begun = begun or module is first
        if begun:
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(True)


def _residual_blocks(net: nn.Module) -> list[tuple[nn.Module, list[str]]]:
    """Blocks that stochastic depth can skip, with the attribute for it, which timm leaves empty at rate 0."""
    from timm.layers.drop import DropPath

    places = ("drop_path", "drop_path1", "drop_path2")
    found = []
    for module in net.modules():
        if not getattr(module, "has_skip", True):
            continue  # an inverted residual whose output has another shape than its input has no skip connection
        names = [
            name for name in places
            if hasattr(module, name) and isinstance(getattr(module, name), DropPath | nn.Identity | None)
        ]  # fmt: skip
        if names:
            found.append((module, names))
    return found


def _set_drop_path(net: nn.Module, rate: float) -> None:
    """Stochastic depth that grows linearly from 0 at the first block to ``rate`` at the last (Huang et al. 2016)."""
    from timm.layers.drop import DropPath

    blocks = _residual_blocks(net)
    for i, (block, names) in enumerate(blocks):
        for name in names:
            setattr(block, name, DropPath(rate * i / max(1, len(blocks) - 1)))
