"""Every scorer without a model finds what was planted, and nothing where nothing was."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from scoring.attribution.bm25 import Bm25
from scoring.attribution.composition import SourceComposition, SourceCounts, residuals
from scoring.attribution.ngrams import bucket_features, hashed, ngrams
from scoring.attribution.regression import NgramRegression
from windows.errors import DataError


def sources(world):
    """Sources that are the types, counted by batch."""
    held, inside = world.evidence.documents, world.of(fresh=False)
    batches = np.arange(len(world.evidence.windows) * world.steps)
    source = (world.types == "down").astype(np.int64)
    counts = np.zeros((len(batches), 2), dtype=np.int64)
    np.add.at(counts, (held.batch[inside], source[inside]), 1)
    return SourceCounts(("up", "down"), batches, counts, source)


def bm25(world):
    return Bm25(right=((1, *world.up), (*world.up, 2)), pattern=((1, *world.down),))


SCORERS = {
    "composition": lambda world: SourceComposition(sources(world)),
    "composition late": lambda world: SourceComposition(sources(world), half_life=2.0),
    "ridge": lambda world: NgramRegression(buckets=256),
    "elastic net": lambda world: NgramRegression("elastic-net", buckets=64),
    "bm25": bm25,
}


@pytest.mark.parametrize("name", SCORERS)
def test_planted_types_are_found(world, name):
    shifts = 4 if name == "elastic net" else 19
    evidence = world.with_strength(world.evidence.strength, shifts=shifts)
    found = SCORERS[name](world).attribute(evidence)
    for fresh in (False, True):
        own = world.of(fresh=fresh)
        auroc = roc_auc_score(world.types[own] == "up", world.scores(found)[own])
        assert auroc > (0.95 if name == "bm25" else 0.85), (fresh, auroc)
    assert found.null.p == found.null.floor == 1 / (shifts + 1)
    assert found.null.statistic > 0.6


@pytest.mark.parametrize("name", ["composition", "ridge"])
def test_shuffled_strengths_are_not(world, name):
    """The null must not be small nor the types told apart, over several shuffles."""
    found = [SCORERS[name](world).attribute(world.shuffled(seed)) for seed in range(5)]
    own = world.of(fresh=False)
    aurocs = [roc_auc_score(world.types[own] == "up", world.scores(one)[own]) for one in found]
    assert abs(np.mean(aurocs) - 0.5) < 0.2
    assert np.median([one.null.p for one in found]) > 0.2
    assert min(one.null.features["p"].min() for one in found) > 0.005


def test_bm25_does_not_ask_strengths_and_its_null_does(world):
    plain, shuffled = (
        bm25(world).attribute(world.evidence),
        bm25(world).attribute(world.shuffled(1)),
    )
    assert plain.scores.equals(shuffled.scores)
    assert plain.null.p == plain.null.floor < 0.05 < shuffled.null.p


def test_bm25_is_the_formula(world):
    """Term by term and document by document, with counters instead of matrices."""
    scorer, held = bm25(world), world.evidence.documents

    def terms(tokens):
        tokens = list(map(int, tokens))
        return Counter(
            tuple(tokens[at : at + n]) for n in scorer.orders for at in range(len(tokens) - n + 1)
        )

    bodies = [terms(held.body(d)) for d in range(len(held.row))]
    within = np.flatnonzero(world.of(fresh=False))
    mean = held.lengths[within].mean()
    holding = Counter(term for d in within for term in bodies[d])
    found = scorer.scores(held)
    for document in (0, 7, 500, len(bodies) - 1):
        back = scorer.k1 * (1 - scorer.b + scorer.b * held.lengths[document] / mean)
        total = 0.0
        for queries, sign in ((scorer.right, 1), (scorer.pattern, -1)):
            for query in queries:
                for term, times in terms(query).items():
                    f, n = bodies[document][term], holding[term]
                    idf = np.log(1 + (len(within) - n + 0.5) / (n + 0.5))
                    value = sign * times * idf * f * (scorer.k1 + 1) / (f + back)
                    total += value / len(queries)
        assert found[document] == pytest.approx(total)


def test_bm25_needs_both_kinds(world):
    with pytest.raises(DataError, match="queries of both kinds"):
        Bm25(right=((1, 2),), pattern=()).attribute(world.evidence)


def test_residuals_are_binomial_standard_deviations(world):
    counted = sources(world)
    found = residuals(counted, world.evidence, None)
    total, n = counted.counts.sum(axis=0), counted.counts.sum()
    p = total / n
    for window in (0, 17):
        own = counted.counts[window * world.steps : (window + 1) * world.steps].sum(axis=0)
        size = own.sum()
        oracle = (own / size - p) / np.sqrt(p * (1 - p) / size)
        assert found[window] == pytest.approx(oracle)


def test_weighted_residuals_of_a_shuffled_order_have_unit_variance():
    """Half-lives change what counts, not the scale: checked on multinomial draws."""
    rng = np.random.default_rng(0)
    windows = 1000
    counts = rng.multinomial(16, [0.2, 0.5, 0.3], size=windows * 4)
    batches = np.arange(len(counts))
    made = [SimpleNamespace(first_batch=4 * w, end_batch=4 * w + 4) for w in range(windows)]

    evidence = SimpleNamespace(
        windows=made, recency=lambda h, b, w: 0.5 ** ((made[w].end_batch - 1 - b) / h)
    )
    table = SourceCounts(("a", "b", "c"), batches, counts, np.empty(0, np.int64))
    assert np.allclose(residuals(table, evidence, 1.0).std(axis=0), 1, atol=0.08)


def test_counts_of_other_documents_are_refused(world):
    counted = sources(world)
    short = SourceCounts(counted.names, counted.batches, counted.counts, counted.documents[:-1])
    with pytest.raises(DataError, match="counts by source"):
        SourceComposition(short).attribute(world.evidence)


def test_ngrams_stay_within_their_document(world):
    held = world.evidence.documents
    bigrams = Counter()
    for document, grams in ngrams(held, (2,)):
        for owner, gram in zip(document.tolist(), grams.tolist(), strict=True):
            bigrams[owner, *gram] += 1
    oracle = Counter(
        (d, int(a), int(b))
        for d in range(len(held.row))
        for a, b in zip(held.body(d), held.body(d)[1:], strict=False)
    )
    assert bigrams == oracle


def test_hashes_tell_order_length_and_tokens_apart():
    grams = [[[1, 2], [2, 1], [0, 1]], [[1], [0], [2]], [[0, 0, 1], [1, 0, 0], [0, 1, 0]]]
    hashes = np.concatenate([hashed(np.array(each, dtype=np.uint32)) for each in grams])
    assert len(set(hashes.tolist())) == 9


def test_buckets_are_rates_and_are_named(world):
    held = world.evidence.documents
    features, names = bucket_features(held, (1,), 4096)
    assert features.shape == (len(held.row), 4097)
    assert names[-1] == "log length"
    assert np.allclose(features[:, :-1].sum(axis=1), 1)
    assert np.allclose(features[:, [4096]].todense().ravel(), np.log(held.lengths))
    # A token's column holds how often it stands in a document, where no other shares its bucket.
    seven = features[:, [names.index("7")]].todense().ravel()
    oracle = [np.mean(held.body(d) == 7) for d in range(len(held.row))]
    assert np.allclose(seven, oracle)
