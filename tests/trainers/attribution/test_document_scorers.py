import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cross_entropy

from scoring.attribution.crossfit import folds, fresh_fold
from scoring.attribution.evidence import Evidence
from scoring.items import Where
from scoring.loading import load_model
from scoring.suite.addition import successive
from scoring.sweep import score_blocks
from trainers.attribution.checkpoints import allowed
from trainers.attribution.contrast import CheckpointContrast
from trainers.attribution.gradient_similarity import (
    GradientSimilarity,
    moved,
    preconditioned,
    step_effects,
)
from trainers.attribution.losses import document_losses
from trainers.attribution.margins import answers, item_scores, margin_gradient
from trainers.attribution.retraining import (
    Retraining,
    random_subsets,
    subset_outcomes,
    tail_patch,
    trained,
)
from trainers.settings import OptimizerSection
from trainers.state import load_state
from windows.errors import ConfigError, DataError


def direct_loss(model, documents, document):
    """The mean loss of a document's tokens but its first, by the definition."""
    row = torch.from_numpy(documents.tokens[documents.row[document]].astype(np.int64))[None]
    logits = model(input_ids=row).logits[0]
    start, end = int(documents.start[document]), int(documents.end[document])
    return cross_entropy(logits[start : end - 1], row[0, start + 1 : end])


def test_losses_are_the_documents_own(tiny, lines):
    """Documents in the middle of an instance too, and one of a single token."""
    model, _ = load_model(tiny.checkpoint(9))
    old = lines.evidence.documents
    start, end = np.array([0, 5, 9, 30]), np.array([5, 6, 30, 32])
    documents = type(old)(
        old.tokens, old.instances, old.batches, old.windows,
        np.array([3, 3, 3, 4]), start.astype(np.int32), end.astype(np.int32),
    )  # fmt: skip
    found = document_losses(model, documents, rows=2)
    with torch.no_grad():
        oracle = [float(direct_loss(model, documents, d)) for d in (0, 2, 3)]
    assert found[[0, 2, 3]] == pytest.approx(oracle, rel=1e-5)
    assert found[1] == pytest.approx(np.mean(oracle), rel=1e-5)


def test_margins_are_the_sweeps(tiny):
    """The engine's packed scores of the same items are the oracle."""
    model, tokenizer = load_model(tiny.checkpoint(9))
    blocks = [successive("label", "plain", seed) for seed in range(2)]
    margins, right = item_scores(model, answers(tokenizer, blocks, 1000))
    table = score_blocks(model, tokenizer, blocks, Where("r", "s", 0)).to_pandas()
    oracle = (table["lp_right"] - table["lp_parrot"]).to_numpy()
    assert sorted(margins) == pytest.approx(sorted(oracle), abs=1e-4)
    assert sorted(right) == pytest.approx(sorted(np.exp(table["lp_right"])), rel=1e-4)


def test_margin_gradient_is_that_of_the_mean(tiny, lines):
    """A finite difference along a random direction, in float64."""
    model = load_model(tiny.checkpoint(9))[0].double()
    gradient = margin_gradient(model, lines.items)
    torch.manual_seed(0)
    direction = [torch.randn_like(p) for p in model.parameters()]
    ends = []
    for step in (1e-4, -1e-4):
        with moved(model, direction, step):
            ends.append(item_scores(model, lines.items)[0].mean())
    slope = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))
    # The margins' own log-probabilities are float32.
    assert (ends[0] - ends[1]) / 2e-4 == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize("adam", [True, False])
