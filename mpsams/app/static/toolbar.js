// Buttons, keys and notes around the sheet; this part comes last and begins the page.
const MINUS = ['polygon', 'fill', 'box', 'point'], PROMPTS = ['box', 'point'];  // tools that add or remove; those that need a network
let noted = 0, peeked_at = 0;

const note = (words, refused = false) => {
    const one = part('note');
    clearTimeout(noted);
    one.textContent = words;
    one.hidden = !words;
    one.classList.toggle('refused', refused);
    if (words) noted = setTimeout(() => { one.hidden = true; }, refused ? 12000 : 6000);
};
const press = (name, on) => root.querySelectorAll(`[data-do=${name}]`).forEach(button => button.setAttribute('aria-pressed', on));
const allow = (name, on) => root.querySelectorAll(`[data-do=${name}]`).forEach(button => { button.disabled = !on; });
const give = (name, on) => root.querySelectorAll(`[data-do=${name}], [data-for=${name}]`).forEach(one => { one.hidden = !on; });
const controls = () => {
    const {status: now, slice, slices, queue_left} = state, project = now !== '', free = !locked(), shut = ['accepted', 'skipped'].includes(now);
    root.querySelectorAll('[data-tool]').forEach(button => button.setAttribute('aria-pressed', button.dataset.tool === tool.name));
    give('size', ROUND.includes(tool.name) || tool.name === 'window');
    give('minus', MINUS.includes(tool.name));
    for (const name of PROMPTS) root.querySelectorAll(`[data-tool=${name}]`).forEach(button => { button.hidden = !state.prompts; });
    give('propagate_all', state.prompts);
    if (!state.prompts && PROMPTS.includes(tool.name)) tool.name = 'brush';
    give('strokes', tool.name === 'lesion' || tool.name === 'background');
    press('minus', tool.minus);
    press('plus', !tool.minus);
    text('size', String(tool.size));
    const slider = root.querySelector('[data-set=size]');
    slider.value = SIZES.findIndex(size => size >= tool.size);
    give('side', aside());
    press('side', aside() && aside().checkVisibility());
    press('hide', show.hidden);
    press('outline', show.outline);
    press('dashes', show.proposal);
    press('truth', show.truth);
    give('dashes', sheet && sheet.proposal);
    give('truth', sheet && sheet.truth);
    allow('undo', free && (open_polygon.length || sheet.undo.length));
    allow('redo', free && sheet.redo.length);
    for (const name of ['clear', 'largest', 'holes', 'smooth']) allow(name, free && sheet.area);
    allow('strokes', free);
    allow('proposal', free);
    give('proposal', state.proposal);
    give('accept', project && !shut);
    give('skip', project && !shut);
    give('next', project && shut);
    give('reopen', project && shut);
    allow('accept', free);
    allow('skip', free);
    part('status').hidden = !project;
    part('status').dataset.status = now;
    text('status', now);
    text('left', project ? `${queue_left} left in the queue${state.who && ' \u00b7 ' + state.who}` : document.querySelector('#annotate-queue') ? 'not in the project, to practise on' : '');
    part('slices').hidden = part('volume').hidden = slices < 2;
    text('slice', `${slice + 1} / ${slices}`);
    text('below', `Copy slice ${slice}`);
    text('over', `Copy slice ${slice + 2}`);
    allow('back', slice > 0);
    allow('on', slice < slices - 1);
    for (const [name, there] of [['below', slice > 0], ['over', slice < slices - 1], ['propagate', true], ['propagate_all', true]]) allow(name, free && there);
    stage.dataset.cursor = locked() && !leaving() ? 'locked' : stage.dataset.cursor === 'locked' ? tool.name : stage.dataset.cursor || tool.name;
};
const aside = () => document.querySelector('#side');  // of the page; hidden at first where a project gives the images
const toggled = name => { show[name] = !show[name]; controls(); redraw(); };
const swap = () => {
    if (MINUS.includes(tool.name)) { tool.minus = !tool.minus; controls(); hover(); }
    else choose(tool.name === 'brush' ? 'eraser' : 'brush');
};
const drawn_here = act => () => { if (sheet && !stroke) locked() ? refuse() : act(); };
const finish = wished => () => { if (state.status && !locked() && !stroke) { if (open_polygon.length) cancel(); ask(wished); } };
const next = () => { if (state.status && sheet && !leaving()) ask('open', {item: ''}); };
const step = by => () => { if (state.slices > 1) ask('go', {step: by}); };
const tidy = how => drawn_here(() => { finish_object(); ask('tidy', {how}); });
const to_prompt = name => () => (state.prompts ? choose(name) : note('There is no network for boxes and clicks among the weights.', true));
const DO = {
    undo, redo, fit, rewindow, next,
    in: () => zoom(1.25), out: () => zoom(.8),
    plus: () => { tool.minus = false; controls(); }, minus: () => { tool.minus = true; controls(); },
    hide: () => toggled('hidden'), outline: () => toggled('outline'), dashes: () => toggled('proposal'), truth: () => toggled('truth'),
    strokes: drawn_here(() => wipe(LESION | GROUND)), clear: drawn_here(() => wipe(MASK | HAND | LESION | GROUND)),
    accept: finish('accept'), skip: finish('skip'), reopen: () => ask('reopen'), proposal: drawn_here(() => ask('proposal')),
    back: step(-1), on: step(1), below: drawn_here(() => ask('copy', {step: -1})), over: drawn_here(() => ask('copy', {step: 1})),
    propagate_all: drawn_here(() => ask('propagate_all')),
    propagate: drawn_here(() => ask('propagate', {step: Number(part('way').value), count: Math.round(clamp(Number(part('count').value) || 1, 1, 20))})),
    largest: tidy('largest'), holes: tidy('holes'), smooth: tidy('smooth'),
    keys: () => part('sheet-of-keys').showModal(),
    side: () => { document.body.classList.toggle('side-turned'); controls(); },
};
root.addEventListener('click', event => {
    const button = event.target.closest('button');
    if (event.target === part('sheet-of-keys')) event.target.close();
    if (!button || button.closest('dialog')) return;
    active();
    if (button.dataset.tool) choose(button.dataset.tool);
    else if (['keys', 'side'].includes(button.dataset.do) || sheet) DO[button.dataset.do]();
    if (event.detail && button.dataset.do !== 'keys') stage.focus({preventScroll: true});
});
root.addEventListener('input', event => {
    const {set} = event.target.dataset;
    if (set === 'size') resize(SIZES[event.target.value]);
    if (set === 'opacity') { show.opacity = event.target.value / 100; redraw(); }
});

