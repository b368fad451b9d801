"""The random-effects model: against loops, textbook formulas, and simulated experiments whose truth is known."""

import math

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from mpsams.tables import effects
from mpsams.tables.effects import Runs

REPETITIONS = 4000


def made(seeds, draws, methods, sds, repetitions=REPETITIONS):
    """Scores (repetitions, seeds, draws) of each method, all with the mean 0; sds: of draws, of seeds (one or one per
    method), of the rest.
    """
    source = np.random.default_rng([seeds, draws, methods])
    draw_sd, seed_sd, rest_sd = sds
    shared = source.normal(0, 3, (repetitions, 1, draws))  # what a draw does to all methods
    found = []
    for sd in np.broadcast_to(seed_sd, methods):
        own = source.normal(0, draw_sd, (repetitions, 1, draws)) + source.normal(0, sd, (repetitions, seeds, 1))
        found.append(Runs(shared + own + source.normal(0, rest_sd, (repetitions, seeds, draws))))
    return found


def covered(found):
    low, high = found.interval
    return np.mean((low <= 0) & (high >= 0))


def test_a_difference_by_hand():
    """Two methods, 2 seeds × 3 draws each: mean squares worked out with loops."""
    ours, theirs = [[0.60, 0.64, 0.70], [0.50, 0.58, 0.60]], [[0.55, 0.52, 0.57], [0.57, 0.56, 0.63]]
    differences = [sum(ours[s][d] - theirs[s][d] for s in range(2)) / 2 for d in range(3)]
    mean = sum(differences) / 3
    draws = sum((each - mean) ** 2 for each in differences) / 2 / 3
    seeds, own = 0.0, []
    for method in (ours, theirs):
        means = [sum(row) / 3 for row in method]
        own.append(sum((each - sum(means) / 2) ** 2 for each in means) / 1)
        seeds += own[-1] / 2  # of a mean of two seeds; both methods have two, so pooled and own agree
    found = effects.estimate(
        Runs(np.array(ours)), Runs(np.array(theirs)), [Runs(np.array(ours)), Runs(np.array(theirs))]
    )
    error = math.sqrt(draws + seeds)
    assert (found.mean, found.error, found.df, found.scope) == (
        pytest.approx(mean),
        pytest.approx(error),
        pytest.approx(2),
        effects.ALL,
    )
    # both parts have 2 degrees of freedom
    assert found.interval == pytest.approx((mean - t.ppf(0.975, 2) * error, mean + t.ppf(0.975, 2) * error))
    assert found.p == pytest.approx(2 * t.sf(mean / error, 2))


def test_balanced_mean_squares_are_those_of_a_two_way_anova():
    """The squared error of a mean is (MS of draws + MS of seeds) / (seeds × draws), with the mean squares of the
    textbook.
    """
    score_sd = np.random.default_rng(3).normal(0.5, 0.1, (3, 4))
    grand = score_sd.mean()
    ms_draws = 3 * sum((score_sd[:, d].mean() - grand) ** 2 for d in range(4)) / 3
    ms_seeds = 4 * sum((score_sd[s].mean() - grand) ** 2 for s in range(3)) / 2
    found = effects.estimate(Runs(score_sd), None, [Runs(score_sd)])
    assert found.error**2 == pytest.approx((ms_draws + ms_seeds) / 12)
    half = math.sqrt((ms_draws * t.ppf(0.975, 3) ** 2 + ms_seeds * t.ppf(0.975, 2) ** 2) / 12)
    assert found.interval == pytest.approx((grand - half, grand + half)) and 2 < found.df < 3
    assert t.ppf(0.975, found.df) * found.error == pytest.approx(half)


