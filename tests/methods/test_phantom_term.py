"""The term `phantom`: its formula, where its gradient goes, and what it leaves alone."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from atypia.base.errors import InputError
from atypia.base.seeds import derive_seed
from atypia.methods.catalogue import TERMS
from atypia.methods.network import Network, build_network
from atypia.methods.options import RenderedSet
from atypia.methods.term import Batch, Rendered, Setting
from atypia.methods.terms.phantom import Phantom, PhantomOptions, running_statistics_kept
from atypia.training.epochs.objective import Objective, StepInput
from atypia.training.networks import network_spec
from atypia.training.recipe import load_recipe
from atypia.training.schema import NetworkRecipe

from .tiny import SIDE, recipe_with

KINDS = ("red", "green", "blue")


recipe = partial(recipe_with, "phantom")


class Drawn:
    """Images of three colours, and every request for them."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(self, seed: int, count: int) -> tuple[Tensor, Tensor]:
        self.asked.append((seed, count))
        draw = torch.Generator().manual_seed(seed)
        codes = torch.randint(0, len(KINDS), (count,), generator=draw)
        images = 0.3 * torch.randn(count, 3, SIDE, SIDE, generator=draw)
        return images + nn.functional.one_hot(codes, 3)[:, :, None, None], codes

    @property
    def rendered(self) -> Rendered:
        return Rendered(KINDS, self)


def built(made: NetworkRecipe, drawn: Drawn) -> tuple[Network, Objective]:
    network = build_network(network_spec(made), pretrained=False, seed=3).train()
    objective = Objective(made, network.encoder.feature_dim, 2, seed=5, rendered={"phantom": drawn.rendered})
    objective.start_epoch(0, 1.0)
    return network, objective


def given(seed: int = 7, count: int = 8) -> StepInput:
    draw = torch.Generator().manual_seed(seed)
    images = torch.randn(count, 3, SIDE, SIDE, generator=draw)
    return StepInput(images, torch.arange(count) % 2.0, torch.arange(count) % 2, 0.5, seed)


def term_of(objective: Objective) -> Phantom:
    term = objective.terms["phantom"]
    assert isinstance(term, Phantom)
    return term


def test_it_is_the_cross_entropy_of_its_head_on_pooled_features() -> None:
    drawn = Drawn()
    network, objective = built(recipe(), drawn)
    network.eval()
    found = objective(network, None, given())
    ((seed, count),) = drawn.asked
    assert (seed, count) == (derive_seed(7, "phantom"), 2)  # a quarter of eight
    images, codes = drawn(seed, count)
    scores = network(images).pooled @ term_of(objective).head.weight.T + term_of(objective).head.bias
    by_hand = -scores.log_softmax(1)[torch.arange(count), codes].mean()
    torch.testing.assert_close(found["loss_phantom"], by_hand)
    torch.testing.assert_close(found["loss"], found["loss_main"] + 0.3 * by_hand)


