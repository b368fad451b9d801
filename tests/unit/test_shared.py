"""Results that visitors share: computed once whoever asks, never those of another question, within a bound."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from test_uncertainty import mutual_information

from mpsams import inference
from mpsams.app.components import html, mask_maps
from mpsams.app.components.reconstruction_pictures import ROWS, draw_reconstruction
from mpsams.app.learn import layout, uses
from mpsams.app.learn.context import LessonContext
from mpsams.app.learn.state import LessonState
from mpsams.app.tabs import reconstruct
from mpsams.datasets import phantom
from mpsams.inference import case as _case
from mpsams.inference import comparison, open_case, shared
from mpsams.inference.registry import ModelRegistry
from mpsams.inference.shared import Store
from mpsams.plots import images


@pytest.fixture(autouse=True)
def empty(monkeypatch):
    monkeypatch.setattr(shared, "results", Store())


def test_simultaneous_calls_compute_once():
    store, entered, go, calls, found = Store(), threading.Event(), threading.Event(), [], []

    def compute() -> str:
        calls.append(1)
        entered.set()
        go.wait(30)
        return "result"

    threads = [threading.Thread(target=lambda: found.append(store.get(("key",), compute))) for _ in range(8)]
    threads[0].start()
    entered.wait(30)
    for thread in threads[1:]:
        thread.start()
    while store.usage()["waits"] < 7:
        assert all(thread.is_alive() for thread in threads)
    go.set()
    for thread in threads:
        thread.join(30)
    assert found == ["result"] * 8 and len(calls) == 1 and store.get(("key",), compute) == "result"
    usage = store.usage()
    assert (usage["misses"], usage["waits"], usage["hits"], usage["results"]) == (1, 7, 1, 1)


def test_an_error_is_raised_and_not_kept():
    store = Store()
    with pytest.raises(ZeroDivisionError):
        store.get(("key",), lambda: 1 / 0)
    assert store.get(("key",), lambda: 5) == 5 and store.usage()["misses"] == 2


def test_what_was_asked_for_least_recently_makes_room():
    store = Store(limit=10_000)
    for key in "abcd":
        store.get((key,), lambda: np.zeros(1900, np.uint8))
    store.get(("a",), lambda: None)
    store.get(("e",), lambda: "x" * 1900)
    assert store.usage()["used"] <= 10_000
    computed: list = []
    for key in "acdeb":
        store.get((key,), lambda key=key: computed.append(key) or b"")
    assert computed == ["b"]
    store.get(("huge",), lambda: np.zeros(9000, np.uint8))  # would leave nothing else
    assert store.usage()["results"] == 4
    store.clear()
    assert store.usage()["used"] == store.usage()["results"] == 0


def test_sizes_and_digests_tell_arrays_apart():
    assert shared.size_of((np.zeros(8), torch.zeros(2, 3), "ab", [b"c"], None)) == 64 + 24 + 2 + 1
    arrays = (np.zeros((2, 3)), np.zeros((3, 2)), np.zeros((2, 3), np.float32), np.ones((2, 3)), torch.ones(6))
    assert len({shared.digest(array) for array in arrays}) == 5 and shared.digest(
        np.ones((2, 3)).T.copy().T
    ) == shared.digest(np.ones((2, 3)))


def test_visitors_with_the_same_image_share_its_patches_and_answers(small_weights):
    registry, sample = ModelRegistry(small_weights), phantom.samples()[0]
    options = open_case.clustering_options(registry.clustering())
    one, other = (open_case.open_sample(sample, options) for _ in range(2))
    assert one.study is other.study and _case.recluster(one, options).study is one.study
    assert _case.recluster(one, options | {"seed": 3}).study is not one.study
    names = registry.segmenters(one.modality)
    (*_, first), (*_, second) = (comparison.predict_slice(case, names, registry) for case in (one, other))
    assert names and all(first.probabilities[name] is second.probabilities[name] for name in names)
    assert all(
        np.array_equal(
            first.probabilities[name], inference.grid_probability(registry.network(name), one.unit_hw, one.box)
        )
        for name in names
    )
    assert first.map(names[0]) is second.map(names[0])


def test_a_reconstruction_is_that_of_its_image_network_and_mask(small_weights):
    registry = ModelRegistry(small_weights)
    cases = [
        open_case.open_sample(sample, open_case.clustering_options(registry.clustering()))
        for sample in phantom.samples()[:2]
    ]
    network = registry.network(registry.names("-pretrain")[0])
    found = []
    for case in cases:
        for epoch in (1, 100):
            hidden_1l = inference.mask_at(case.study, epoch).lesion_first_1l
            for truth in (None, case.truth_11ss):
                arguments = network, case.image_11ss, hidden_1l, case.study.patch, truth
                found.append(draw_reconstruction(*arguments))
                assert draw_reconstruction(*arguments) is found[-1]
                whole = inference.reconstruct(*arguments)
                assert found[-1].filled == images.uri(images.preview(whole.filled_11ss[0, 0].numpy()))
                assert found[-1].error_hidden == whole.error_hidden
    assert len({id(each) for each in found}) == 8


def test_a_second_visitor_costs_no_second_reconstruction(small_weights, monkeypatch):
    registry, sample, asked = ModelRegistry(small_weights), phantom.samples()[0], []
    compute = inference.reconstruct
    monkeypatch.setattr(
        inference, "reconstruct", lambda network, *rest: asked.append(network) or compute(network, *rest)
    )
    options = open_case.clustering_options(registry.clustering())
    one, other = (open_case.open_sample(sample, options) for _ in range(2))
    first = reconstruct.view(one, 100, "first", registry)
    networks, used = len(asked), shared.results.usage()["used"]
    second = reconstruct.view(other, 100, "first", registry)
    assert (
        networks and second.partition("</i>")[2] == first.partition("</i>")[2]
    )  # after the key of the visitor's image
    assert len(asked) == networks and shared.results.usage()["used"] == used
    hidden_1l = reconstruct.hidden_patches(one, 100, "first")
    whole = shared.size_of(compute(asked[0], one.image_11ss, hidden_1l, one.study.patch))
    assert used < networks * whole  # the pictures are kept, and the image, and not what they were drawn from
    assert reconstruct.view(one, 1, "first", registry) != first and len(asked) == 2 * networks


def shown(page: layout.StepPage) -> str:
    """The page of a step of the lesson as HTML."""
    return layout.lesson(page, LessonState(), "")


def test_learn_shows_the_reconstructions_of_the_tab_reconstruct_without_asking_the_network_again(
    small_weights, monkeypatch
):
    registry, asked, compute = ModelRegistry(small_weights), [], inference.reconstruct
    monkeypatch.setattr(inference, "reconstruct", lambda *arguments: asked.append(arguments) or compute(*arguments))
    case = open_case.open_sample(phantom.samples()[0], open_case.clustering_options(registry.clustering()))
    views = {way: reconstruct.view(case, 100, way, registry) for way in ("first", "random")}
    before = len(asked)
    assert before == len(views) * len(ROWS)
    for way, view in views.items():
        context = LessonContext(case, LessonState(epoch=100, way=way), registry)
        found = context.reconstruct(way)
        assert all(
            picture in view and picture in shown(uses.reconstruct(context)) for picture in (found.filled, found.error)
        )
        assert html.percent(found.error_lesion, 1) in shown(uses.compare(context))
    assert len(asked) == before
    uses.reconstruct(LessonContext(case, LessonState(epoch=800), registry))  # more patches are hidden
    assert len(asked) == before + 1


def test_the_information_of_all_masks_is_computed_once(small_weights):
    registry = ModelRegistry(small_weights)
    case = open_case.open_sample(phantom.samples()[0], open_case.clustering_options(registry.clustering()))
    covariance_ll = torch.eye(256) + 0.1
    for epoch in (1, 100, 800):
        at = inference.mask_at(case.study, epoch)
        mask_maps.view(case, epoch, 0, covariance_ll)
        orders_2l = torch.cat([case.study.lesion_first_1l, case.study.random_1l])
        found_2 = shared.information_curve(covariance_ll, orders_2l)[:, at.hidden]
        wanted = [mutual_information(covariance_ll, mask) for mask in (*at.lesion_first_1l, *at.random_1l)]
        assert found_2.tolist() == pytest.approx(wanted, rel=1e-5)
    assert [key[0] for key in shared.results._results].count("curve") == 1


def test_a_singular_covariance_only_leaves_its_card_out(small_weights):
    registry = ModelRegistry(small_weights)
    case = open_case.open_sample(phantom.samples()[0], open_case.clustering_options(registry.clustering()))
    singular, regular = (
        mask_maps.view(case, 100, 0, matrix_ll) for matrix_ll in (torch.ones(256, 256), torch.eye(256))
    )
    assert "Shared information" in regular and "Shared information" not in singular
    assert "Entropy of the masks" in singular and "True lesion hidden" in singular


def test_what_a_page_needs_from_networks_is_known_once_it_was_drawn(small_weights):
    registry = ModelRegistry(small_weights)
    case = open_case.open_sample(phantom.samples()[0], open_case.clustering_options(registry.clustering()))
    names = registry.segmenters(case.modality)
    for needed, draw in (
        (
            lambda: comparison.needed_results(case, names, registry),
            lambda: list(comparison.predict_slice(case, names, registry)),
        ),
        (
            lambda: reconstruct.needed_results(case, 100, "first", registry),
            lambda: reconstruct.view(case, 100, "first", registry),
        ),
    ):
        assert needed() and not any(map(shared.is_known, needed()))
        draw()
        assert all(map(shared.is_known, needed()))
    assert not any(map(shared.is_known, reconstruct.needed_results(case, 1, "random", registry)))
    *_, predictions = comparison.predict_slice(case, names, registry)
    shared.results.clear()
    assert comparison.needed_results(case, names, registry, predictions) == ()  # the visitor holds them
