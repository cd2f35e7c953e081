"""The objective as a loop over registered terms: the numbers of version 0.1, both ways of writing, needs and refusals."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from atypia.base.errors import InputError
from atypia.methods.averaging import EMA
from atypia.methods.catalogue import TERMS, losses_table, samplers_table, terms_table
from atypia.methods.network import Output
from atypia.methods.options import TermOptions
from atypia.methods.term import DOMAINS, NEEDS, SECOND, Batch, NamedPhases, Rendered, Term
from atypia.methods.terms.adversarial import AdversarialOptions
from atypia.splits.split import Fold
from atypia.training.epochs.objective import Objective, StepInput
from atypia.training.identity import recipe_identity, run_id
from atypia.training.recipe import OLD_TERMS, load_recipe, parse_recipe, shipped_recipes
from atypia.training.schema import NetworkRecipe

from . import loops

BASE = {"summary": "x", "adaptation": "full", "backbone": "tiny-cnn", "epochs": 4, "ema": {"momentum": 0.9}}

OLD: dict[str, dict[str, Any]] = {
    "alignment": {"alignment": {"weight": 0.7}},
    "adversarial": {"adversarial": {"weight": 0.3}},
    "bounded": {"adversarial": {"weight": 0.3, "ramp": False, "bounded": True}},
    "contrastive": {"contrastive": {"weight": 0.4, "temperature": 0.2}},
    "distillation": {"distillation": {"weight": 0.6, "warmup_epochs": 4}},
    "all": {
        "alignment": {"ramp": False}, "adversarial": {}, "contrastive": {}, "distillation": {"temperature": 3.0},
        "loss": {"name": "focal", "gamma": 1.5, "label_smoothing": 0.1, "soft_labels": True},
    },
    "mixed": {
        "alignment": {}, "contrastive": {}, "distillation": {}, "mixup": {"alpha": 0.4, "across_domains": True},
        "loss": {"name": "ce"},
    },
}  # fmt: skip

# What the objective of version 0.1 gave, before its terms were classes; `gradient` is the norm over all parameters.
REFERENCE: dict[str, dict[str, float]] = {
    "alignment": {
        "loss": 4.07396,
        "loss_main": 3.65935,
        "loss_alignment": 0.61439,
        "idle_alignment": 0.0,
        "gradient": 1.5692,
    },
    "adversarial": {
        "loss": 3.98817,
        "loss_main": 3.65935,
        "loss_adversarial": 1.09606,
        "idle_adversarial": 0.0,
        "gradient": 2.0212,
    },
    "bounded": {
        "loss": 3.98817,
        "loss_main": 3.65935,
        "loss_adversarial": 1.09606,
        "idle_adversarial": 0.0,
        "gradient": 2.0214,
    },
    "contrastive": {"loss": 6.29878, "loss_main": 3.65935, "loss_contrastive": 6.59856, "gradient": 1.5693},
    "distillation": {"loss": 3.66276, "loss_main": 3.65935, "loss_distillation": 0.0141786, "gradient": 1.5698},
    "all": {
        "loss": 9.70006,
        "loss_main": 2.9033,
        "loss_alignment": 0.61439,
        "loss_adversarial": 1.09606,
        "loss_contrastive": 12.1424,
        "loss_distillation": 0.0195539,
        "idle_alignment": 0.0,
        "idle_adversarial": 0.0,
        "gradient": 1.4802,
    },
    "mixed": {
        "loss": 8.49204,
        "loss_main": 1.45772,
        "loss_alignment": 0.634853,
        "loss_contrastive": 12.8433,
        "loss_distillation": 0.00799613,
        "idle_alignment": 0.0,
        "gradient": 0.80385,
    },
}


class Small(nn.Module):
    """A network of three matrices."""

    def __init__(self) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(5)
        self.first = nn.Parameter(torch.randn(12, 6, generator=draw))
        self.second = nn.Parameter(torch.randn(6, 4, generator=draw))
        self.third = nn.Parameter(torch.randn(4, generator=draw))

    def forward(self, images: Tensor) -> Output:
        pooled = images.flatten(1) @ self.first
        hidden = torch.tanh(pooled @ self.second)
        maps = images.mean((2, 3))[:, :, None, None] * pooled[:, :3, None, None]
        return Output(hidden @ self.third, hidden, pooled, maps)


def recipe_of(values: dict[str, Any]) -> NetworkRecipe:
    made = parse_recipe({**BASE, **values}, "recipe")
    assert isinstance(made, NetworkRecipe)
    return made


def as_terms(values: dict[str, Any]) -> dict[str, Any]:
    """The same recipe as it is written today."""
    terms = [{"name": name, **values[name]} for name in OLD_TERMS if name in values]
    return {**{key: value for key, value in values.items() if key not in OLD_TERMS}, "terms": terms}


def drawn(seed: int, count: int) -> tuple[Tensor, Tensor]:
    """Rendered figures of two categories."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, 2, 2, generator=draw), torch.arange(count) % 2