@pytest.mark.parametrize(("share", "count"), [(0.01, 2), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_its_share_of_the_batch_is_at_least_two_figures(share: float, count: int) -> None:
    drawn = Drawn()
    network, objective = built(recipe(terms=[{"name": "phantom", "share": share}]), drawn)
    objective(network, None, given())
    assert [asked for _, asked in drawn.asked] == [count]


@pytest.mark.parametrize("cbam", [False, True])
def test_its_gradient_reaches_the_backbone_and_never_the_classifier(cbam: bool) -> None:
    network, objective = built(recipe(cbam=cbam), Drawn())
    objective(network, None, given())["loss_phantom"].backward()
    reached = {name.partition(".")[0] for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {"encoder", "neck"} if cbam else reached == {"encoder"}
    assert all(p.grad is None for part in (network.hidden, network.head) for p in part.parameters())
    assert all(p.grad is not None and p.grad.any() for p in objective.modules_trained.parameters())


def test_the_main_loss_is_what_it_is_without_the_term() -> None:
    """Same logits, same gradient of the classifier: nothing of the rendered figures gets into them."""
    found = {}
    for terms in ([], [{"name": "phantom"}]):
        network, objective = built(recipe(terms=terms), Drawn())
        losses = objective(network, None, given())
        losses["loss"].backward()
        assert network.head.weight.grad is not None
        found[len(terms)] = (losses["loss_main"].detach(), network.head.weight.grad)
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])


def test_mixup_leaves_rendered_figures_alone() -> None:
    drawn = Drawn()
    network, objective = built(recipe(mixup={"alpha": 1.0}), drawn)
    network.eval()
    found = objective(network, None, given())["loss_phantom"]
    images, codes = drawn(*drawn.asked[0])
    scores = term_of(objective).head(network(images).pooled)
    torch.testing.assert_close(found, nn.functional.cross_entropy(scores, codes))


def test_running_statistics_stay_those_of_real_figures() -> None:
    states = []
    for terms in ([], [{"name": "phantom"}]):
        network, objective = built(recipe(terms=terms), Drawn())
        objective(network, None, given())
        states.append({name: value for name, value in network.named_buffers() if "running" in name or "num_" in name})
    assert states[0] and all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_batch_norm_uses_the_statistics_of_the_batch_meanwhile() -> None:
    norm = nn.BatchNorm1d(2).train()
    values = torch.tensor([[1.0, 10.0], [3.0, 30.0]])
    expected = norm(values)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    with pytest.raises(RuntimeError, match="broken"), running_statistics_kept(norm):
        torch.testing.assert_close(norm(values), expected)
        raise RuntimeError("broken")
    assert norm.track_running_stats
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    norm(values)
    assert not torch.equal(norm.running_mean, before["running_mean"])  # pyright: ignore[reportArgumentType]


def test_its_loss_falls_and_its_head_learns_the_categories() -> None:
    drawn = Drawn()
    network, objective = built(recipe(terms=[{"name": "phantom", "weight": 1.0, "share": 1.0}]), drawn)
    optimiser = torch.optim.Adam([*network.parameters(), *objective.modules_trained.parameters()], lr=3e-3)
    losses = []
    for step in range(40):
        found = objective(network, None, given(step, 16))
        optimiser.zero_grad()
        found["loss"].backward()
        optimiser.step()
        losses.append(float(found["loss_phantom"].detach()))
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    images, codes = drawn(12345, 60)
    with torch.no_grad():
        said = term_of(objective).head(network(images).pooled).argmax(1)
    assert float((said == codes).float().mean()) > 0.8


def test_a_checkpoint_holds_its_head() -> None:
    _, one = built(recipe(), Drawn())
    _, other = built(recipe(), Drawn())
    state = {name: value + 1 for name, value in one.modules_trained.state_dict().items()}
    assert sorted(state) == ["phantom.head.bias", "phantom.head.weight"]
    other.load_state_dict(state)
    assert torch.equal(term_of(other).head.weight, term_of(one).head.weight + 1)


def test_its_options_ask_for_a_set() -> None:
    assert PhantomOptions(name="phantom").rendered == RenderedSet(2048, 18, "phases")
    other = PhantomOptions(name="phantom", figures=100, seed=4, task="classes")
    assert other.rendered == RenderedSet(100, 4, "classes")
    assert all(TERMS[name].Options(name=name).rendered is None for name in TERMS.shipped() if name != "phantom")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"figures": 5}, r"`terms.0.figures`: Input should be greater than or equal to 24, got 5"),
        ({"share": 0}, r"`terms.0.share`: Input should be greater than 0, got 0"),
        ({"share": 2}, r"`terms.0.share`: Input should be less than or equal to 1, got 2"),
        ({"task": "kinds"}, r"`terms.0.task`: Input should be 'phases' or 'classes', got 'kinds'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        recipe(terms=[{"name": "phantom", **options}])


def test_without_rendered_figures_or_a_network_it_says_what_lacks() -> None:
    options = PhantomOptions(name="phantom")
    with pytest.raises(InputError, match=r"setting of the term phantom.*with rendered figures, got None; fix: "):
        Phantom(options, Setting(4, 2))
    zero = torch.zeros(2)
    batch = Batch(
        images=torch.zeros(2, 3, SIDE, SIDE), targets=zero, domains=zero.long(), out=None, losses=zero,  # pyright: ignore[reportArgumentType]
        risk=lambda z: z, done=0.0, epoch=0.0, seed=0,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"batch.*one with its network, got None; fix: "):
        Phantom(options, Setting(4, 2, rendered=Drawn().rendered))(batch)


def test_a_probe_refuses_it() -> None:
    with pytest.raises(InputError, match=r"`terms` must be absent where features are frozen.*fix: adaptation: lora"):
        load_recipe("probe", ["terms.phantom.weight=0.3"])