def test_p_is_the_level_whose_interval_ends_at_zero():
    parts = ((np.array([0.04, 0.01, 0.2]), 2), (np.array([0.01, 0.09, 0.001]), 7))
    found = effects.Estimate(np.array([0.9, -2.0, 0.1]), effects.ALL, parts)
    for k, p in enumerate(found.p):
        assert sum(variance[k] * t.ppf(1 - p / 2, df) ** 2 for variance, df in parts) == pytest.approx(
            found.mean[k] ** 2
        )
    low, high = found.interval
    assert ((found.p < 0.05) == ((low > 0) | (high < 0))).all()


def test_one_pretraining_each_is_a_paired_t_test_for_these_pretrainings_only():
    ours, theirs = np.random.default_rng(0).normal(size=(2, 1, 5))
    found, slow = effects.estimate(Runs(ours), Runs(theirs), [Runs(ours), Runs(theirs)]), ttest_rel(ours[0], theirs[0])
    assert found.scope == effects.PRETRAININGS and found.p == pytest.approx(slow.pvalue)
    assert found.interval == pytest.approx(tuple(slow.confidence_interval(0.95)))
    fresh = effects.estimate(Runs(ours, False), Runs(theirs), [Runs(ours, False), Runs(theirs)])
    assert fresh.scope == effects.PRETRAININGS and effects.estimate(Runs(ours, False), None, []).scope == effects.ALL


def test_the_variance_of_seeds_comes_from_other_methods_too():
    ours, theirs, other = (
        np.random.default_rng(0).normal(size=(1, 3)),
        np.random.default_rng(1).normal(size=(1, 3)),
        np.array([[1.0, 2, 3], [3.0, 4, 5]]),
    )
    alone, widened = (effects.estimate(Runs(ours), Runs(theirs), others) for others in ([], [Runs(other)]))
    assert widened.scope == effects.ALL and alone.error is not None
    # seed means 2 and 4: variance 2, for each of the two methods
    assert widened.error**2 == pytest.approx(alone.error**2 + 2 * 2.0)
    # scratch has no seed
    assert effects.estimate(Runs(ours, False), Runs(theirs), [Runs(other)]).error ** 2 == pytest.approx(
        alone.error**2 + 2.0
    )


def test_a_method_that_varies_more_than_the_others_counts_with_its_own_variance():
    quiet, loud = Runs(np.array([[0.0, 0, 0], [0.1, 0.1, 0.1]])), Runs(np.array([[0.0, 0, 0], [1.0, 1, 1]]))
    pooled = [quiet, loud, quiet, quiet]
    assert effects.estimate(loud, None, pooled).error ** 2 == pytest.approx(0.5 / 2)
    assert effects.estimate(quiet, None, pooled).error ** 2 == pytest.approx((0.5 + 3 * 0.005) / 4 / 2)


def test_runs_that_are_missing():
    ours = np.array([[1.0, 2.0, 3.0], [2.0, np.nan, 6.0]])
    found = effects.estimate(Runs(ours), None, [Runs(ours)])
    assert found.mean == pytest.approx((1.5 + 2 + 4.5) / 3)
    weights = [(0.5 + 1 + 0.5) / 3, (0.5 + 0.5) / 3]
    draws, seeds = np.var([1.5, 2, 4.5], ddof=1) / 3, np.var([2.0, 4.0], ddof=1) * sum(w * w for w in weights)
    assert found.error**2 == pytest.approx(draws + seeds)  # seeds' means over the two draws that both have
    apart = np.array([[1.0, np.nan], [np.nan, 2.0]])
    assert (
        effects.seed_variance(Runs(apart)) is None
        and effects.estimate(Runs(apart), None, [Runs(apart)]).scope == effects.PRETRAININGS
    )


def test_one_draw_of_labels():
    ours, theirs = np.array([[0.5], [0.7], [0.6]]), np.array([[0.4]])
    found = effects.estimate(Runs(ours), Runs(theirs, False), [Runs(ours), Runs(theirs, False)])
    assert found.scope == effects.DRAW and found.mean == pytest.approx(0.2) and found.df == pytest.approx(2)
    # a run from scratch varies too: taken to vary as the others
    assert found.error**2 == pytest.approx(0.01 / 3 + 0.01)
    alone = effects.estimate(Runs(ours[:1]), Runs(theirs), [Runs(ours[:1]), Runs(theirs)])
    assert (alone.scope, alone.error, alone.interval, alone.p) == (effects.NETWORKS, None, (None, None), None)
    images = effects.estimate(Runs(ours[:1]), None, [], images=(0.01, 30))
    assert images.scope == effects.NETWORKS and (images.error, images.df) == pytest.approx((0.1, 30))


