// The hand: what pointers, fingers and wheel do on the slice, tool by tool.
const SIZES = [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 18, 22, 27, 33, 40, 50, 62, 78, 97, 120, 150, 190, 240, 300, 380, 480];
const ROUND = ['brush', 'eraser', 'lesion', 'background'];
const tool = {name: 'brush', size: 12, minus: false, before: 'brush'};
const fingers = new Map();
let stroke = null, moving = null, pinch = null, space = false, clicked = {time: 0}, turned = 0, turned_at = 0, right_at = 0;

const choose = name => {
    if (tool.name === name) return;
    if (open_polygon.length) cancel();
    tool.before = tool.name;
    tool.name = name;
    ring();
    controls();
};
const resize = size => {
    tool.size = clamp(size, SIZES[0], SIZES.at(-1));
    controls();
    hover();
};
const change_size = by => resize(SIZES[clamp(SIZES.findIndex(size => size >= tool.size) + by, 0, SIZES.length - 1)]);
const ring = () => {
    if (pointer) pointer.ring = ROUND.includes(tool.name) && !moving && !space && pointer.kind !== 'touch';
    stage.dataset.cursor = moving ? 'moving' : space ? 'hand' : locked() ? 'locked' : tool.name;
    hover();
};

// A step of the history: what was drawn is kept, shown, and sent.
const finish_step = box => {
    const step = push_step(box);
    repaint(box);
    on_drawn();
    return step;
};
const show_locked = () => {
    if (!slice_view || leaving()) return;
    note(`This one is ${state.status}. Reopen it to change it.`, true);
};
const begin_stroke = (event, point) => {
    stroke = {id: event.pointerId, name: event.buttons & 32 ? 'eraser' : tool.name, last: point, box: null};
    extend(point);
};
const extend = point => {
    const box = capsule(stroke.last, point, tool.size, MARKS[stroke.name]);
    stroke.last = point;
    stroke.box = union_box(stroke.box, box);
    repaint(box);
};
const end_stroke = keep => {
    if (!stroke) return;
    const {box, name} = stroke;
    stroke = null;
    if (box && keep) {
        const step = finish_step(box);
        if (name === 'lesion' || name === 'background') request('scribble', {step_of_undo: step});
    } else if (box) {
        discard_stroke(box);
        repaint(box);
    }
    if (inbox.length) process_replies();
};

const near = (a, b, reach) => { const p = on_screen(a), q = on_screen(b); return Math.hypot(p.x - q.x, p.y - q.y) <= reach; };
const corner = (event, point) => {
    const reach = event.pointerType === 'touch' ? 18 : 10, now = performance.now();
    const again = clicked.point && now - clicked.time < 400 && near(clicked.point, point, reach / 2);
    clicked = {time: now, point};
    tool.shift = event.shiftKey;
    if (open_polygon.length > 2 && (again || near(open_polygon[0], point, reach))) return close_polygon(event.shiftKey);
    if (!again) open_polygon.push(point);
    hover();
    controls();
};
const close_polygon = shift => {
    const points = open_polygon;
    open_polygon = [];
    clicked = {time: 0};
    if (points.length > 2) finish_step(polygon(points, MARKS[shift || tool.minus ? 'eraser' : 'brush']));
    hover();
    controls();
};
const cancel = () => { stop_following(); finish_object(); open_polygon = []; clicked = {time: 0}; hover(); controls(); };
const fill_region = (point, erase) => {
    const x = Math.floor(point.x), y = Math.floor(point.y);
    if (!inside(x, y)) return;
    const box = fill(x, y, erase);
    typeof box === 'string' ? note(box) : finish_step(box);
};
const wipe_strokes = () => {
    slice_view.px.forEach((bits, k, px) => { px[k] = bits & ~(LESION | GROUND | STROKE); });
    finish_step(whole());
};
// Remove the chosen structure and the strokes; the others stay.
const wipe_structure = () => {
    slice_view.px.forEach((bits, k, px) => { px[k] = (label_of(bits) === structure || !label_of(bits) ? with_label(bits, 0) & ~HAND : bits) & ~(LESION | GROUND | STROKE); });
    finish_step(whole());
};
// The scribble whose step is the last one is not sent, or its reply is not shown.
const cancel_scribble = () => {
    const last = slice_view.undo.at(-1), is_last = command => command.action === 'scribble' && command.step_of_undo === last;
    if (!last) return;
    queue = queue.filter(command => !is_last(command));
    if (in_flight && is_last(in_flight.command)) in_flight.dropped = true;
};
const can_reopen_last = () => Boolean(state.can_reopen_last && slice_view && !leaving() && (locked() || !slice_view.undo.length && !slice_view.redo.length));
const undo = () => {
    if (can_reopen_last() && !stroke && !open_polygon.length && !object) return request('reopen_last');
    if (!slice_view || locked() || stroke) return;
    if (open_polygon.length) { open_polygon.pop(); hover(); return controls(); }
    if (cancel_prompt()) return;
    if (current()) pop_gesture(object);
    cancel_scribble();
    repaint(apply_step(slice_view.undo, slice_view.redo));
    on_drawn();
};
const redo = () => {
    if (!slice_view || locked() || stroke) return;
    object = null;
    repaint(apply_step(slice_view.redo, slice_view.undo));
    on_drawn();
};