def test_effects_are_the_exact_dot_products(tiny, lines, adam):
    state = load_state(tiny.checkpoint(9), OptimizerSection())
    direction = margin_gradient(state.model, lines.items)
    if adam:
        direction = preconditioned(state, direction)
    documents = lines.evidence.documents
    found = step_effects(state.model, direction, documents)
    state.model.eval()
    exact = []
    for document in range(0, len(documents.row), 8):
        loss = direct_loss(state.model, documents, document)
        parts = torch.autograd.grad(loss, list(state.model.parameters()))
        exact.append(-sum(float((p * d).sum()) for p, d in zip(parts, direction, strict=True)))
    assert np.corrcoef(found[::8], exact)[0, 1] > 0.999
    assert found[::8] == pytest.approx(exact, rel=0.05, abs=0.02 * np.abs(exact).max())


def test_the_preconditioner_is_adams_step(tiny):
    """A step without momentum or decay on a gradient moves parameters by lr P g."""
    section = OptimizerSection(betas=(0.0, 0.95), weight_decay=0.0)
    state = load_state(tiny.checkpoint(9), section)
    before = [p.detach().clone() for p in state.model.parameters()]
    torch.manual_seed(0)
    gradient = [1e-9 * torch.randn_like(p) for p in before]
    for parameter, part in zip(state.model.parameters(), gradient, strict=True):
        parameter.grad = part.clone()
    for own in state.optimizer.state.values():
        own["step"] += 1e6  # so late that the bias correction is over
    expected = preconditioned(state, gradient)
    state.optimizer.param_groups[0]["lr"] = 1.0
    state.optimizer.step()
    # Before its step Adam lets the old second moment decay once; the gradient adds next to none.
    for now, was, step in zip(state.model.parameters(), before, expected, strict=True):
        assert torch.allclose(was - now, step * 0.95**-0.5, rtol=1e-2, atol=1e-6)


def test_moved_puts_back_to_the_bit(tiny):
    model, _ = load_model(tiny.checkpoint(9))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(KeyError), moved(model, list(model.parameters()), 0.3):
        assert not torch.equal(model.lm_head.weight, before["lm_head.weight"])
        raise KeyError
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("fold", folds(12, 4))
def test_a_checkpoint_that_just_trained_on_a_window_does_not_score_it(fold):
    edges = [0, 2, 3, 5, 6, 7, 9, 12]
    barred = set(range(max(fold.first, 1), fold.end + 2))
    assert [edges[at] for at in allowed(fold, edges)] == [e for e in edges if e not in barred]
    assert len(allowed(fresh_fold(12), edges)) == len(edges)


def contrast(lines, two_modes, **changes):
    """Edges whose level follows the last window, each with the checkpoint of its mode."""
    levels = np.append(0.5, lines.share)
    high = levels > np.median(levels)
    paths = {edge: two_modes[bool(high[edge])] for edge in range(11)}
    return CheckpointContrast(levels=levels, checkpoints=paths, **({"count": 2} | changes))


def test_contrast_finds_what_the_modes_were_trained_on(lines, two_modes):
    found = contrast(lines, two_modes).attribute(lines.evidence)
    scores = found.scores["score"].to_numpy()
    for own in (lines.fresh, ~lines.fresh):
        assert roc_auc_score(lines.right[own], scores[own]) > 0.85
    assert found.null.p == found.null.floor
    assert found.null.statistic > 0.7


def test_contrast_of_shuffled_strengths_has_no_small_p(lines, two_modes):
    held, scorer = lines.evidence, contrast(lines, two_modes)
    losses = scorer.losses(held)
    found = []
    for seed in range(20):
        strength = np.random.default_rng(seed).permutation(held.strength)
        evidence = Evidence(held.documents, held.windows, strength)
        found.append(scorer.compared(evidence, losses).null.p)
    assert 0.2 < np.median(found) < 0.8


def test_contrast_of_checkpoints_that_are_alike_is_nothing(lines, two_modes):
    scorer = contrast(lines, two_modes)
    alike = np.repeat(np.arange(len(lines.right))[:, None], 11, axis=1).astype(float)
    assert scorer.compared(lines.evidence, alike).scores["score"].abs().max() == 0