def measured(recipe: NetworkRecipe) -> dict[str, float]:
    network = Small()
    ema = EMA(network, 0.9)
    draw = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=draw))
    ema.update(network)
    phases = NamedPhases(("a", "b"), torch.eye(2).repeat(5, 1))
    objective = Objective(recipe, 6, 3, (), 11, rendered={"phantom": Rendered(("a", "b"), drawn)}, phases=phases)
    objective.start_epoch(1, 2.5)
    images = torch.randn(9, 3, 2, 2, generator=draw)
    targets = torch.tensor([0.0, 1, 0.25, 1, 0, 1, 0, 0.75, 1])
    domains = torch.tensor([0, 1, 2, 0, 1, 2, -1, 0, 1])
    found = objective(network, ema, StepInput(images, targets, domains, 0.4, 17, rows=torch.arange(9)))
    found["loss"].backward()
    trained = [*network.parameters(), *objective.modules_trained.parameters()]
    norms = [parameter.grad.norm() for parameter in trained if parameter.grad is not None]
    return {
        **{name: float(value.detach()) for name, value in found.items()},
        "gradient": float(torch.stack(norms).norm()),
    }


@pytest.mark.parametrize("case", OLD)
def test_terms_give_the_numbers_of_the_sections_that_they_replace(case: str) -> None:
    for values in (OLD[case], as_terms(OLD[case])):
        assert measured(recipe_of(values)) == pytest.approx(REFERENCE[case], rel=3e-5, abs=1e-6)


@pytest.mark.parametrize("case", OLD)
def test_both_ways_of_writing_are_one_recipe_and_one_run(case: str) -> None:
    old, new = recipe_of(OLD[case]), recipe_of(as_terms(OLD[case]))
    assert old == new and recipe_identity(old) == recipe_identity(new)
    assert not {"terms"} & set(recipe_identity(new))  # by the keys of version 0.1, whose runs are known by these


def test_ids_of_recipes_with_terms_are_those_of_version_0_1(monkeypatch: pytest.MonkeyPatch) -> None:
    fold = Fold("fold-1", ("a", "b"), ("c",), ())
    every = yaml.safe_load(Path("tests/golden/v0.1/recipe/every-key-network.yaml").read_text("utf-8"))
    first = "e0d4cfbeb161a25869211e921f0089ec"
    assert run_id(parse_recipe(every, "x"), 0, "crops", fold) != first  # it has MixUp with an adversary, which changed
    with monkeypatch.context() as patch:
        patch.setattr(AdversarialOptions, "version", lambda self, mixes: 1)
        assert run_id(parse_recipe(every, "x"), 0, "crops", fold) == first
    assert run_id(load_recipe("atey-as-published")[1], 0, "crops", fold) == "54a3a12c262b3f0de782e92d19aa732e"
    assert run_id(load_recipe("atypia", ["precision=bf16"])[1], 0, "crops", fold) == "edd34c2ced7635727fcbfd41355e9e32"


def test_the_order_of_terms_and_a_new_term_make_another_run() -> None:
    one, other = ({"name": "alignment"}, {"name": "contrastive"})
    contents = [recipe_identity(recipe_of({"terms": terms})) for terms in ([one, other], [other, one], [one])]
    assert contents[0] == {**recipe_identity(recipe_of({})), "alignment": {}, "contrastive": {}}
    assert contents[1]["terms"] == [{"name": "contrastive"}, {"name": "alignment"}]  # its sums round otherwise
    assert "contrastive" not in contents[2]


@pytest.mark.parametrize("name", TERMS)
def test_a_term_says_what_it_is(name: str) -> None:
    term = TERMS[name]
    assert issubclass(term, Term) and issubclass(term.Options, TermOptions)
    assert term.summary and term.formula and term.source and term.needs <= set(NEEDS)
    assert recipe_of({"terms": [{"name": name}]}).terms[0] == term.Options(name=name)
    with pytest.raises(InputError, match=r"`terms.0.weigth` is not a known key; known here: name, weight"):
        recipe_of({"terms": [{"name": name, "weigth": 1}]})
    with pytest.raises(InputError, match=r"`terms.0.weight`: Input should be greater than 0, got 0"):
        recipe_of({"terms": [{"name": name, "weight": 0}]})


@pytest.mark.parametrize(
    ("terms", "said"),
    [
        ([{"name": "alignmnt"}], "unknown term 'alignmnt'; did you mean 'alignment'? choices: "),
        ([{"weight": 1}], r"`terms.0` must be a mapping with the name of a term, got {'weight': 1}"),
        ([7], "`terms.0` must be a mapping with the name of a term, got 7"),
        ("alignment", "`terms`: "),
        ([{"name": "alignment"}, {"name": "alignment"}], "terms must differ, alignment is there twice"),
    ],
)
def test_terms_that_are_none_are_refused(terms: object, said: str) -> None:
    with pytest.raises(InputError) as refused:
        recipe_of({"terms": terms})
    assert said in str(refused.value)