def test_runs_without_any_spread():
    same = Runs(np.full((2, 3), 0.5))
    found = effects.estimate(same, same, [same])
    assert (found.error, found.p, found.interval) == (0, 1, (0, 0))
    assert effects.estimate(same, Runs(np.full((2, 3), 0.4)), [same]).p == 0


@pytest.mark.parametrize("methods", [2, 7])
@pytest.mark.parametrize("seeds, draws", [(2, 3), (3, 3), (2, 4), (3, 4), (2, 6), (3, 6)])
def test_95_percent_intervals_of_differences_cover_the_truth(seeds, draws, methods):
    """Conservative, most so where what the model leaves over is large: up to 99.8% where it is twice the draws."""
    for seed_sd in (0, 0.5, 1, 2):
        for rest_sd, most in ((0.3, 0.99), (1, 0.995), (2, 0.998)):
            found = made(seeds, draws, methods, (1, seed_sd, rest_sd))
            assert 0.94 <= covered(effects.estimate(found[0], found[1], found)) <= most, (seed_sd, rest_sd)


@pytest.mark.parametrize("seeds, draws", [(2, 3), (3, 4)])
def test_intervals_that_hold_seeds_fixed_would_not_cover_it(seeds, draws):
    found = made(seeds, draws, 2, (1, 2, 0.5))
    assert (
        covered(effects.estimate(found[0], found[1], [])) < 0.85
        and effects.estimate(found[0], found[1], []).scope == effects.PRETRAININGS
    )


@pytest.mark.parametrize("seeds, draws", [(2, 3), (3, 3), (3, 6)])
def test_95_percent_intervals_of_means_cover_the_truth(seeds, draws):
    for seed_sd in (0, 1, 2, 6):
        found = made(seeds, draws, 7, (1, seed_sd, 1))  # the draws' sd is that of what all methods share, above 3
        assert 0.94 <= covered(effects.estimate(found[0], None, found)) <= 0.99, seed_sd


@pytest.mark.parametrize("seeds, draws", [(2, 3), (3, 4)])
@pytest.mark.parametrize("seed_sd", [0, 1, 2])
def test_differences_from_scratch_and_with_missing_runs_are_covered_too(seeds, draws, seed_sd):
    """Scratch has a network of its own, with a seed of its own, on each draw; of the others one has runs missing and
    one has a single seed.
    """
    found = made(seeds, draws, 4, (1, seed_sd, 0.5))
    ours, holed, single = found[0], found[1].score_sd.copy(), Runs(found[2].score_sd[:, :1])
    holed[:, 0, 0] = np.nan
    source = np.random.default_rng(4)
    scratch = Runs(source.normal(0, 1 + seed_sd, (REPETITIONS, 1, draws)), pretrained=False)
    pool = [ours, Runs(holed), single, found[3]]
    for rival in (Runs(holed), single):
        assert 0.94 <= covered(effects.estimate(ours, rival, pool)) <= 0.995
    assert 0.94 <= covered(effects.estimate(ours, scratch, [*pool, scratch])) <= 0.99


@pytest.mark.parametrize("seeds, draws", [(2, 3), (3, 4)])
def test_means_for_other_images_cover_the_truth(seeds, draws):
    found = made(seeds, draws, 7, (1, 1, 1))
    source = np.random.default_rng(1)
    images_n = source.normal(0, 10, (REPETITIONS, 40))
    for runs in found:
        runs.score_sd[...] += images_n.mean(axis=1)[:, None, None]
    part = (images_n.var(axis=1, ddof=1) / 40, 39)
    assert 0.94 <= covered(effects.estimate(found[0], None, found, part)) <= 0.99
    assert covered(effects.estimate(found[0], None, [], None)) < 0.93