def test_contrast_needs_checkpoints_to_choose_from(lines, two_modes):
    scorer = contrast(lines, two_modes)
    few = CheckpointContrast(scorer.levels, {e: scorer.checkpoints[e] for e in (0, 1, 2, 3)}, 2)
    with pytest.raises(DataError, match="2 low and 2 high checkpoints"):
        few.attribute(lines.evidence)
    with pytest.raises(DataError, match="level at every edge"):
        CheckpointContrast(scorer.levels[:-1], scorer.checkpoints).attribute(lines.evidence)


def test_needed_checkpoints_give_the_same_scores(lines, two_modes):
    whole = contrast(lines, two_modes)
    needed = whole.needed(lines.evidence)
    assert 4 <= len(needed) < 11
    fewer = CheckpointContrast(whole.levels, {e: whole.checkpoints[e] for e in needed}, 2)
    losses = np.random.default_rng(0).standard_normal((len(lines.right), 11))
    one = fewer.compared(lines.evidence, losses[:, needed])
    assert one.scores.equals(whole.compared(lines.evidence, losses).scores)


def test_gradient_similarity_finds_right_answers(tiny, lines):
    checkpoints = {0: tiny.checkpoint(5), 5: tiny.checkpoint(7), 10: tiny.checkpoint(9)}
    scorer = GradientSimilarity(checkpoints, lines.items, tiny.optimizer)
    before = torch.get_rng_state()
    found = scorer.attribute(lines.evidence)
    assert torch.equal(torch.get_rng_state(), before)
    scores = found.scores["score"].to_numpy()
    right, pattern = scores[lines.fresh].reshape(2, -1)
    assert (right > pattern).mean() > 0.9
    for own in (lines.fresh, ~lines.fresh):
        assert roc_auc_score(lines.right[own], scores[own]) > 0.75
    assert found.null.p == found.null.floor
    shuffled = np.random.default_rng(0).permutation(lines.evidence.strength)
    held = Evidence(lines.evidence.documents, lines.evidence.windows, shuffled)
    again = GradientSimilarity({0: tiny.checkpoint(5)}, lines.items, tiny.optimizer).attribute(held)
    assert again.null.p > 0.1


def test_gradient_similarity_needs_a_checkpoint_that_is_not_the_windows(tiny, lines):
    scorer = GradientSimilarity({1: tiny.checkpoint(9)}, lines.items, tiny.optimizer)
    with pytest.raises(DataError, match="just trained on the documents"):
        scorer.attribute(lines.evidence)


def test_training_on_right_documents_moves_margins_up(tiny, lines):
    job = Retraining(tiny.checkpoint(9), tiny.optimizer, batch=16, lr=1e-2)
    tokens = lines.evidence.documents.tokens
    subsets = np.stack([lines.right, ~lines.right])
    up, down = subset_outcomes(job, tokens, subsets, lines.items).mean(axis=1)
    assert up > down + 0.1
    with pytest.raises(ConfigError, match="a whole batch"):
        trained(job, tokens[:15])


def test_subsets_are_halves_and_differ():
    subsets = random_subsets(20, 31, seed=3)
    assert subsets.shape == (20, 31)
    assert (subsets.sum(axis=1) == 15).all()
    assert len({row.tobytes() for row in subsets}) == 20


def test_tail_patch_is_one_step_each(tiny, lines):
    """Against the same computed afresh for every proponent, from the checkpoint on disk."""
    documents = lines.evidence.documents
    proponents = [documents.body(d) for d in np.flatnonzero(lines.right)[:3]]
    found = tail_patch(tiny.checkpoint(9), proponents, lines.items, lr=1e-3)
    changes = []
    for tokens in proponents:
        model, _ = load_model(tiny.checkpoint(9))
        before = item_scores(model, lines.items)[1]
        ids = torch.from_numpy(tokens.astype(np.int64))[None]
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        changes.append((item_scores(model, lines.items)[1] - before).mean())
    assert found == pytest.approx(np.mean(changes), rel=1e-4)
    assert found > 0
