"""The Learn tab without a browser: what it shows is what the library computes; links there and
back; hostile requests.
"""

import re
from dataclasses import replace
from html import unescape
from types import SimpleNamespace
from urllib.parse import parse_qs

import gradio as gr
import pytest
import torch

from mpsams import checkpoint, clusters, inference, masking, metrics, patches, plots, schedule
from mpsams.app.address import Address
from mpsams.app.learn import examples, handout, layout, lesson, quiz, quiz_page, transfer
from mpsams.app.learn.context import LessonContext
from mpsams.app.learn.state import DEFAULTS, STEPS, LessonState, SliceLink, make_link
from mpsams.app.session import FIRST_EPOCH, Session
from mpsams.app.sidebar import Sidebar
from mpsams.app.tabs import learn
from mpsams.app.tabs import masking as masking_tab
from mpsams.datasets import phantom
from mpsams.inference import case as _case
from mpsams.inference import open_case
from mpsams.inference.registry import ModelRegistry
from mpsams.unet import UNet


@pytest.fixture(scope="module")
def registry(small_weights):
    return ModelRegistry(small_weights)


@pytest.fixture(scope="module")
def case(registry):
    return open_case.open_sample(phantom.samples()[0], open_case.clustering_options(registry.clustering()))


def html(case, registry, **state) -> str:
    """A step as the page gets it."""
    now = LessonState(**state)
    return layout.lesson(learn.STEP_PAGES[now.step - 1](LessonContext(case, now, registry)), now, make_link(now, case))


def text(page: str) -> str:
    """The text that can be read on it."""
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page)))


@pytest.mark.parametrize("step", range(1, 11))
@pytest.mark.parametrize("sample", [0, 3])  # with a lesion and without
def test_every_step_of_every_kind_has_words_a_picture_and_a_text_for_each(registry, step, sample):
    case = open_case.open_sample(phantom.samples()[sample], open_case.clustering_options(registry.clustering()))
    for more in (
        {},
        {"swap": True, "way": "random", "patch": 255, "epoch": 1},
        {"way": "own", "own": "0" * 63 + "f", "rounds": 0, "epoch": 800},
        {"way": "own"},
    ):
        page = html(case, registry, step=step, **more)
        pictures = re.findall(r"<svg ([^>]*)>", page)
        assert pictures and all(re.search(r'aria-label="[^"]{12,}"', one) and 'role="' in one for one in pictures)
        assert f"Step {step} of 10" in page and "nan" not in text(page).lower().split() and "None" not in text(page)
        assert "–" not in text(page) or step == 9  # where one's own mask hides no lesion, there is no error inside it


def test_every_step_works_without_any_weights_and_without_truth(case, tmp_path):
    bare = _case.set_truth(case, None)
    for step in range(1, 11):
        page = html(bare, ModelRegistry(tmp_path), step=step, way="random")
        assert "true lesion, which" not in page and "nan" not in text(page).lower().split()
    assert "No segmentation network here" in html(bare, ModelRegistry(tmp_path), step=10)
    assert "No pretrained network here" in html(bare, ModelRegistry(tmp_path), step=8)