const KEYS = {
    b: to_prompt('box'), p: to_prompt('point'), r: () => choose('brush'), 2: () => choose('brush'), e: () => choose('eraser'), 1: () => choose('eraser'), g: () => choose('polygon'), 3: () => choose('polygon'),
    f: () => choose('fill'), 4: () => choose('fill'), s: () => choose('lesion'), d: () => choose('background'), w: () => choose('window'), x: swap,
    o: DO.outline, m: DO.dashes, t: DO.truth, '[': () => bigger(-1), ']': () => bigger(1), '{': () => bigger(-1), '}': () => bigger(1),
    '+': DO.in, '=': DO.in, '-': DO.out, _: DO.out, 0: fit, '?': DO.keys, a: DO.accept, n: () => (['accepted', 'skipped'].includes(state.status) ? next() : DO.skip()),
    enter: () => (open_polygon.length ? close_polygon(tool.shift) : DO.accept()), backspace: () => { open_polygon.pop(); hover(); controls(); },
    arrowup: DO.back, arrowleft: DO.back, pageup: DO.back, arrowdown: DO.on, arrowright: DO.on, pagedown: DO.on, escape: cancel,
};
const typing = target => target.closest('textarea, select, [contenteditable=""], [contenteditable=true], input:not([type=range], [type=checkbox], [type=radio], [type=button])');
const here = event => root.isConnected && root.checkVisibility() && (root.contains(document.activeElement) || root.matches(':hover')) && !typing(event.target) && !document.querySelector('dialog[open]');
document.addEventListener('keydown', event => {
    if (!here(event) || event.altKey) return;
    const key = event.key.toLowerCase(), control = event.ctrlKey || event.metaKey, button = event.target.closest('button, a, [role=tab], summary');
    let act;
    if (control) act = key === 'z' ? (event.shiftKey ? redo : undo) : key === 'y' && !event.shiftKey ? redo : null;
    else if (key === ' ' || key === 'enter' || key.startsWith('arrow') || key.startsWith('page')) {
        const own = button || event.target.type === 'range' || key !== 'enter' && key !== ' ' && state.slices < 2;
        act = own ? null : key === ' ' ? () => { space = true; ring(); } : KEYS[key];
    } else if (key === 'h') act = () => { if (!event.repeat) { peeked_at = performance.now(); DO.hide(); } };
    else if (key === 'backspace' || key === 'escape') act = open_polygon.length || object && key === 'escape' ? KEYS[key] : null;
    else act = KEYS[key];
    if (!act) return;
    event.preventDefault();
    active();
    if (sheet || act === DO.keys) act();
});
document.addEventListener('keyup', event => {
    if (event.key === ' ') { space = false; if (sheet) ring(); }
    if (event.key.toLowerCase() === 'h' && peeked_at) {
        if (performance.now() - peeked_at > 350) DO.hide();
        peeked_at = 0;
    }
});
window.addEventListener('blur', () => { space = false; });

element.drawn = () => sheet && {key: sheet.key, mask: pack(MASK), lesion: pack(LESION), background: pack(GROUND), steps: sheet.undo.length};
watch('value', () => hear(props.value));
controls();
hear(props.value);
