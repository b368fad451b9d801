"""The state that the tabs of one page share: the case on screen, which tab is in front, and when they are redrawn."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gradio as gr

from mpsams import schedule
from mpsams.annotation import disk
from mpsams.annotation.project import Project
from mpsams.annotation.reader_views import ReaderView, ReaderViews
from mpsams.app.events import on_event, unless_error, user_error
from mpsams.app.gradio_compat import page_query, root_blocks
from mpsams.app.gradio_compat.blocks import GuardedBlocks
from mpsams.app.gradio_compat.fair_queue import Keys
from mpsams.app.learn.examples import finds_lesion
from mpsams.app.learn.state import parse_number
from mpsams.datasets import phantom
from mpsams.datasets.phantom import BuiltInVolume
from mpsams.inference import open_case
from mpsams.inference.case import Case
from mpsams.inference.checkpoint_metadata import training_data
from mpsams.inference.registry import ModelRegistry

if TYPE_CHECKING:
    from mpsams.app.sidebar import Sidebar


@dataclass(frozen=True)
class TabSettings:
    """The settings of a tab that are kept in the address of the page.

    components: key in the query -> what holds its value. read: values of these keys as text, and the case they are for
    -> updates of the components; a missing key gets its default. ValueError for a value that is not allowed.
    """

    components: Mapping[str, gr.components.Component]
    read: Callable[[Mapping[str, str], Case], dict]


FIRST_EPOCH = 100
NO_PROJECT = "No project is open; start the app with --project DIR."
OPENS_ON = ("mri", "ct")  # modalities of volumes in the order of preference: networks outline the lesions of T1 better


class Session:
    """The page that is being built: its networks, its project (or None), the samples, and shared components.

    views: the readers of the project; None without one. case: ``gr.State`` with the Case on screen. version:
    ``gr.State`` with a string that changes with the case, so that no tensor is ever compared. first: the Case that is
    shown at first. open_tab: hidden text with the name of the tab in front;
    opens: its first value. epoch: hidden number that the sliders of epochs share. tabs: all of them, rendered by the
    page. sidebar: set by the page. settings: of the tabs, by name.
    """

    def __init__(self, registry: ModelRegistry, project: Project | None, opens: str) -> None:
        self.registry, self.views = registry, None if project is None else ReaderViews(project)
        self.cases = [open_case.open_sample(sample, self.clustering(sample.modality)) for sample in phantom.samples()]
        self.volumes = phantom.volumes()
        self.volume = functools.cache(
            lambda index: open_case.open_volume(self.volumes[index], self.clustering(self.volumes[index].modality))
        )
        self.first = self._choose_first()
        self.case = gr.State(self.first)
        self.version = gr.State("first")
        # reserves bytes of memory; OverBudget where there are none left
        self.reserve: Callable[[int], None] = lambda size: None
        self.hold(self.case)
        self.open_tab = gr.Textbox(opens, visible=False, label="tab in front")
        self.epoch = gr.Number(FIRST_EPOCH, visible=False, label="epoch of the tabs that show one")
        self.tabs = gr.Tabs(selected=opens, elem_id="tabs", overflow_behavior="wrap", render=False)
        self.sidebar: Sidebar
        self.settings: dict[str, TabSettings] = {}
        self._tab: gr.Tab | None = None
        self._triggers: list[tuple[gr.Tab, gr.Textbox]] = []  # of each listener of a tab: changes when it is called

    @property
    def view(self) -> ReaderView | None:
        """The view of the reader whom the address of the page names that sent the event being handled, else of the
        first; None without a project.
        """
        try:
            return None if self.views is None else self.views.view(page_query().get("reader", ""))
        except (ValueError, OSError) as error:
            raise user_error(disk.as_sentence(error)) from None

    @property
    def project(self) -> Project | None:
        """The project that the reader of this page works in; None without one."""
        return None if self.view is None else self.view.project

    def require_views(self) -> ReaderViews:
        """Return the readers of the project; show the user an error without one."""
        if self.views is None:
            raise user_error(NO_PROJECT)
        return self.views

    def require_view(self) -> ReaderView:
        """Return ``view``; show the user an error without a project."""
        view = self.view
        if view is None:
            raise user_error(NO_PROJECT)
        return view

    def require_project(self) -> Project:
        """Return ``project``; show the user an error without one."""
        return self.require_view().project

    @functools.cached_property
    def _shipped_registry(self) -> ModelRegistry:
        return ModelRegistry(self.registry.folder, self.registry.results)

    @property
    def annotation_registry(self) -> ModelRegistry:
        """The networks that help the reader of this page: those trained on the first reader's masks help no other."""
        return self._shipped_registry if self.view is not None and self.view.name else self.registry

    def _choose_first(self) -> Case:
        """Return the first volume, in the order of ``OPENS_ON``, whose clusters find the lesion, if a pretrained
        network of its modality is at hand; else the first image.
        """
        known = {training_data(self.registry.metadata(name))[0] for name in self.registry.names("-mps_ams-pretrain")}
        order = sorted(range(len(self.volumes)), key=lambda index: OPENS_ON.index(self.volumes[index].modality))
        volumes = (self.volume(index) for index in order if self.volumes[index].modality in known)
        return next(filter(finds_lesion, volumes), self.cases[0])

    def hold(self, *states: gr.State) -> None:
        """Hold the values of these states within the page's budget of memory, which may release them."""
        page = root_blocks()
        if isinstance(page, GuardedBlocks):
            page.hold(states)
            self.reserve = page.budget.reserve

    def clustering(self, modality: str, seed: float | None = 0, selector: str | None = None) -> dict:
        """Return the options of ``inference.study`` for a modality. ValueError for a seed that is not allowed."""
        return open_case.clustering_options(self.registry.clustering(modality, selector), seed or 0)

    def on_case(
        self,
        show: Callable,
        inputs: Sequence,
        outputs: Sequence | gr.components.Component,
        needs: Callable[..., Keys] = lambda *values: None,
        asks_reader: bool = False,
        **options,
    ) -> None:
        """Call ``show(case, *inputs)`` for the outputs whenever another case is on screen.

        A listener of a tab is only called while the tab is open, and when it is opened. needs, options: as ``on_event``
        takes them. asks_reader: True for one that uses ``view``; it is not called where that raises an error, which
        the readers' panel shows once, when the page is opened.
        """
        inputs = [self.case, *inputs]
        if asks_reader:
            count = len(outputs) if isinstance(outputs, Sequence) else 1
            show = unless_error(lambda: self.view, show, (gr.skip(),) * count if count > 1 else gr.skip())
        if self._tab is None:
            on_event(self.version.change, show, inputs, outputs, needs=needs, **options)
            return
        trigger = gr.Textbox("0", visible=False, label=f"images shown in {self._tab.id}")
        self._triggers.append((self._tab, trigger))
        on_event(trigger.change, show, inputs, outputs, needs=needs, **options)

    @contextmanager
    def within(self, tab: gr.Tab) -> Iterator[None]:
        """Let ``on_case`` register listeners of the tab while inside."""
        # in the browser, so that selections stay in order
        on_event(tab.select, None, [], self.open_tab, js=f"() => {{ window.address?.changed(); return {tab.id!r}; }}")
        self._tab = tab
        yield
        self._tab = None

    def connect_listeners(self) -> None:
        """Register when the listeners of the tabs are called: those of the open tab, and no others, when another case
        is on screen, and those of a tab when it is opened. All tabs must be built.

        This is decided in the browser: an event to the server for each listener of a closed tab would hold up those
        that someone waits for. Each listener has a trigger of its own, since gradio's page repeats an event for all its
        listeners when one of them was busy, and so would go on for ever (6.31).
        """
        tabs, triggers = zip(*self._triggers, strict=True)
        names = json.dumps([tab.id for tab in tabs])
        js = f"(open, ...counts) => counts.map((count, k) => {names}[k] === open ? String(Number(count) + 1) : count)"
        on_event(self.version.change, None, [self.open_tab, *triggers], list(triggers), js=js)
        for tab, trigger in self._triggers:
            on_event(tab.select, None, [trigger], trigger, js="count => String(Number(count) + 1)")

    @property
    def _current_tab(self) -> gr.Tab:
        """The tab that is laid out, within ``within``."""
        assert self._tab is not None
        return self._tab

    def link_epoch(self, slider: gr.Slider) -> None:
        """Link the slider of the tab being built to the epochs of other tabs, in the browser, and keep it in the
        address: an image has one epoch.
        """
        on_event(slider.change, None, [slider], self.epoch, js="epoch => epoch")
        on_event(self._current_tab.select, None, [self.epoch], slider, js="epoch => epoch")

        def read(values: Mapping[str, str], case: Case) -> dict:
            epoch = parse_number("epoch", values.get("epoch", FIRST_EPOCH), 1, schedule.HORIZON)
            return {slider: epoch, self.epoch: epoch}

        self.keep_in_address({"epoch": slider}, read)

    def on_open(
        self, show: Callable, inputs: Sequence, outputs: Sequence | gr.components.Component, **options
    ) -> gr.events.Dependency:
        """Call ``show(*inputs)`` when the page opens, for what is not known before. options: as in ``on_event``."""
        page = root_blocks()
        assert page is not None  # it is being built
        return on_event(page.load, show, inputs, outputs, **options)

    def keep_in_address(
        self, components: Mapping[str, gr.components.Component], read: Callable[[Mapping[str, str], Case], dict]
    ) -> None:
        """Keep settings of the tab being built in the address; a user's change of a component is written at once."""
        tab = self._current_tab.id
        self.settings[tab] = TabSettings(components, read)
        for key, component in components.items():
            if not isinstance(component, gr.State):
                changed = component.input if isinstance(component, gr.CheckboxGroup) else component.change
                on_event(
                    changed, None, [component], None, js=f"value => window.address?.note({tab!r}, {{{key}: value}})"
                )

    def in_front(self, tab: str) -> dict:
        """Return updates that bring a tab to the front, for the outputs ``tabs`` and ``open_tab``."""
        return {self.tabs: gr.Tabs(selected=tab), self.open_tab: tab}

    @property
    def samples(self) -> list[Case | BuiltInVolume]:
        """The samples in the order of their numbers: images, then volumes that may not be drawn yet."""
        return [*self.cases, *self.volumes]

    def sample(self, index: int) -> Case:
        """Return a sample by its number: the images first, then the volumes, which are drawn when first asked for."""
        return self.cases[index] if index < len(self.cases) else self.volume(index - len(self.cases))

    def is_sample(self, case: Case) -> bool:
        """Return True if a case is one of the samples with its own modality."""
        return (case.title, case.modality) in {(sample.title, sample.modality) for sample in self.samples}