// Window and level as in viewers of clinics: to the right is wider, downwards is darker.
const drag_window = (x, y) => {
    const {window: [black, white]} = moving, width = (white - black) * Math.exp(x / 250), level = (black + white) / 2 + y * (white - black) / 250;
    slice_view.window = [level - width / 2, level + width / 2];
    moving.late ||= requestAnimationFrame(() => { if (moving) moving.late = 0; apply_window(); });
};
const set_window = window => {
    slice_view.window = window;
    apply_window();
    request('window', {low: window[0], high: window[1]});
};
const rewindow = () => set_window(slice_view.reset);

stage.addEventListener('pointerdown', event => {
    if (!slice_view || event.target.closest('button')) return;
    event.preventDefault();
    stage.focus({preventScroll: true});
    stage.setPointerCapture(event.pointerId);
    count_time();
    fingers.set(event.pointerId, {x: event.clientX, y: event.clientY});
    if (event.pointerType === 'touch' && fingers.size === 2) {
        end_stroke(false);
        moving = dragging = null;
        pinch = pinch_state();
        return;
    }
    if (fingers.size > 1 || stroke || moving || dragging) return;
    const start = {id: event.pointerId, x: event.clientX, y: event.clientY}, point = at(event);
    track_pointer(event);
    if (event.button === 1 || space) moving = {...start, kind: 'pan'};
    else if (event.button === 2 && tool.name === 'point' && !locked()) return click_point(point, true);
    else if (event.button === 2 || tool.name === 'window') moving = {...start, kind: 'window', window: slice_view.window, button: event.button};
    else if (locked()) return show_locked();
    else if (tool.name === 'box') begin_box(event, point);
    else if (tool.name === 'point') return click_point(point, event.altKey || tool.minus);
    else if (tool.name === 'polygon') return corner(event, point);
    else if (tool.name === 'fill') return fill_region(point, event.shiftKey || tool.minus);
    else begin_stroke(event, point);
    ring();
});
const pinch_state = () => {
    const [a, b] = [...fingers.values()], box = stage.getBoundingClientRect();
    return {x: (a.x + b.x) / 2 - box.left, y: (a.y + b.y) / 2 - box.top, apart: Math.max(20, Math.hypot(a.x - b.x, a.y - b.y))};
};
const track_pointer = event => { pointer = {...at(event), kind: event.pointerType}; ring(); };
stage.addEventListener('pointermove', event => {
    if (!slice_view) return;
    count_time();
    if (fingers.has(event.pointerId)) fingers.set(event.pointerId, {x: event.clientX, y: event.clientY});
    if (pinch && fingers.size >= 2) {
        const now = pinch_state();
        zoom(now.apart / pinch.apart, pinch.x, pinch.y);
        pan(now.x - pinch.x, now.y - pinch.y);
        pinch = now;
        return;
    }
    track_pointer(event);
    if (stroke && stroke.id === event.pointerId) {
        const all = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
        for (const one of all.length ? all : [event]) extend(at(one));
    } else if (dragging && dragging.id === event.pointerId) drag_box(event, at(event));
    else if (moving && moving.kind === 'pan') {
        pan(event.clientX - moving.x, event.clientY - moving.y);
        Object.assign(moving, {x: event.clientX, y: event.clientY});
    } else if (moving) drag_window(event.clientX - moving.x, event.clientY - moving.y);
    update_numbers();
});
const end_pointer = keep => event => {
    fingers.delete(event.pointerId);
    if (fingers.size < 2) pinch = null;
    if (stroke && stroke.id === event.pointerId) {
        if (keep) extend(at(event));
        end_stroke(keep);
    }
    if (dragging && dragging.id === event.pointerId) end_box(keep, event, at(event));
    if (moving && moving.id === event.pointerId) {
        const {kind, window, x, y} = moving, still = Math.hypot(event.clientX - x, event.clientY - y) < 3;
        moving = null;
        if (kind === 'window') {
            if (window !== slice_view.window && !still) { apply_window(); request('window', {low: slice_view.window[0], high: slice_view.window[1]}); }
            const now = performance.now();
            if (still && now - right_at < 400) rewindow();
            right_at = still ? now : 0;
        }
    }
    ring();
};
stage.addEventListener('pointerup', end_pointer(true));
stage.addEventListener('pointercancel', end_pointer(false));
stage.addEventListener('pointerleave', () => { if (!stroke) { pointer = null; hover(); if (slice_view) update_numbers(); } });
stage.addEventListener('contextmenu', event => event.preventDefault());
stage.addEventListener('auxclick', event => event.preventDefault());
stage.addEventListener('wheel', event => {
    const turn_by = event.deltaY || event.deltaX, box = stage.getBoundingClientRect();
    if (!slice_view || !turn_by || !(event.ctrlKey || event.metaKey || event.shiftKey || state.slices > 1)) return;
    event.preventDefault();
    count_time();
    if (event.ctrlKey || event.metaKey) return zoom(Math.exp(-clamp(turn_by, -120, 120) / 300), event.clientX - box.left, event.clientY - box.top);
    const now = performance.now();
    if (now - turned_at > 300 || turned * turn_by < 0) turned = 0;
    turned += event.deltaMode ? 60 * Math.sign(turn_by) : turn_by;
    turned_at = now;
    if (Math.abs(turned) < 40) return;
    turned = 0;
    event.shiftKey ? change_size(turn_by < 0 ? 1 : -1) : request('go', {step: Math.sign(turn_by)});
}, {passive: false});