def test_numbers_are_those_of_the_case(case, registry):
    study, found = case.study, case.agreement
    inside = int((study.clusters.lesion_bl & found.truth_1l).sum())
    page = text(html(case, registry, step=4))
    assert (
        f"{study.lesion_size} of 256 patches" in page
        and f"truly are lesion, {inside} are orange" in page
        and f"{found.lift:.2f}× as often as random patches" in page
    )
    assert f"after round {len(lesson.two_means_rounds(case.image_11ss, study.clusters.rows_bln, 16)) - 1}." in page
    at = inference.mask_at(study, 10)
    assert (
        f"At epoch 10 it is 44.2% : 113 of 256 patches, {int((at.lesion_first_1l & study.clusters.lesion_bl).sum())} of"
        " them" in text(html(case, registry, step=6, epoch=10))
    )
    network = registry.network("busi-mps_ams-pretrain")
    for way, mask in (("first", at.lesion_first_1l), ("random", at.random_1l)):
        result = inference.reconstruct(network, case.image_11ss, mask, 16, case.truth_11ss)
        page = text(html(case, registry, step=8, epoch=10, way=way))
        assert f"it errs by {100 * result.error_lesion:.1f}% , outside by {100 * result.error_background:.1f}%" in page
        assert f"{100 * result.error_lesion:.1f}%" in text(html(case, registry, step=9, epoch=10))
    page = text(html(case, registry, step=9, epoch=10))
    assert (
        f"{inference.coverage(at.lesion_first_1l, found.truth_1l):.0%}" in page
        and f"({at.bits:.0f} bits of entropy)" in page
    )
    rows, columns = torch.meshgrid(torch.arange(16), torch.arange(16), indexing="ij")
    middle = -((rows - 7.5) ** 2 + (columns - 7.5) ** 2).flatten()
    assert f"This image {found.lift:.2f} {found.auc:.2f} {metrics.auc(middle, found.truth_1l[0]):.2f}" in page


def test_two_scores_that_hardly_differ_are_no_difference(case, registry, monkeypatch):
    context = LessonContext(case, LessonState(step=10), registry)
    for scores, words in (((0.917, 0.916), "no difference"), ((0.92, 0.8), "does better"), ((0.5, 0.8), "does worse")):
        found = {f"busi-{name}-seg-10": {"dsc": dsc} for name, dsc in zip(("mps_ams", "scratch"), scores)}
        monkeypatch.setitem(context.__dict__, "compared", SimpleNamespace(scores=found))
        assert (
            words in transfer.judged(context, context.compared)
            and f"{scores[0]:.3f}" in transfer.judged(context, context.compared)
            and "find little" not in transfer.judged(context, context.compared)
        )
    monkeypatch.setitem(
        context.__dict__,
        "compared",
        SimpleNamespace(
            scores={
                "busi-mps_ams-seg-10": {"dsc": 0.29},
                "busi-scratch-seg-10": {"dsc": 0.25},
                "busi-assist": {"dsc": 0.9},
            }
        ),
    )
    assert "find little here" in transfer.judged(context, context.compared) and "does better" in transfer.judged(
        context, context.compared
    )


def test_the_page_opens_on_a_volume_whose_clusters_find_the_lesion_if_a_network_knows_it(session, tmp_path, registry):
    assert session.first is session.cases[0]  # there are networks for ultrasound only
    about = {
        "kind": "pretrain",
        "model": {"channels": 1, "classes": 1, "width": 2, "norm": "batch"},
        "size": 256,
        "method": "mps_ams",
        "transfers": ["encoder", "decoder"],
    }
    about |= {
        "config": {
            "method": {
                "patch": 16,
                "selector": "covariance-of-softmax",
                "normalise": "standardised",
                "temperature": 1.0,
            }
        }
    }
    data = {"name": "brats", "modality": "mri", "target": "tumour", "images": 9}
    checkpoint.save(tmp_path / "brats-mps_ams-pretrain.safetensors", UNet(width=2).state_dict(), about | {"data": data})
    with gr.Blocks():
        first = Session(ModelRegistry(tmp_path), None, "learn").first
    assert first.modality == "mri" and first.is_volume and first.agreement.lift > 1


def test_the_examples_have_computed_numbers_and_links_that_open_them(address):
    session = address.session
    found = examples.find_examples(session.first, session.cases, session.registry)
    assert found[-1].lift > 1 > found[-2].lift and found[-2].case.title == found[-1].case.title
    page = examples.links(found, 4, session.first)
    for query, one in zip(re.findall(r'href="\?([^"]+)"', page), found, strict=True):
        shows = address.open({name: values[0] for name, values in parse_qs(unescape(query)).items()})
        assert (shows[session.case].title, shows[session.case].selector) == (one.case.title, one.case.selector)
        assert shows[session.case].agreement.lift == pytest.approx(one.lift) and f"{one.lift:.2f}×" in page


