// What can be done with the pictures of one tab: wheel, drag, fingers and keys change the part that all of them show.
const panel = element.closest('[role=tabpanel]') || document.body;
const view = {image: '', home: 'whole', box: null, wipe: 1, point: null, over: null};
const fingers = new Map();
let slice = {}, stated = '', codes = null, asked = '', drag = null, pinch = null, was_drag = false, scrolled = 0, frame_request = 0;

const pictures = () => [...panel.querySelectorAll('svg[data-view]')];
const picture_at = event => event.target.closest ? event.target.closest('svg[data-view]') : null;
const part = name => element.querySelector(`[data-part="${name}"]`);
const size = () => ({w: slice.size[0], h: slice.size[1]});
const home_box = () => view.home !== 'whole' && slice[view.home] ? box_of(slice[view.home]) : {x: 0, y: 0, ...size()};
const shown_box = () => view.box || home_box();

// --- what is seen

const draw_bar = (picture, box) => {
    const light = picture.closest('.light'), wide = picture.clientWidth;
    let bar = light.querySelector('.scale-bar');
    if (!slice.mm || wide < 200) { if (bar) bar.remove(); return; }
    if (!bar) light.append(bar = Object.assign(document.createElement('span'), {className: 'scale-bar'}));
    const {mm, points} = scale_bar(slice.mm * box.w / wide);
    bar.style.width = `${points}px`;
    if (bar.textContent !== length_text(mm)) bar.textContent = length_text(mm);
};
const draw_wipe = (picture, box) => {
    const x = box.x + view.wipe * box.w;
    for (const cut of picture.querySelectorAll('[data-cut]')) {
        const [from, to] = cut.dataset.cut === 'left' ? [box.x, x] : [x, box.x + box.w];
        for (const [name, value] of Object.entries({x: from, y: box.y, width: to - from, height: box.h})) cut.setAttribute(name, value);
    }
    const line = picture.querySelector('.wipe-line');
    if (line) line.setAttribute('d', view.wipe > .001 && view.wipe < .999 ? `M${x} ${box.y}v${box.h}` : '');
};
const draw_cursor = picture => {
    let cursor = picture.querySelector(':scope > .cursor');
    if (!view.point || picture === view.over) { if (cursor) cursor.remove(); return; }
    if (!cursor) {
        cursor = document.createElementNS('http://www.w3.org/2000/svg', 'path');
        cursor.setAttribute('class', 'cursor');
        picture.append(cursor);
    }
    const {x, y} = view.point, {w, h} = size();
    cursor.setAttribute('d', `M0 ${y}H${w}M${x} 0V${h}`);
};
const refresh = () => {
    frame_request = 0;
    const values = panel.querySelector('[data-values]');
    if (values && values.dataset.values) { decode(JSON.parse(values.dataset.values)); values.removeAttribute('data-values'); }
    const about = panel.querySelector('[data-slice]');
    if (!about) return;
    if (about.dataset.slice !== stated) {
        stated = about.dataset.slice;
        slice = JSON.parse(stated);
        if (codes && codes.key !== slice.key) codes = null;
        if (slice.image !== view.image) Object.assign(view, {image: slice.image, home: slice.body ? 'body' : 'whole', box: null, point: null});
    }
    const box = shown_box(), zoomed = is_zoomed(box, size());
    for (const picture of pictures()) {
        picture.setAttribute('viewBox', box_text(box));
        picture.classList.toggle('zoomed', zoomed);
        draw_bar(picture, box);
        draw_wipe(picture, box);
        draw_cursor(picture);
    }
    for (const range of panel.querySelectorAll('input[data-wipe]')) range.value = 100 * view.wipe;
    for (const button of element.querySelectorAll('[data-crop]')) {
        const name = button.dataset.crop;
        button.hidden = name !== 'whole' && !slice[name];
        button.setAttribute('aria-pressed', !view.box && name === (slice[view.home] ? view.home : 'whole'));
    }
    part('zoom').textContent = `${Math.round(100 * size().w / box.w)}%`;
    read();
    observer.takeRecords();  // the changes made here
};
const redraw = () => { frame_request ||= requestAnimationFrame(refresh); };
const set_box = box => { view.box = box; redraw(); };
const crop_to = name => { view.home = name; set_box(null); };
const zoom = (factor, point) => {
    const box = shown_box();
    set_box(zoom_box(box, factor, point || {x: box.x + box.w / 2, y: box.y + box.h / 2}, size()));
};

