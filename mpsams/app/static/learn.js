// The Learn tab in the browser: a click or a key becomes a request to the server ('act'); epochs are animated here.
/* global enter_fullscreen, lay_out_presentation, set_presenting, step_of_key */
const root = () => element.querySelector('.learn');
const answered = () => JSON.parse(root().dataset.state);
let wanted = null, due = false, latest = 0, sent = 0, timeout = 0, playing = 0, stroke = null;

// A request holds the whole state, so that the last of many stands for all of them. One is sent at a time; what is asked for
// meanwhile is sent after the answer, or when none came. A change without a request is sent with the next one.
const send = () => {
    latest = sent = wanted.request;
    due = false;
    clearTimeout(timeout);
    timeout = setTimeout(() => { sent = 0; due = false; wanted = null; }, 20000);
    trigger('act', wanted);
};
const set = change => wanted = {...(wanted || answered()), ...change, request: Math.max(latest, answered().request) + 1};
const ask = change => {
    set(change);
    due = true;
    if (!sent) send();
};

// An answer to an earlier request redraws the page; what was changed since stays.
const restore = () => {
    const map = root().querySelector('svg[data-choose], svg[data-row], svg[data-draw]');
    if (map && wanted.patch !== null) frame(map, wanted.patch);
    if (map && 'draw' in map.dataset) fill(map, wanted.own);
    if (map && stroke) hold(map);
    for (const slide of root().querySelectorAll('[data-slide]')) {
        const value = wanted[slide.dataset.slide];
        if (value !== null) setSlider(slide, value);
    }
};
watch('value', () => {
    const now = answered();
    window.address?.note_query('learn', root().dataset.link);
    if (wanted && now.request >= wanted.request) wanted = null;
    if (wanted && wanted.step === now.step && !playing) restore();
    if (sent && now.request >= sent) {
        sent = 0;
        clearTimeout(timeout);
        if (due) send();
    }
    if (!root().querySelector('[data-play]')) playing = 0;
    lay_out_presentation();
});
const go = step => {
    playing = 0;
    ask({step});
    if (root().getBoundingClientRect().top < 0) root().scrollIntoView({block: 'start'});
};
const say = (name, text) => root().querySelectorAll(`[data-say=${name}]`).forEach(part => part.textContent = text);
const numbers = text => text ? text.split(',').map(Number) : [];
const path = (cells, n) => cells.map(k => `M${k % n} ${Math.floor(k / n)}h1v1h-1z`).join('') || 'M0 0';
const columns = map => Number(map.dataset.columns);
const frame = (map, k) => {
    map.dataset.patch = k;
    const shown = map.querySelector('path.picked');
    if (shown) shown.setAttribute('d', path([k], columns(map)));
};

// Hide the patches of an epoch without asking the server.
const paint = epoch => {
    say('epoch', epoch);
    const map = root().querySelector('svg[data-live]');
    if (!map) return;
    const counts = numbers(map.dataset.counts), share = numbers(map.dataset.shares)[epoch - 1] / 10;
    const hidden = numbers(map.dataset.order).slice(0, counts[epoch - 1]), n = Math.sqrt(map.dataset.lesion.length);
    const inside = k => map.dataset.lesion[k] === '1', two = map.querySelector('.live-1');
    map.querySelector('.live-0').setAttribute('d', path(two ? hidden.filter(k => !inside(k)) : hidden, n));
    if (two) two.setAttribute('d', path(hidden.filter(inside), n));
    say('share', share.toFixed(1) + '%');
    say('hidden', hidden.length);
    say('inside', hidden.filter(inside).length);
    const x = 100 * (epoch - 1) / (counts.length - 1) + '%';
    root().querySelectorAll('.plot .now, .plot .dot').forEach(mark => mark.style.left = x);
    root().querySelectorAll('.plot .dot').forEach(mark => mark.style.bottom = share + '%');
};
const stop = (button, epoch) => {
    playing = 0;
    button.setAttribute('aria-pressed', false);
    button.textContent = 'Play';
    ask({epoch});
};
const play = button => {
    const slide = root().querySelector('[data-slide=epoch]'), last = Number(slide.max);
    if (playing) return stop(button, Number(slide.value));
    const mine = playing = Math.random(), from = Number(slide.value) >= last ? 1 : Number(slide.value);
    const begun = performance.now() - 14000 * Math.sqrt((from - 1) / (last - 1));
    button.setAttribute('aria-pressed', true);
    button.textContent = 'Pause';
    const next = now => {
        if (playing !== mine || !button.isConnected) return;
        const part = Math.min(1, (now - begun) / 14000), epoch = Math.round(1 + (last - 1) * part * part);
        slide.value = epoch;
        paint(epoch);
        part < 1 ? requestAnimationFrame(next) : stop(button, last);
    };
    requestAnimationFrame(next);
};

