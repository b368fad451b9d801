// Buttons, keys and notes around the slice; this part comes last and begins the page.
const MINUS = ['polygon', 'fill', 'box', 'point'], PROMPTS = ['box', 'point'];  // tools that add or remove; those that need a network
let note_timer = 0, peeked_at = 0;

const note = (words, is_error = false) => {
    const one = part('note');
    clearTimeout(note_timer);
    one.textContent = words;
    one.hidden = !words;
    one.classList.toggle('refused', is_error);
    if (words) note_timer = setTimeout(() => { one.hidden = true; }, is_error ? 12000 : 6000);
};
const set_pressed = (name, on) => root.querySelectorAll(`[data-action=${name}]`).forEach(button => button.setAttribute('aria-pressed', on));
const set_enabled = (name, on) => root.querySelectorAll(`[data-action=${name}]`).forEach(button => { button.disabled = !on; });
const set_visible = (name, on) => root.querySelectorAll(`[data-action=${name}], [data-for=${name}]`).forEach(one => { one.hidden = !on; });
const controls = () => {
    const {status: now, slice, slices, queue_left} = state, project = now !== '', free = !locked(), shut = ['accepted', 'skipped'].includes(now);
    root.querySelectorAll('[data-tool]').forEach(button => button.setAttribute('aria-pressed', button.dataset.tool === tool.name));
    set_visible('size', ROUND.includes(tool.name) || tool.name === 'window');
    set_visible('minus', MINUS.includes(tool.name));
    for (const name of PROMPTS) root.querySelectorAll(`[data-tool=${name}]`).forEach(button => { button.hidden = !state.prompts; });
    set_visible('propagate_all', state.prompts && !following);
    set_visible('stop_following', following);
    if (!state.prompts && PROMPTS.includes(tool.name)) tool.name = 'brush';
    set_visible('strokes', tool.name === 'lesion' || tool.name === 'background');
    set_pressed('minus', tool.minus);
    set_pressed('plus', !tool.minus);
    text('size', String(tool.size));
    const slider = root.querySelector('[data-set=size]');
    slider.value = SIZES.findIndex(size => size >= tool.size);
    set_visible('side', page_sidebar());
    set_pressed('side', page_sidebar() && page_sidebar().checkVisibility());
    set_pressed('exact', show.exact);
    set_pressed('hide', show.hidden);
    set_pressed('outline', show.outline);
    set_pressed('dashes', show.proposal);
    set_pressed('truth', show.truth);
    set_visible('dashes', slice_view && slice_view.proposal);
    set_visible('truth', slice_view && slice_view.truth);
    set_visible('readers', has_readers());
    set_pressed('readers', show.readers);
    for (const button of part('take').querySelectorAll('button')) button.disabled = !free;
    set_enabled('undo', free && (open_polygon.length || slice_view.undo.length) || can_reopen_last());
    set_enabled('redo', free && slice_view.redo.length);
    show_structures();  // which may choose another one
    for (const name of ['clear', 'largest', 'holes', 'smooth']) set_enabled(name, free && slice_view.areas[structure]);
    set_enabled('strokes', free);
    set_enabled('proposal', free);
    set_visible('proposal', state.proposal);
    set_visible('accept', project && !shut);
    set_visible('empty', project && !shut && slice_view && !slice_view.area);
    set_visible('previous', project);
    set_visible('after', project);
    set_visible('skip', project && !shut);
    set_visible('next', project && shut);
    set_visible('reopen', project && shut);
    for (const name of ['accept', 'empty']) set_enabled(name, free);
    set_enabled('skip', free);
    part('status').hidden = !project;
    part('status').dataset.status = now;
    text('status', now);
    text('left', project ? `${queue_left} left in the queue${state.user && ' \u00b7 ' + state.user}` : document.querySelector('#annotate-queue') ? 'not in the project, to practise on' : '');
    part('slices').hidden = part('volume').hidden = slices < 2;
    text('slice', `${slice + 1} / ${slices}`);
    text('below', `Copy slice ${slice}`);
    text('over', `Copy slice ${slice + 2}`);
    set_visible('undo_slices', state.slices_to_undo > 0);
    set_enabled('undo_slices', free);
    text('undo_slices', `Undo on ${state.slices_to_undo} slice${state.slices_to_undo === 1 ? '' : 's'}`);
    set_enabled('back', slice > 0);
    set_enabled('on', slice < slices - 1);
    for (const [name, there] of [['below', slice > 0], ['over', slice < slices - 1], ['propagate', true], ['propagate_all', true], ['interpolate', true]]) set_enabled(name, free && there);
    stage.dataset.cursor = locked() && !leaving() ? 'locked' : stage.dataset.cursor === 'locked' ? tool.name : stage.dataset.cursor || tool.name;
};
const has_readers = () => Boolean(slice_view && slice_view.readers.length);
// The key to the outlines of other readers, and the buttons that take their masks or what is made of them.
const MERGES = {
    majority: ['Majority', 'What more than half of the readers outline, of two both'], staple: ['STAPLE', 'The estimate of STAPLE, which weighs the readers by how well they agree'],
    union: ['Union', 'What any reader outlines'], intersection: ['Intersection', 'What all readers outline'],
};
const show_readers = () => {
    const {readers, merges} = slice_view;
    part('readers').replaceChildren(...readers.map(({name, image_class}, i) => {
        const one = document.createElement('span');
        one.textContent = image_class ? `${name}: ${image_class}` : name;
        one.style.setProperty('--reader', reader_colour(i));
        return one;
    }));
    const button = (source, words, title) => Object.assign(document.createElement('button'), {type: 'button', textContent: words, title, ariaLabel: title});
    const masks = readers.map(({name}) => [name, merges.length ? name : 'Copy the first reader\u2019s mask', `Use the mask of ${name}`]), made = merges.map(name => [name, ...MERGES[name]]);
    part('take').replaceChildren(...[...masks, ...made].map(([source, words, title], i) => {
        const one = button(source, words, title);
        one.dataset.source = source;
        if (i < masks.length) one.style.setProperty('--reader', reader_colour(i));
        return one;
    }));
    part('take').hidden = !readers.length;
};
const page_sidebar = () => document.querySelector('#side');  // of the page; hidden at first where a project gives the images
const toggle = name => { show[name] = !show[name]; controls(); redraw(); };
const swap = () => {
    if (MINUS.includes(tool.name)) { tool.minus = !tool.minus; controls(); hover(); }
    else choose(tool.name === 'brush' ? 'eraser' : 'brush');
};
const if_editable = act => () => { if (slice_view && !stroke) locked() ? show_locked() : act(); };
const finish_image = (action, params) => () => { if (state.status && !locked() && !stroke) { if (open_polygon.length) cancel(); request(action, params); } };
const next = () => { if (state.status && slice_view && !leaving()) request('open', {item: ''}); };
const previous = () => { if (state.status && slice_view && !leaving()) request('previous'); };
const step = by => () => { if (state.slices > 1) request('go', {step: by}); };
const tidy = how => if_editable(() => { finish_object(); request('tidy', {how}); });
const to_prompt = name => () => (state.prompts ? choose(name) : note('There is no network for boxes and clicks among the weights.', true));
const ACTIONS = {
    undo, redo, fit, rewindow, next, previous, after: next,
    in: () => zoom(1.25), out: () => zoom(.8),
    plus: () => { tool.minus = false; controls(); }, minus: () => { tool.minus = true; controls(); },
    exact: () => toggle('exact'), hide: () => toggle('hidden'), outline: () => toggle('outline'), dashes: () => toggle('proposal'), readers: () => toggle('readers'), truth: () => toggle('truth'),
    strokes: if_editable(wipe_strokes), clear: if_editable(wipe_structure), structures: edit_structures,
    accept: finish_image('accept', {empty: false}), empty: finish_image('accept', {empty: true}), skip: finish_image('skip'), reopen: () => request('reopen'), proposal: if_editable(() => request('proposal')),
    back: step(-1), on: step(1), below: if_editable(() => request('copy', {step: -1})), over: if_editable(() => request('copy', {step: 1})),
    interpolate: if_editable(() => request('interpolate')), propagate_all: if_editable(follow), stop_following, undo_slices: if_editable(() => request('undo_slices')),
    propagate: if_editable(() => request('propagate', {step: Number(part('way').value), count: Math.round(clamp(Number(part('count').value) || 1, 1, 20))})),
    largest: tidy('largest'), holes: tidy('holes'), smooth: tidy('smooth'),
    keys: () => part('shortcuts').showModal(),
    side: () => { document.body.classList.toggle('side-turned'); controls(); },
};
root.addEventListener('click', event => {
    const button = event.target.closest('button');
    if (event.target === part('shortcuts')) event.target.close();
    if (!button || button.closest('dialog')) return;
    count_time();
    if (button.dataset.tool) choose(button.dataset.tool);
    else if (button.dataset.structure) choose_structure(Number(button.dataset.structure));
    else if (button.dataset.source) if_editable(() => { finish_object(); request('take', {source: button.dataset.source}); })();
    else if (['keys', 'side'].includes(button.dataset.action) || slice_view) ACTIONS[button.dataset.action]();
    if (event.detail && button.dataset.action !== 'keys') stage.focus({preventScroll: true});
});
root.addEventListener('input', event => {
    const {set} = event.target.dataset;
    if (set === 'size') resize(SIZES[event.target.value]);
    if (set === 'preset' && slice_view && event.target.value) {
        const [level, width] = event.target.value.split(' ').map(Number);
        set_window([level - width / 2, level + width / 2]);
        stage.focus({preventScroll: true});
    }
    if (set === 'opacity') { show.opacity = event.target.value / 100; redraw(); }
});