// The pixel under the cursor: its place in the slice, its value, and where it lies in the patient.
const read = () => {
    const words = [];
    if (view.point && slice.pixels) {
        const [across, down, left, top] = slice.pixels, x = Math.floor(left + view.point.x * across), y = Math.floor(top + view.point.y * down);
        if (x >= 0 && y >= 0 && x < slice.shape[0] && y < slice.shape[1]) {
            words.push(`x ${x}, y ${y}`);
            if (codes) words.push(value_text(value_at(x, y), codes.low, codes.high, codes.unit));
            if (slice.patient) {
                const [origin, column, row] = slice.patient, names = [['R', 'L'], ['A', 'P'], ['S', 'I']];
                words.push(names.map(([more, less], i) => {
                    const mm = origin[i] + x * column[i] + y * row[i];
                    return `${mm < 0 ? less : more} ${Math.abs(mm).toFixed(1)}`;
                }).join(' ') + ' mm');
            }
        }
    }
    const text = words.join(' · ');
    if (part('read').textContent !== text) part('read').textContent = text;
};
const value_at = (x, y) => {
    const at = Math.min(codes.height - 1, Math.floor(y / codes.step)) * codes.width + Math.min(codes.width - 1, Math.floor(x / codes.step));
    return codes.low + codes.data[at] / 65535 * (codes.high - codes.low);
};
const point_at = (x, y, picture) => {
    view.over = picture;
    view.point = picture ? to_image(x, y, picture.getBoundingClientRect(), shown_box()) : null;
    if (picture && asked !== slice.key) trigger('values', {key: asked = slice.key});
    redraw();
};

// --- values and display window

const decode = async about => {
    const image = new Image();
    image.src = about.picture;
    await image.decode();
    const board = document.createElement('canvas'), {naturalWidth: width, naturalHeight: height} = image;
    [board.width, board.height] = [width, height];
    const ink = board.getContext('2d', {willReadFrequently: true}), data = new Uint16Array(width * height);
    ink.drawImage(image, 0, 0);
    const bytes = ink.getImageData(0, 0, width, height).data;
    for (let k = 0; k < data.length; k++) data[k] = bytes[4 * k] << 8 | bytes[4 * k + 1];
    if (about.key === slice.key) codes = {...about, picture: '', data, width, height};
    redraw();
};
const grey_picture = (black, white, [left, top, width, height]) => {
    const board = document.createElement('canvas'), made = new ImageData(width, height), out = new Uint32Array(made.data.buffer), scale = (codes.high - codes.low) / 65535;
    [board.width, board.height] = [width, height];
    for (let y = 0, k = 0; y < height; y++) for (let x = 0, at = (top + y) * codes.width + left; x < width; x++, k++, at++) {
        out[k] = 0xff000000 | 0x010101 * Math.round(255 * limit((codes.low + codes.data[at] * scale - black) / (white - black), 0, 1));
    }
    board.getContext('2d').putImageData(made, 0, 0);
    return board.toDataURL();
};
const show_window = ([black, white]) => {
    const whole = document.querySelector('image#case-image'), framed = document.querySelector('image#case-part');
    if (whole) whole.setAttribute('href', grey_picture(black, white, [0, 0, codes.width, codes.height]));
    if (framed && slice.framed) framed.setAttribute('href', grey_picture(black, white, slice.framed.map(value => Math.floor(value / codes.step))));
    part('read').textContent = `level ${value_text((black + white) / 2, codes.low, codes.high, codes.unit)}, width ${value_text(white - black, codes.low, codes.high, codes.unit)}`;
};
const drag_window = (x, y) => {
    if (!codes) return;
    drag.window = dragged_window(slice.window, x, y);
    drag.late ||= requestAnimationFrame(() => { if (drag && drag.window) { drag.late = 0; show_window(drag.window); } });
};

// --- pointers, wheel, keys

