// Mouse, fingers, wheel and keys of the three planes, and when they are read anew.
const fingers = new Map();
let drag = null, pinch = null, scrolled = 0;

const plane_at = event => {
    const figure = event.target.closest ? event.target.closest('[data-plane]') : null;
    return figure && event.target instanceof HTMLCanvasElement && view ? figure.dataset.plane : '';
};
// The place in the volume, in voxels from its corner, under a point of the screen.
const place_under = (name, x, y) => {
    const frame = canvas_of(name).getBoundingClientRect(), {scale, left, top} = placed(name, frame.width);
    return to_place(PLANES[name], (x - frame.left - left) / scale[0], (y - frame.top - top) / scale[1], middle_of(view.at), shape());
};
const millimetres_under = (name, x, y) => place_under(name, x, y).map((value, axis) => value * about.mm[axis]);
const cross_at = (name, x, y) => {
    view.is_moved = true;
    view.at = voxel_at(place_under(name, x, y), shape());
    redraw();
};
const pan_planes = (name, x, y) => {
    const plane = PLANES[name], by = view.frame.side / canvas_of(name).clientWidth, middle = [...view.frame.middle];
    middle[plane.across] -= x * by;
    middle[plane.down] += (plane.is_flipped ? y : -y) * by;
    set_frame({...view.frame, middle: middle.map((value, axis) => limit(value, 0, shape()[axis] * about.mm[axis]))});
};
const pinch_state = () => {
    const [a, b] = [...fingers.values()];
    return {name: a.name, x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.max(20, Math.hypot(a.x - b.x, a.y - b.y))};
};
section.addEventListener('pointerdown', event => {
    const name = plane_at(event);
    if (!name || drag) return;
    if (event.pointerType === 'touch') fingers.set(event.pointerId, {x: event.clientX, y: event.clientY, name});
    if (fingers.size === 2) { pinch = pinch_state(); drag = null; return; }
    const kind = event.button === 2 ? 'window' : event.button === 1 || event.shiftKey ? 'pan' : event.button === 0 ? 'cross' : '';
    if (!kind) return;
    drag = {kind, name, id: event.pointerId, x: event.clientX, y: event.clientY, from: [event.clientX, event.clientY]};
    if (event.pointerType !== 'touch') event.target.setPointerCapture(event.pointerId);
    if (event.button === 1) event.preventDefault();
    if (kind === 'cross') cross_at(name, event.clientX, event.clientY);
});
section.addEventListener('pointermove', event => {
    if (fingers.has(event.pointerId)) Object.assign(fingers.get(event.pointerId), {x: event.clientX, y: event.clientY});
    if (pinch && fingers.size === 2) {
        const now = pinch_state();
        zoom(now.apart / pinch.apart, millimetres_under(pinch.name, pinch.x, pinch.y));
        pan_planes(pinch.name, now.x - pinch.x, now.y - pinch.y);
        pinch = now;
        return;
    }
    if (!drag || drag.id !== event.pointerId || !view) return;
    if (drag.kind === 'cross') cross_at(drag.name, event.clientX, event.clientY);
    else if (drag.kind === 'pan') pan_planes(drag.name, event.clientX - drag.x, event.clientY - drag.y);
    else {
        window_now = dragged_window(about.window, event.clientX - drag.from[0], event.clientY - drag.from[1]);
        redraw();
    }
    Object.assign(drag, {x: event.clientX, y: event.clientY});
});
for (const name of ['pointerup', 'pointercancel']) section.addEventListener(name, event => {
    fingers.delete(event.pointerId);
    if (fingers.size < 2) pinch = null;
    if (!drag || drag.id !== event.pointerId) return;
    if (drag.kind === 'window' && window_now) trigger('window', {low: window_now[0], high: window_now[1]});
    drag = null;
});
section.addEventListener('contextmenu', event => { if (event.target instanceof HTMLCanvasElement) event.preventDefault(); });
section.addEventListener('dblclick', event => { if (plane_at(event)) go_to('body'); });
document.addEventListener('scroll', () => { scrolled = performance.now(); }, {capture: true, passive: true});
section.addEventListener('wheel', event => {  // one that scrolls the page goes on scrolling it when a picture comes under it
    const name = plane_at(event), is_surface = event.target === surface_canvas && view;
    if (!name && !is_surface || !event.deltaY || performance.now() - scrolled < 250 && !event.ctrlKey) return;
    const factor = Math.exp(-limit(event.deltaMode ? 60 * Math.sign(event.deltaY) : event.deltaY, -120, 120) / 300);
    if (factor < 1 && (is_surface ? closeness <= .5 : view.frame.side >= largest_side())) return;
    event.preventDefault();
    if (is_surface) come_closer(factor);
    else zoom(factor, millimetres_under(name, event.clientX, event.clientY));
}, {passive: false});

const press = (name, is_on) => section.querySelector(`[data-do=${name}]`).setAttribute('aria-pressed', is_on);
const ACTIONS = {
    in: () => zoom(1.5), out: () => zoom(1 / 1.5), squares: () => press('squares', squares = !squares), outlines: () => press('outlines', has_outlines = !has_outlines),
};
const KEYS = {'+': 'in', '=': 'in', '-': 'out', p: 'squares', o: 'outlines'}, FRAMES = {w: 'whole', b: 'body', l: 'lesion', 0: 'body'};
const STEPS = {ArrowLeft: ['across', -1], ArrowRight: ['across', 1], ArrowUp: ['down', -1], ArrowDown: ['down', 1], PageUp: ['through', 1], PageDown: ['through', -1]};
section.addEventListener('keydown', event => {
    const name = plane_at(event), step = STEPS[event.key], frame = FRAMES[event.key];
    if (!name || event.ctrlKey || event.metaKey || event.altKey) return;
    if (step) {
        const plane = PLANES[name], axis = plane[step[0]], sign = step[0] === 'down' && plane.is_flipped ? -1 : 1;
        move_axis(axis, view.at[axis] + step[1] * sign * (event.shiftKey ? 10 : 1));
    } else if (KEYS[event.key]) ACTIONS[KEYS[event.key]]();
    else if (frame && (frame !== 'lesion' || lesion_of())) go_to(frame);
    else return;
    event.preventDefault();
    redraw();
});
section.addEventListener('click', event => {
    const button = event.target.closest('button');
    if (!button || !view) return;
    if (button.dataset.frame) go_to(button.dataset.frame);
    else if (button.dataset.turn) turn_to(...TURNS[button.dataset.turn]);
    else ACTIONS[button.dataset.do]();
    redraw();
});
section.addEventListener('input', event => {
    const figure = event.target.closest('[data-plane]');
    if (figure && view) move_axis(PLANES[figure.dataset.plane].through, event.target.value - 1);
});

const take_sent = () => {
    read_about();
    for (const [name, take] of [['volume', take_volume], ['outlines', take_outlines]]) {
        const sent = panel.querySelector(`i[data-${name}]`);
        if (!sent) continue;
        take(JSON.parse(sent.dataset[name]));
        sent.removeAttribute(`data-${name}`);
    }
};
new MutationObserver(changes => { if (changes.some(({target}) => !element.contains(target))) take_sent(); }).observe(panel, {childList: true, subtree: true, attributeFilter: ['data-planes', 'data-volume', 'data-outlines']});
new ResizeObserver(redraw).observe(section);
new IntersectionObserver(([entry]) => {
    is_seen = entry.isIntersecting;
    ask();
}, {rootMargin: '200px'}).observe(section);
take_sent();