const KEYS = {
    b: to_prompt('box'), p: to_prompt('point'), r: () => choose('brush'), 2: () => choose('brush'), e: () => choose('eraser'), 1: () => choose('eraser'), g: () => choose('polygon'), 3: () => choose('polygon'),
    f: () => choose('fill'), 4: () => choose('fill'), s: () => choose('lesion'), d: () => choose('background'), w: () => choose('window'), x: swap,
    o: ACTIONS.outline, i: ACTIONS.exact, m: ACTIONS.dashes, t: ACTIONS.truth, '[': () => change_size(-1), ']': () => change_size(1), '{': () => change_size(-1), '}': () => change_size(1),
    '+': ACTIONS.in, '=': ACTIONS.in, '-': ACTIONS.out, _: ACTIONS.out, 0: fit, '?': ACTIONS.keys, ',': previous, '.': next, a: ACTIONS.accept, n: () => (['accepted', 'skipped'].includes(state.status) ? next() : ACTIONS.skip()),
    enter: shift => (open_polygon.length ? close_polygon(tool.shift) : shift ? ACTIONS.empty() : ACTIONS.accept()), backspace: () => { open_polygon.pop(); hover(); controls(); },
    arrowup: ACTIONS.back, arrowleft: ACTIONS.back, pageup: ACTIONS.back, arrowdown: ACTIONS.on, arrowright: ACTIONS.on, pagedown: ACTIONS.on, escape: cancel,
};
const ONCE_A_PRESS = ['enter', 'a', 'n', ',', '.'];  // keys that leave the image: held down, they leave only this one
const typing = target => target.closest('textarea, select, [contenteditable=""], [contenteditable=true], input:not([type=range], [type=checkbox], [type=radio], [type=button])');
const focused = () => document.activeElement === document.body || root.contains(document.activeElement) || document.activeElement.closest('#annotate-queue');
const here = event => root.isConnected && root.checkVisibility() && (focused() || root.matches(':hover')) && !typing(event.target) && !document.querySelector('dialog[open]');
document.addEventListener('keydown', event => {
    if (!here(event) || event.altKey) return;
    const key = event.key.toLowerCase(), control = event.ctrlKey || event.metaKey, button = event.target.closest('button, a, [role=tab], summary');
    let act;
    if (control) act = key === 'z' ? (event.shiftKey ? redo : undo) : key === 'y' && !event.shiftKey ? redo : null;
    else if (key === ' ' || key === 'enter' || key.startsWith('arrow') || key.startsWith('page')) {
        const own = button || event.target.type === 'range' || key !== 'enter' && key !== ' ' && state.slices < 2;
        act = own ? null : key === ' ' ? () => { space = true; ring(); } : KEYS[key];
    } else if (key === 'h') act = () => { if (!event.repeat) { peeked_at = performance.now(); ACTIONS.hide(); } };
    else if (key === 'backspace' || key === 'escape') act = open_polygon.length || key === 'escape' && (object || following) ? KEYS[key] : null;
    else if (key === 'v') act = has_readers() ? ACTIONS.readers : null;  // else it may be that of a class
    else act = KEYS[key] || structure_key(key);
    if (!act) return;
    event.preventDefault();
    count_time();
    if (event.repeat && ONCE_A_PRESS.includes(key)) return;
    if (slice_view || act === ACTIONS.keys) act(event.shiftKey);
});
document.addEventListener('keyup', event => {
    if (event.key === ' ') { space = false; if (slice_view) ring(); }
    if (event.key.toLowerCase() === 'h' && peeked_at) {
        if (performance.now() - peeked_at > 350) ACTIONS.hide();
        peeked_at = 0;
    }
});
window.addEventListener('annotation-counts', ({detail: {left}}) => { if (state.status && state.queue_left !== left) { state.queue_left = left; controls(); } });
window.addEventListener('blur', () => { space = false; });

element.snapshot = () => slice_view && {key: slice_view.key, structure, mask: pack_labels(), lesion: pack(LESION), background: pack(GROUND), steps: slice_view.undo.length};
watch('value', () => receive(props.value));
controls();
receive(props.value);