def test_similarity_names_the_most_and_the_least_alike(case, registry):
    options = {key: value for key, value in registry.clustering(case.modality).items() if key != "selector"}
    row = lesson.scaled_similarity(case.image_11ss, **options)[37].tolist()
    most = max((k for k in range(256) if k != 37), key=row.__getitem__)
    least = min(range(256), key=row.__getitem__)
    page = text(html(case, registry, step=2, patch=37))
    assert (
        f"row {most // 16 + 1}, column {most % 16 + 1} is most like" in page
        and f"row {least // 16 + 1}, column {least % 16 + 1} is least like" in page
    )


def test_a_swap_turns_everything_after_it_round(case, registry):
    one, other = (LessonContext(case, LessonState(swap=swap, epoch=50), registry) for swap in (False, True))
    assert torch.equal(other.study.clusters.lesion_bl, ~one.study.clusters.lesion_bl)
    assert other.agreement.auc == pytest.approx(1 - one.agreement.auc, abs=1e-6) and torch.equal(
        other.rounds[-1], ~one.rounds[-1]
    )
    assert torch.equal(
        other.masked.lesion_first_1l,
        masking.cut(
            masking.order(~one.study.clusters.lesion_bl, torch.Generator().manual_seed(0)), schedule.mask_ratio(50)
        ),
    )
    assert torch.equal(other.masked.random_1l, one.masked.random_1l) and "Swapped" in html(
        case, registry, step=4, swap=True
    )


def test_another_selector_needs_no_matrix(case, registry):
    """A reading that is none of the paper's: the clusters are its own, the matrices stay the paper's."""
    other = replace(case, selector="something else")
    for step in range(1, 11):
        html(other, registry, step=step)
    context = LessonContext(other, LessonState(step=4), registry)
    assert (
        context.clustering_options["selector"] in clusters.PAPER_SELECTORS
        and len(context.rounds) == 1
        and "another selector" in html(other, registry, step=3)
    )


def test_the_page_hides_at_every_epoch_what_the_library_hides(case, registry):
    page = html(case, registry, step=6)
    counts, order = (
        list(map(int, re.search(rf'data-{name}="([\d,]+)"', page).group(1).split(","))) for name in ("counts", "order")
    )
    assert len(counts) == 800 and order == case.study.lesion_first_1l[0].tolist()
    for epoch in (1, 2, 99, 800):
        hidden = torch.zeros(256, dtype=torch.bool)
        hidden[order[: counts[epoch - 1]]] = True
        assert torch.equal(hidden, inference.mask_at(case.study, epoch).lesion_first_1l[0])


@pytest.fixture(scope="module")
def address(registry):
    """The address of a page with the tabs Learn and Masking, without a server."""
    with gr.Blocks():
        made = Session(registry, None, "learn")
        made.sidebar = Sidebar(made)
        with made.tabs.render():
            for module in (learn, masking_tab):
                with gr.Tab(id=module.__name__.rpartition(".")[2]) as tab, made.within(tab):
                    module.build(made)
        return Address(made, ["learn", "masking"])


STATES = [
    LessonState(),
    LessonState(step=7, epoch=1, patch=0, way="own", own="f" + "0" * 63),
    LessonState(step=11, epoch=800, patch=255, swap=True, rounds=0, way="random", present=True),
]


@pytest.mark.parametrize("state", STATES)
def test_a_link_brings_the_state_back(address, case, state):
    query = make_link(state, case)
    shows = address.open({name: values[0] for name, values in parse_qs(query, keep_blank_values=True).items()})
    found = shows[address.session.settings["learn"].components["step"]]
    assert replace(found, quiz=state.quiz) == state and len(query) < 300
    shown = shows[address.session.case]
    assert (shown.title, shown.selector, shown.seed) == (case.title, case.selector, 0) and shows[
        address.session.open_tab
    ] == "learn"