const pinch_state = () => {
    const [a, b] = [...fingers.values()];
    return {x: (a.x + b.x) / 2, y: (a.y + b.y) / 2, apart: Math.max(20, Math.hypot(a.x - b.x, a.y - b.y)), picture: a.picture};
};
const pan_by = (x, y, picture) => {
    const box = shown_box(), frame = picture.getBoundingClientRect();
    set_box(pan_box(box, -x / frame.width * box.w, -y / frame.height * box.h, size()));
};
panel.addEventListener('pointerdown', event => {
    const picture = picture_at(event);
    was_drag = false;
    if (!picture || !slice.size || drag) return;
    if (event.pointerType === 'touch') fingers.set(event.pointerId, {x: event.clientX, y: event.clientY, picture});
    if (fingers.size === 2) pinch = pinch_state();
    const start = {id: event.pointerId, x: event.clientX, y: event.clientY, from: [event.clientX, event.clientY], picture};
    point_at(event.clientX, event.clientY, picture);
    if (event.button === 2 && picture.querySelector('use')) drag = {...start, kind: 'window'};
    else if (event.button === 0 && is_zoomed(shown_box(), size()) && fingers.size < 2) drag = {...start, kind: 'pan'};
});
panel.addEventListener('pointermove', event => {
    if (fingers.has(event.pointerId)) Object.assign(fingers.get(event.pointerId), {x: event.clientX, y: event.clientY});
    if (pinch && fingers.size === 2) {
        const now = pinch_state();
        was_drag = true;
        drag = null;
        zoom(now.apart / pinch.apart, to_image(pinch.x, pinch.y, pinch.picture.getBoundingClientRect(), shown_box()));
        pan_by(now.x - pinch.x, now.y - pinch.y, pinch.picture);
        pinch = now;
        return;
    }
    if (!drag || drag.id !== event.pointerId) {
        const picture = picture_at(event);
        if (slice.size && (picture || view.point)) point_at(event.clientX, event.clientY, picture);
        return;
    }
    const x = event.clientX - drag.from[0], y = event.clientY - drag.from[1];
    if (!was_drag && Math.hypot(x, y) < 4) return;
    if (!was_drag) drag.picture.setPointerCapture(event.pointerId);
    was_drag = true;
    if (drag.kind === 'window') return drag_window(x, y);
    pan_by(event.clientX - drag.x, event.clientY - drag.y, drag.picture);
    Object.assign(drag, {x: event.clientX, y: event.clientY});
});
for (const name of ['pointerup', 'pointercancel']) panel.addEventListener(name, event => {
    fingers.delete(event.pointerId);
    if (fingers.size < 2) pinch = null;
    if (!drag || drag.id !== event.pointerId) return;
    if (drag.window) trigger('window', {low: drag.window[0], high: drag.window[1]});
    drag = null;
});
panel.addEventListener('pointerleave', () => { if (slice.size && view.point) point_at(0, 0, null); });
panel.addEventListener('click', event => {  // the end of a drag is no click
    if (was_drag && picture_at(event)) { event.stopPropagation(); event.preventDefault(); }
}, true);
panel.addEventListener('dblclick', event => { if (picture_at(event)) set_box(null); });
panel.addEventListener('contextmenu', event => { if (picture_at(event)) event.preventDefault(); });
panel.addEventListener('dragstart', event => { if (picture_at(event)) event.preventDefault(); });
document.addEventListener('scroll', () => { scrolled = performance.now(); }, {capture: true, passive: true});
panel.addEventListener('wheel', event => {  // one that scrolls the page goes on scrolling it when a picture comes under it
    const picture = picture_at(event);
    if (!picture || !slice.size || !event.deltaY) return;
    const box = shown_box(), scrolling = performance.now() - scrolled < 250 && !event.ctrlKey;
    if (scrolling || event.deltaY > 0 && !is_zoomed(box, size())) return;
    event.preventDefault();
    const turn_by = event.deltaMode ? 60 * Math.sign(event.deltaY) : event.deltaY;
    zoom(Math.exp(-limit(turn_by, -120, 120) / 300), to_image(event.clientX, event.clientY, picture.getBoundingClientRect(), box));
}, {passive: false});

const toggle = name => {
    const on = panel.classList.toggle(name), button = element.querySelector(`[data-do="${name}"]`);
    button.setAttribute('aria-pressed', name === 'no-outlines' ? !on : on);
};
const ACTIONS = {
    in: () => zoom(1.5), out: () => zoom(1 / 1.5), fit: () => set_box(null), exact: () => toggle('exact'), 'no-outlines': () => toggle('no-outlines'),
};
const KEYS = {'+': 'in', '=': 'in', '-': 'out', 0: 'fit', p: 'exact', o: 'no-outlines'};
const CROPS = {w: 'whole', b: 'body', l: 'lesion'};
const WAYS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
panel.addEventListener('keydown', event => {
    const picture = picture_at(event), way = WAYS[event.key], crop = CROPS[event.key];
    if (!picture || !slice.size || event.ctrlKey || event.metaKey || event.altKey) return;
    if (KEYS[event.key]) ACTIONS[KEYS[event.key]]();
    else if (crop && (crop === 'whole' || slice[crop])) crop_to(crop);
    else if (way && (event.shiftKey || !('columns' in picture.dataset)) && is_zoomed(shown_box(), size())) {
        const box = shown_box();
        set_box(pan_box(box, way[0] * box.w / 10, way[1] * box.h / 10, size()));
    } else return;
    event.preventDefault();
    event.stopPropagation();
}, true);
element.addEventListener('click', event => {
    const button = event.target.closest('button');
    if (!button || !slice.size) return;
    if (button.dataset.crop) crop_to(button.dataset.crop);
    else ACTIONS[button.dataset.do]();
});
panel.addEventListener('input', event => {
    if (!('wipe' in event.target.dataset)) return;
    view.wipe = event.target.value / 100;
    redraw();
});
// Gradio changes the pictures of an answer in place: attributes, texts and children.
const observer = new MutationObserver(changes => {
    const elements = changes.map(({target}) => (target instanceof Element ? target : target.parentElement));
    if (elements.some(one => one && !one.closest('.viewer-bar, .planes, .planes-data'))) refresh();
});
observer.observe(panel, {childList: true, subtree: true, attributes: true, characterData: true});
new ResizeObserver(redraw).observe(panel);
refresh();