// The patch of a picture that an event lies on.
const under = (map, event) => {
    const box = map.getBoundingClientRect(), n = columns(map);
    const cell = (x, low, side) => Math.min(n - 1, Math.max(0, Math.floor((x - low) / side * n)));
    const row = cell(event.clientY, box.top, box.height);
    return 'row' in map.dataset ? row : row * n + cell(event.clientX, box.left, box.width);
};
const neighbour = (map, key) => {
    const n = columns(map), k = Number(map.dataset.patch);
    if ('row' in map.dataset) return Math.min(n - 1, Math.max(0, k + ({ArrowUp: -1, ArrowDown: 1}[key] || 0)));
    const x = k % n + ({ArrowLeft: -1, ArrowRight: 1}[key] || 0), y = Math.floor(k / n) + ({ArrowUp: -1, ArrowDown: 1}[key] || 0);
    return x < 0 || y < 0 || x >= n || y >= n ? k : y * n + x;
};

// One's own mask: 64 hexadecimal digits, the first patch highest.
const bits = text => [...(text || '0'.repeat(64))].flatMap(digit => [8, 4, 2, 1].map(bit => (parseInt(digit, 16) & bit) > 0));
const digits = on => { let text = ''; for (let k = 0; k < on.length; k += 4) text += (8 * on[k] + 4 * on[k + 1] + 2 * on[k + 2] + on[k + 3]).toString(16); return text; };
const fill = (map, own) => {
    const on = bits(own);
    map.dataset.own = own;
    map.querySelector('.live-0').setAttribute('d', path(on.flatMap((one, i) => one ? [i] : []), columns(map)));
    say('hidden', on.filter(Boolean).length);
};
const draw = (map, k, hide) => {
    const on = bits(map.dataset.own);
    on[k] = hide;
    fill(map, digits(on));
    frame(map, k);
    set({own: map.dataset.own, patch: k});
};
const hold = map => {
    stroke.map = map;
    map.setPointerCapture(stroke.pointer);
};
element.addEventListener('pointerdown', event => {
    const map = event.target.closest('svg[data-draw]');
    if (!map || event.button) return;
    event.preventDefault();
    map.focus();
    const k = under(map, event);
    stroke = {pointer: event.pointerId, hide: !bits(map.dataset.own)[k]};
    hold(map);
    draw(map, k, stroke.hide);
});
element.addEventListener('pointermove', event => stroke && draw(stroke.map, under(stroke.map, event), stroke.hide));
for (const end of ['pointerup', 'pointercancel']) element.addEventListener(end, () => {
    if (stroke) ask({});
    stroke = null;
});

// The quiz: picks are kept here until they are sent.
const pick = (map, k) => {
    frame(map, k);
    let picks = numbers(map.dataset.picks);
    const output = root().querySelector('[data-picked]');
    if (!numbers(map.dataset.guess).includes(k)) output.textContent = 'That patch is not hidden: the lesion is under a grey one.';
    else {
        picks = picks.includes(k) ? picks.filter(one => one !== k) : [...picks, k].slice(-3);
        output.textContent = `${picks.length} of 3 picked.`;
    }
    map.dataset.picks = picks.join();
    const n = columns(map), side = 256 / n;
    map.querySelector('.guesses').innerHTML = picks.length ? `<path class="guess" transform="scale(${side} ${side})" d="${path(picks, n)}"/>` : '';
    root().querySelector('[data-reveal]').setAttribute('aria-disabled', picks.length !== 3);
};