@pytest.mark.parametrize(
    "query",
    [
        {"step": "0"},
        {"step": "12"},
        {"step": "two"},
        {"step": ""},
        {"step": "1e1"},
        {"step": "-1"},
        {"step": "٣"},
        {"step": "1" * 300},
        {"epoch": "0"},
        {"epoch": "801"},
        {"epoch": "1.5"},
        {"epoch": "nan"},
        {"patch": "256"},
        {"swap": "yes"},
        {"rounds": "26"},
        {"way": "theirs"},
        {"way": "<script>"},
        {"own": "xyz"},
        {"own": "f" * 65},
        {"own": "f" * 100_000},
        {"step": "1\n"},
        {"patch": "None"},
        {"present": "2"},
        {"present": "yes"},
    ],
)
def test_a_bad_link_is_refused_in_few_words_that_name_what_is_allowed(address, query):
    with pytest.raises(ValueError, match="allowed|digits") as refusal:
        DEFAULTS.update(query)
    assert len(str(refusal.value)) < 200
    shows = address.open(query)
    assert set(shows) == {address.session.sidebar.notice, address.accepted} and shows[address.accepted] == ""
    assert (
        "cannot be opened" in shows[address.session.sidebar.notice]
        and "<script" not in shows[address.session.sidebar.notice]
    )


@pytest.fixture(scope="module")
def session(registry):
    """The page's session, without a server."""
    with gr.Blocks():
        made = Session(registry, None, "learn")
        made.sidebar = Sidebar(made)
    return made


def test_a_place_is_put_on_screen_as_it_was(session):
    shows = session.sidebar.open_link(
        SliceLink("t1-brain-nifti-volume", "coronal", "40", "covariance-of-softmax", "77")
    )
    case = shows[session.case]
    assert (case.title, case.plane, case.index, case.selector, case.seed) == (
        "T1 brain (NIfTI volume)",
        "coronal",
        39,
        "covariance-of-softmax",
        77,
    )
    assert (
        shows[session.sidebar.seed] == 77
        and shows[session.sidebar.selector] == "covariance-of-softmax"
        and set(shows) <= set(session.sidebar.all_outputs)
    )
    assert session.is_sample(case) and not session.is_sample(replace(case, title="Your MRI"))
    assert parse_qs(make_link(LessonState(), case))["slice"] == ["40"]
    other = session.sidebar.open_link(SliceLink())[session.case]
    assert other.title == session.first.title and torch.equal(other.study.random_1l, session.first.study.random_1l)


@pytest.mark.parametrize(
    "place, words",
    [
        (SliceLink("no-such"), "ultrasound-cyst"),
        (SliceLink("../../etc/passwd"), "allowed are"),
        (SliceLink(selector="tea"), "covariance-of-softmax"),
        (SliceLink(seed="-1"), "seed"),
        (SliceLink(seed="1e3"), "seed"),
        (SliceLink(seed=str(2**31)), "seed"),
        (SliceLink(plane="sideways"), "axial"),
        (SliceLink("t1-brain-nifti-volume", slice="0"), "slice"),
        (SliceLink("t1-brain-nifti-volume", slice="9999"), "allowed are 1 to"),
        (SliceLink(slice="2"), "allowed are 1 to 1"),
    ],
)
def test_a_place_that_is_not_there_is_refused(session, place, words):
    with pytest.raises(ValueError, match=words):
        session.sidebar.open_link(place)


def test_a_link_of_version_1_0_names_its_selector_reading(address):
    shows = address.open(
        {"sample": "ct-of-the-neck-nifti-volume", "step": "4", "reading": "softmax-of-covariance", "seed": "3"}
    )
    case = shows[address.session.case]
    assert (case.selector, case.seed, case.modality) == ("softmax-of-covariance", 3, "ct") and shows[
        address.session.open_tab
    ] == "learn"
    assert shows[address.session.settings["learn"].components["step"]].step == 4


def test_a_query_of_others_is_no_link_of_ours(address):
    assert address.open({}) == address.open({"__theme": "dark", "utm_source": "x"}) == {address.accepted: ""}


