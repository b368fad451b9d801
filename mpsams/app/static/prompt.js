// Boxes and clicks that a network turns into a mask: one object at a time, refined by further clicks.
const PREVIEW_EVERY = 120, DRAG = 3;  // milliseconds between previews; pixels of the screen below which a drag is a click
let object = null, dragging = null;  // the object being marked: its gestures, and the mask before it; the box being drawn

const whole_box = (a, b) => {
    const top = Math.floor(Math.min(a.y, b.y)), left = Math.floor(Math.min(a.x, b.x));
    return [top, left, Math.max(1, Math.ceil(Math.max(a.y, b.y)) - top), Math.max(1, Math.ceil(Math.max(a.x, b.x)) - left)];
};
const current = () => (object && slice_view && object.key === slice_view.key ? object : null);
// What the gestures of an object say together, as the server reads it: the last box, and all clicks.
const marks_of = ({gestures}) => {
    const of = kind => gestures.filter(one => one.kind === kind).map(one => one.value);
    return {box: of('box').at(-1) || null, positive: of('positive'), negative: of('negative')};
};
// An untouched proposal of the structure gives way to the first object; whatever a person made stays beside it.
const is_as_proposed = label => Boolean(slice_view.proposal) && slice_view.px.every((bits, k) => (label_of(bits) === label) === (slice_view.proposal[k] === label));
const base_mask = label => pack_labels(is_as_proposed(label) ? label : undefined);
const gesture = (kind, value) => {
    if (!current() || kind === 'box') object = {key: slice_view.key, gestures: [], base: null, structure};
    if (kind === 'negative' && !object.gestures.length) { object = null; return note('Draw a box around the object or click on it first.', true); }
    object.gestures.push({kind, value});
    const mine = object;
    request_prompt(mine);
    hover();
    controls();
};
const request_prompt = mine => {
    queue = queue.filter(command => command.object !== mine && command.action !== 'save' && command.action !== 'preview');
    queue.push({action: 'prompt', object: mine});
    send();
};
// The parts of a command about an object, made when it is sent: the mask before the object is known only then.
const prompt_parts = mine => {
    mine.base ??= base_mask(mine.structure);
    return {...marks_of(mine), base: mine.base};
};
const pop_gesture = mine => {
    mine.gestures.pop();
    if (!mine.gestures.length && object === mine) object = null;
    hover();
    controls();
};
// Undo of a gesture whose reply has not come: it is not asked again, and the reply is not shown.
const cancel_prompt = () => {
    const mine = current(), waiting = mine && queue.some(command => command.object === mine), flying = mine && in_flight && in_flight.command.object === mine && !in_flight.dropped;
    if (!waiting && !flying) return false;
    queue = queue.filter(command => command.object !== mine);
    if (!waiting) in_flight.dropped = true;
    pop_gesture(mine);
    return true;
};
const finish_object = () => { object = null; dragging = null; hover(); controls(); };

const click_point = (point, beside) => {
    if (!inside(Math.floor(point.x), Math.floor(point.y))) return;
    gesture(beside ? 'negative' : 'positive', [point.y - .5, point.x - .5].map(place => Math.max(0, place)));
};
const begin_box = (event, point) => { dragging = {id: event.pointerId, from: point, to: point, x: event.clientX, y: event.clientY, path: null, at: 0, asked: '', timer: 0}; };
const drag_box = (event, point) => {
    dragging.to = point;
    hover();
    if (!is_click(event)) request_preview();
};
// The outline of the box as it is now; where the server is busy or was just asked, a little later, also if the pointer rests.
const request_preview = () => {
    if (!dragging) return;
    clearTimeout(dragging.timer);
    const now = performance.now(), box = whole_box(dragging.from, dragging.to);
    if (String(box) === dragging.asked) return;
    if (in_flight || queue.length || applying || now - dragging.at < PREVIEW_EVERY) { dragging.timer = setTimeout(request_preview, PREVIEW_EVERY); return; }
    Object.assign(dragging, {at: now, asked: String(box)});
    queue.push({action: 'preview', box, positive: [], negative: []});
    send();
};
const is_click = event => Math.hypot(event.clientX - dragging.x, event.clientY - dragging.y) < DRAG;
const end_box = (keep, event, point) => {
    const {from} = dragging, clicked_only = is_click(event);
    dragging = null;
    queue = queue.filter(command => command.action !== 'preview');
    if (keep && clicked_only) click_point(point, event.altKey || tool.minus);
    else if (keep) gesture('box', whole_box(from, point));
    hover();
};
const show_preview = runs => {
    if (!dragging || !runs) return;
    dragging.path = trace_outline(unpack(runs, slice_view.width, slice_view.height));
    hover();
};

// The marks of the object, above the image.
const draw_prompt = ink => {
    const place = new DOMMatrix([across(), 0, 0, down(), viewport.left, viewport.top]), mine = current();
    const outlined = (path, style, dash) => { stroke_path(ink, path, place, '#0b1418', 3.4); stroke_path(ink, path, place, style, 1.6, dash); };
    if (dragging && dragging.path) outlined(dragging.path, colour('--machine', '#e69f00'), []);
    const {box, positive, negative} = mine ? marks_of(mine) : {box: null, positive: [], negative: []};
    for (const [top, left, height, width] of [dragging ? whole_box(dragging.from, dragging.to) : box].filter(Boolean)) {
        const frame = new Path2D();
        frame.rect(left, top, width, height);
        outlined(frame, '#fff', dragging ? [] : [6, 4]);
    }
    for (const [points, style, plus] of [[positive, colour('--scribble-lesion', '#0b9e73'), true], [negative, colour('--scribble-ground', '#cc79a7'), false]]) for (const [y, x] of points) {
        const spot = on_screen({x: x + .5, y: y + .5});
        ink.setLineDash([]);
        ink.beginPath();
        ink.arc(spot.x, spot.y, 7, 0, 7);
        ink.fillStyle = style;
        ink.fill();
        [ink.lineWidth, ink.strokeStyle] = [2, '#fff'];
        ink.stroke();
        ink.beginPath();
        ink.moveTo(spot.x - 3.5, spot.y);
        ink.lineTo(spot.x + 3.5, spot.y);
        if (plus) { ink.moveTo(spot.x, spot.y - 3.5); ink.lineTo(spot.x, spot.y + 3.5); }
        ink.stroke();
    }
};