# Old and new keys ------------------------------------------------------------------------------


def test_no_shipped_recipe_has_old_keys() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        for name in shipped_recipes():
            load_recipe(name)


def test_old_keys_are_read_with_one_warning_that_says_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**BASE, "alignment": {"weight": 0.5}, "contrastive": {}, "adversarial": None}))
    with pytest.warns(FutureWarning) as said:
        _, recipe = load_recipe(str(path), ["alignment.ramp=false", "distillation.warmup_epochs=2", "contrastive=null"])
    assert [str(one.message).partition(": ")[2] for one in said] == [
        "`alignment`, `contrastive`, `alignment.ramp`, `distillation.warmup_epochs`, `contrastive` will not be read after "
        "the next version; fix: write `terms: [{name: alignment, …}, {name: contrastive, …}]` and `terms.alignment.ramp` "
        "and `terms.distillation.warmup_epochs` and `terms.contrastive`"
    ]
    assert recipe == recipe_of(
        {"terms": [{"name": "alignment", "weight": 0.5, "ramp": False}, {"name": "distillation", "warmup_epochs": 2}]}
    )


def test_set_addresses_a_term_by_its_name() -> None:
    changes = ["terms.adversarial.bounded=true", "terms.contrastive=null", "terms.alignment.weight=2"]
    _, recipe = load_recipe("giedziun", [*changes, "terms.distillation={teachers: [a, b]}"])
    assert isinstance(recipe, NetworkRecipe)
    shown = [term.model_dump(mode="json", exclude_defaults=True) for term in recipe.terms]
    assert shown == [
        {"name": "adversarial", "bounded": True},
        {"name": "alignment", "weight": 2},
        {"name": "distillation", "teachers": ["a", "b"]},
    ]
    assert recipe.classifiers == ("a", "b")


def test_a_term_in_both_ways_is_refused() -> None:
    with pytest.raises(InputError, match=r"`alignment of recipe` must be in `terms` alone, got there and in a section"):
        recipe_of({"alignment": {}, "terms": [{"name": "alignment"}]})


def test_a_checkpoint_of_version_0_1_is_loaded() -> None:
    objective = Objective(recipe_of({"terms": [{"name": "adversarial"}]}), 6, 3, (), 11)
    weight, bias = torch.ones(3, 6), torch.zeros(3)
    objective.load_state_dict({"domain_head.linear.weight": weight, "domain_head.linear.bias": bias})
    state = objective.modules_trained.state_dict()
    assert sorted(state) == ["adversarial.head.linear.bias", "adversarial.head.linear.weight"]
    assert torch.equal(state["adversarial.head.linear.weight"], weight)


# A term of one's own ---------------------------------------------------------------------------


class Agreement(Term[TermOptions]):
    """Squared difference of the logits of two views."""

    summary, formula, source, needs = "agreement of two views", "(z − z')²", "this test", frozenset({SECOND})

    def forward(self, batch: Batch) -> Tensor:
        assert batch.second is not None
        return (batch.out.logits - batch.second.logits).square().mean()


@pytest.fixture
def agreement() -> Iterator[None]:
    TERMS.add("agreement", Agreement)
    yield
    TERMS.discard("agreement")


@pytest.mark.usefixtures("agreement")
def test_a_term_may_need_a_second_view(tmp_path: Path) -> None:
    with_it = loops.recipe(terms=[{"name": "agreement"}], ema=None, select={"metric": "auroc"}, epochs=1)
    history = loops.train(tmp_path / "a", with_it).history
    assert history[0]["loss_agreement"] > 0  # flips and turns of the same crops
    alone = loops.recipe(terms=None, ema=None, select={"metric": "auroc"}, epochs=1, augment="none")
    same = alone.model_copy(update={"terms": with_it.terms})
    assert loops.train(tmp_path / "b", same).history[0]["loss_agreement"] < history[0]["loss_agreement"]


def test_only_terms_that_need_domains_are_counted_as_idle() -> None:
    names = [name for name in TERMS if DOMAINS in TERMS[name].needs]
    found = measured(recipe_of({"terms": [{"name": name} for name in TERMS]}))
    assert {key.removeprefix("idle_") for key in found if key.startswith("idle_")} == set(names)


def test_the_documentation_lists_every_term_sampler_and_loss() -> None:
    page = (Path(__file__).parents[2] / "docs" / "training.md").read_text("utf-8")
    for table in (terms_table(), samplers_table(), losses_table()):
        assert table in page, "run: python tools/write_docs.py"