def test_a_link_to_another_tab_sets_what_that_tab_keeps_and_nothing_else(address):
    session, epoch = address.session, address.session.settings["masking"].components["epoch"]
    shows = address.open({"tab": "masking", "epoch": "10"}, session.first)
    assert (
        shows[session.open_tab] == "masking"
        and shows[epoch] == 10
        and session.case not in shows
        and session.settings["learn"].components["step"] not in shows
    )
    assert address.open({"tab": "masking"})[epoch] == FIRST_EPOCH
    for query in ({"tab": "masking", "epoch": "801"}, {"tab": "../x"}, {"tab": "masking", "image": "1c1c90c0e85dc056"}):
        assert "cannot be opened" in address.open(query)[session.sidebar.notice]


def test_the_image_on_screen_is_opened_again_only_when_the_link_names_another(address):
    session = address.session
    case = session.sidebar.open_link(SliceLink("t1-brain-nifti-volume", "coronal", "40"))[session.case]
    link = session.sidebar.link_to(case)
    assert link == SliceLink("t1-brain-nifti-volume", "coronal", "40")
    same = {"tab": "masking", "sample": link.sample, "plane": "coronal", "slice": "40"}
    assert (
        session.case not in address.open(same, case)
        and address.open(same | {"slice": "41"}, case)[session.case].index == 40
    )
    upload = replace(case, title="Your MRI")
    assert session.sidebar.link_to(upload) == SliceLink() and session.case not in address.open(
        {"tab": "masking"}, upload
    )


@pytest.mark.parametrize(
    "values",
    [
        {"step": True},
        {"step": 1.0},
        {"step": None},
        {"epoch": [5]},
        {"own": {"a": 1}},
        {"own": 7},
        {"way": 3},
        {"swap": "on"},
        {"request": -1},
        {"patch": 10**30},
    ],
)
def test_a_value_of_the_wrong_type_is_refused(values):
    with pytest.raises(ValueError):
        LessonState().update(values)


def test_a_page_that_sends_back_the_state_it_got_changes_nothing():
    state = LessonState(step=7, epoch=5, patch=3, swap=True, rounds=2, way="own", own="0" * 63 + "1", request=4)
    assert LessonState().update(state.to_page()) == state and state.update({}) == state


@pytest.fixture(scope="module")
def round_(registry):
    return quiz.make_round(7, 0, registry.clustering)


def test_the_quiz_hides_the_whole_lesion_and_tells_the_page_nothing_of_it(round_, registry):
    assert not (round_.truth_1l & ~round_.hidden_1l).any() and int(round_.truth_1l.sum()) >= quiz.PICKS
    assert int(round_.hidden_1l.sum()) == int(256 * schedule.mask_ratio(quiz.EPOCHS[0]))
    hidden = patches.to_pixels(round_.hidden_1l, 16, 256, 256)
    shown = round_.picture_11ss(is_open=True)
    assert shown[hidden].unique().numel() == 1 and torch.equal(shown[~hidden], round_.image_11ss[~hidden])
    page = quiz_page.guess(quiz.Quiz(seed=7), round_)
    board = layout.lesson(page, LessonState(step=11), "")
    assert "truth" not in board and "was-hidden" not in board
    listed = list(map(int, re.search(r'data-guess="([\d,]+)"', board).group(1).split(",")))
    assert listed == sorted(listed)  # not in the order they were hidden, lesion first


def test_the_quiz_counts_hits_of_everyone(round_):
    truth = torch.nonzero(round_.truth_1l[0])[:, 0].tolist()
    healthy = torch.nonzero((round_.hidden_1l & ~round_.truth_1l)[0])[:, 0].tolist()
    once = quiz.submit_guess(quiz.Quiz(seed=7), [truth[0], truth[1], healthy[0]], round_)
    expected = 3 * len(truth) / int(round_.hidden_1l.sum())
    by_machine = sum(k in truth for k in round_.clustering)
    assert (
        once.scores == pytest.approx((2, by_machine, sum(k in truth for k in round_.middle), expected))
        and once.done == 1
    )
    page = quiz_page.guess(once, round_)
    shown = layout.lesson(page, LessonState(step=11), "")
    assert "2 of 3" in shown and "You" in shown and "truth" in shown
    twice = quiz.submit_guess(quiz.next_round(once), truth[:3], round_)
    assert twice.scores[0] == 5 and twice.done == 2 and twice.round == 1