@pytest.mark.parametrize("seeds, draws", [(2, 3), (3, 3), (2, 6), (3, 6)])
def test_a_method_with_twice_the_others_seed_effect_is_covered_too(seeds, draws):
    found = made(seeds, draws, 7, (1, [1, *[0.5] * 6], 1))
    assert 0.94 <= covered(effects.estimate(found[0], found[1], found)) <= 0.995


@pytest.mark.parametrize("seeds, draws", [(2, 3), (3, 3), (2, 6), (3, 4)])
@pytest.mark.parametrize("seed_sd", [0, 0.5, 1, 2])
def test_equal_methods_are_wrongly_shown_to_differ_in_at_most_5_percent_of_experiments(seeds, draws, seed_sd):
    """Six comparisons with one method, corrected after Holm: any is shown where the smallest p × 6 is below 5%."""
    found = made(seeds, draws, 7, (1, seed_sd, 0.3), 2000)
    smallest = np.min([effects.estimate(found[0], rival, found).p for rival in found[1:]], axis=0)
    assert np.mean(6 * smallest < 0.05) <= 0.05
    fixed = np.min([effects.estimate(found[0], rival, []).p for rival in found[1:]], axis=0)
    assert seed_sd < 1 or np.mean(6 * fixed < 0.05) > 0.07  # with seeds held fixed


# --- what could be detected


@pytest.mark.parametrize("n, difference", [(2, 3.0), (4, 1.0), (12, 0.9), (40, 0.3)])
def test_power_is_that_of_simulated_experiments(n, difference):
    x = np.random.default_rng(1).normal(difference, 1.0, (40000, n))
    found = np.mean(abs(x.mean(1)) / (x.std(1, ddof=1) / math.sqrt(n)) > t.ppf(0.975, n - 1))
    assert effects.power(difference, 1 / math.sqrt(n), n - 1) == pytest.approx(found, abs=0.01)
    assert effects.power(2 * difference, 2.0, n - 1) == pytest.approx(effects.power(difference, 1.0, n - 1))


@pytest.mark.parametrize("df", [1, 1.7, 2, 5, 24])
def test_a_detectable_difference_has_a_power_of_80_percent(df):
    assert effects.power(effects.detectable(0.03, df), 0.03, df) == pytest.approx(0.8, abs=1e-6)
    assert (
        effects.detectable(0.06, df) == pytest.approx(2 * effects.detectable(0.03, df))
        and effects.detectable(0.0, df) == 0
    )


@pytest.mark.parametrize("sd", [0.002, 0.01, 0.02, 0.05])
def test_needed_is_the_first_number_with_enough_power(sd):
    n = effects.runs_needed(sd, 0.02)
    assert effects.power(0.02, sd / math.sqrt(n), n - 1) >= 0.8 and (
        n == 2 or effects.power(0.02, sd / math.sqrt(n - 1), n - 2) < 0.8
    )


def test_textbook_sample_sizes():
    # G*Power, two-sided paired t, 80%
    assert [effects.runs_needed(1.0, effect) for effect in (0.2, 0.5, 0.8)] == [199, 34, 15]
    assert effects.runs_needed(0.0, 0.02) == 2


def test_the_range_of_what_is_needed_holds_the_truth_in_80_percent_of_experiments():
    """A paired design of 4 draws: the number that the true sd needs lies between the ends."""
    truth = effects.runs_needed(0.05, 0.02)
    differences = np.random.default_rng(2).normal(0, 0.05, (400, 4))
    ranges = [effects.times_larger(each.std(ddof=1) / 2, 3, 0.02) for each in differences]
    assert np.mean([4 * low <= truth <= 4 * high for low, high in ranges]) == pytest.approx(0.8, abs=0.06)