const copy = async () => {
    const url = `${location.origin}${location.pathname}?${root().dataset.link}`;
    const field = root().querySelector('.copy input'), output = root().querySelector('.copy output');
    field.hidden = false;
    field.value = url;
    field.select();
    let done;
    try { await navigator.clipboard.writeText(url); done = true; } catch { done = document.execCommand('copy'); }
    output.textContent = done ? 'Copied.' : 'Press Ctrl+C to copy.';
};

element.addEventListener('click', event => {
    const button = event.target.closest('button'), map = event.target.closest('svg[data-columns]');
    if (map && 'choose' in map.dataset) ask({patch: under(map, event)});
    else if (map && 'row' in map.dataset) ask({patch: under(map, event)});
    else if (map && 'guess' in map.dataset) pick(map, under(map, event));
    if (!button || button.getAttribute('aria-disabled') === 'true') return;
    const {go: step, set: name, value, selector, present} = button.dataset;
    if (step) go(Number(step));
    else if (present) set_presenting(present === '1');
    else if ('fullscreen' in button.dataset) enter_fullscreen();
    else if (name) { playing = 0; ask({[name]: JSON.parse(value)}); }
    else if (selector) trigger('set_selector', {selector});
    else if ('order' in button.dataset) trigger('reshuffle', {});
    else if ('play' in button.dataset) play(button);
    else if ('copy' in button.dataset) copy();
    else if ('handout' in button.dataset) trigger('handout', {page: location.origin + location.pathname});
    else if ('again' in button.dataset) trigger('next_round', {});
    else if ('reveal' in button.dataset) {
        const asked = root().querySelector('svg[data-guess]'), picks = numbers(asked.dataset.picks);
        if (picks.length === 3) trigger('guess', {round: Number(asked.dataset.round), picks});
    }
});
const setSlider = (slide, value) => {
    slide.value = value;
    slide.dataset.slide === 'epoch' ? paint(value) : say(slide.dataset.slide, value);
};
element.addEventListener('input', event => {
    const {slide} = event.target.dataset;
    if (!slide) return;
    playing = 0;
    setSlider(event.target, Number(event.target.value));
    set({[slide]: Number(event.target.value)});
});
element.addEventListener('change', event => {
    if (event.target.dataset.slide) ask({[event.target.dataset.slide]: Number(event.target.value)});
});
element.addEventListener('keydown', event => {
    const map = event.target.closest('svg[data-columns]');
    if (!map || event.ctrlKey || event.metaKey || event.altKey) return;
    const press = event.key === ' ' || event.key === 'Enter';
    if (!press && !event.key.startsWith('Arrow')) return;
    event.preventDefault();
    event.stopPropagation();
    const k = neighbour(map, event.key), by_hand = 'draw' in map.dataset;
    if (press && by_hand) { draw(map, Number(map.dataset.patch), !bits(map.dataset.own)[map.dataset.patch]); ask({}); }
    else if (press && 'guess' in map.dataset) pick(map, Number(map.dataset.patch));
    else if (!press) {
        frame(map, k);
        if (by_hand) set({patch: k});
        else if (!('guess' in map.dataset)) ask({patch: k});
    }
});
document.addEventListener('keydown', event => {
    const step = step_of_key(event), here = root();
    if (!step || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || !here || !here.checkVisibility()) return;
    if (!event.key.startsWith('Page') && event.target.closest('input, textarea, select, [role=tab], [role=slider], [role=radio], svg[data-columns], [contenteditable]')) return;
    const to = (wanted || answered()).step + step;
    if (to < 1 || to > here.querySelectorAll('nav.steps li').length) return;
    event.preventDefault();
    go(to);
});