@pytest.mark.parametrize("picks", [[], None, 5, "abc", [0.5, 1, 2], [True, False, True], {"a": 1}])
def test_a_guess_that_is_none_is_refused(round_, picks):
    with pytest.raises(ValueError, match="pick"):
        quiz.submit_guess(quiz.Quiz(seed=7), picks, round_)


def test_a_guess_must_be_three_different_hidden_patches_and_only_once(round_):
    hidden = torch.nonzero(round_.hidden_1l[0])[:, 0].tolist()
    visible = torch.nonzero(~round_.hidden_1l[0])[:, 0].tolist()
    for picks in (
        hidden[:2],
        hidden[:4],
        [hidden[0]] * 3,
        [*hidden[:2], visible[0]],
        [*hidden[:3], visible[0]],
        [*hidden[:2], -1],
    ):
        with pytest.raises(ValueError, match="3 different hidden"):
            quiz.submit_guess(quiz.Quiz(seed=7), picks, round_)
    with pytest.raises(ValueError, match="over"):
        quiz.submit_guess(quiz.submit_guess(quiz.Quiz(seed=7), hidden[:3], round_), hidden[:3], round_)


def test_two_rounds_differ_and_the_same_round_does_not(registry, round_):
    assert torch.equal(quiz.make_round(7, 0, registry.clustering).image_11ss, round_.image_11ss)
    other = quiz.make_round(7, 1, registry.clustering)
    assert other.title != round_.title and int(other.hidden_1l.sum()) > int(round_.hidden_1l.sum())


@pytest.fixture(scope="module")
def handed_out(registry):
    """The texts and figure of a handout: (panels, lines, link)."""

    def drawn(case, state, is_sample=True):
        with pytest.MonkeyPatch.context() as patch:
            kept = []
            patch.setattr(plots, "handout", lambda *values: kept.append(values))
            patch.setattr(plots, "as_bytes", lambda figure, form: b"")
            handout.draw(LessonContext(case, state, registry), "http://127.0.0.1:7860/", is_sample)
        ((_, lines, panels, _, link),) = kept
        return panels, lines, link

    return drawn


def test_a_handout_has_the_ten_steps_with_the_numbers_of_the_image(handed_out, case):
    state = LessonState(epoch=10, present=True)
    panels, lines, link = handed_out(case, state)
    assert [panel.title for panel in panels] == list(STEPS[:10]) and any(
        "σ = 0.25 + ln(epoch) / 12" in line for line in lines
    )
    assert (
        f"{case.study.lesion_size} of 256 patches" in panels[3].text
        and "44.2%" in panels[5].text
        and "113 of 256 patches" in panels[6].text
    )
    hidden = masking.cut(case.study.random_1l, schedule.mask_ratio(10)).reshape(16, 16).numpy()
    assert (panels[8].masks[0][1] == hidden).all() and panels[5].curve[1][9] == schedule.mask_ratio(10)
    assert all(len(panel.text) < 330 for panel in panels)
    query = {name: values[0] for name, values in parse_qs(link.partition("?")[2]).items()}
    assert query["epoch"] == "10" and "present" not in query and link.startswith("http://127.0.0.1:7860/?")
    assert handed_out(case, state, False)[2] == "http://127.0.0.1:7860/"


@pytest.mark.parametrize(
    "page, allowed",
    [
        ("http://127.0.0.1:7860/", True),
        ("https://a.example/mps/", True),
        ("javascript:alert(1)", False),
        ("http://a b/", False),
        ("", False),
        (None, False),
        (7, False),
        ("http://" + "a" * 300, False),
    ],
)
def test_only_an_address_of_a_page_goes_into_a_handout(page, allowed):
    assert handout.is_page(page) == allowed
