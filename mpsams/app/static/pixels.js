// The pixels of the slice on screen: what is drawn, its run lengths, the shapes that draw, and the steps that can be undone.
const MASK = 1, HAND = 2, LESION = 4, GROUND = 8;  // bits of a pixel: drawn, touched by hand, scribbled as lesion, as background
const SHIFT = 4, LABEL = 31 << SHIFT;  // and, where it is drawn, the label of its structure less 1
const STROKE_SHIFT = 9, STROKE = 31 << STROKE_SHIFT;  // where it is scribbled, that of the structure scribbled for
let structure = 1;  // label of the one that is chosen
const label_of = bits => (bits & MASK ? ((bits & LABEL) >> SHIFT) + 1 : 0);
const bits_of = label => (label ? MASK | (label - 1) << SHIFT : 0);
const stroke_of = (bit, label) => bit | (label - 1) << STROKE_SHIFT;
const with_label = (bits, label) => bits & ~(MASK | LABEL) | bits_of(label);
const STEPS = 500, ROOM = 64e6;  // of undo: how many, and bytes in all
let slice_view = null;

// Run lengths as the server has them: down the columns, background first, decimal numbers with spaces between.
const unpack = (text, width, height) => {
    const flat = new Uint8Array(width * height);
    let at = 0, on = false;
    for (const word of text.split(' ')) {
        const end = at + Number(word);
        if (on) for (let k = at, x = Math.floor(at / height), y = at % height; k < end; k++) {
            flat[y * width + x] = 1;
            if (++y === height) { y = 0; x++; }
        }
        at = end;
        on = !on;
    }
    if (at !== flat.length) throw Error('these runs do not fill the image');
    return flat;
};
// Label maps are the runs of their structures, from 1 to the largest label, with "|" between.
const unpack_labels = (text, width, height) => {
    const labels = new Uint8Array(width * height);
    text.split('|').forEach((part, i) => unpack(part, width, height).forEach((on, k) => { if (on) labels[k] = i + 1; }));
    return labels;
};
const pack_labels = skipped => {
    const present = new Set([1]);
    for (const bits of slice_view.px) if (bits & MASK && label_of(bits) !== skipped) present.add(label_of(bits));
    return Array.from({length: Math.max(...present)}, (_, i) => (i + 1 === skipped ? String(slice_view.width * slice_view.height) : pack(MASK | LABEL, bits_of(i + 1)))).join('|');
};
// The pixels with some bits set as `value` says.
const boxOf = (bit, value) => {
    const {width, height, px} = slice_view;
    let left = width, right = -1, top = height, bottom = -1;
    for (let y = 0, k = 0; y < height; y++) for (let x = 0; x < width; x++, k++) if ((px[k] & bit) === value) {
        if (x < left) left = x;
        if (x > right) right = x;
        if (y < top) top = y;
        bottom = y;
    }
    return {x: left, y: top, w: right - left + 1, h: bottom - top + 1};
};
const pack = (bit, value = bit) => {
    const {width, height, px} = slice_view, box = boxOf(bit, value), counts = [];
    if (box.h <= 0) return String(width * height);
    let run = 0, on = 0;
    const add = (value, n) => {
        if (!n) return;
        if (value === on) run += n;
        else { counts.push(run); run = n; on = value; }
    };
    add(0, box.x * height);
    for (let x = box.x; x < box.x + box.w; x++) {
        add(0, box.y);
        for (let y = box.y, k = y * width + x; y < box.y + box.h; y++, k += width) add((px[k] & bit) === value ? 1 : 0, 1);
        add(0, height - box.y - box.h);
    }
    add(0, (width - box.x - box.w) * height);
    return [...counts, run].join(' ');
};

const whole = () => ({x: 0, y: 0, w: slice_view.width, h: slice_view.height});
const union_box = (a, b) => {
    if (!a || !b) return a || b;
    const x = Math.min(a.x, b.x), y = Math.min(a.y, b.y);
    return {x, y, w: Math.max(a.x + a.w, b.x + b.w) - x, h: Math.max(a.y + a.h, b.y + b.h) - y};
};
const inside = (x, y) => x >= 0 && y >= 0 && x < slice_view.width && y < slice_view.height;
// What of a box lies in the image; null for nothing.
const clip_box = (left, top, right, bottom) => {
    const x = Math.max(0, Math.floor(left)), y = Math.max(0, Math.floor(top));
    const w = Math.min(slice_view.width, Math.ceil(right)) - x, h = Math.min(slice_view.height, Math.ceil(bottom)) - y;
    return w > 0 && h > 0 ? {x, y, w, h} : null;
};

// Count a pixel of a structure, 0 for none, in or out.
const count_pixel = (label, k, by) => {
    const wanted = slice_view.proposal ? slice_view.proposal[k] : label;
    slice_view.areas[label] += by;
    if (label) slice_view.area += by;
    if (label && label !== wanted) slice_view.added += by;
    if (wanted && label !== wanted) slice_view.removed += by;
};
// `was` is what `px` was at the end of the last step. A step is where the two differ, as runs over a box: applied once it undoes, twice it redoes.
const commit_step = box => {
    const {px, committed, width} = slice_view, lengths = [], values = [];
    let run = 0, value = 0, drawn = false;
    for (let y = box.y; y < box.y + box.h; y++) for (let k = y * width + box.x, end = k + box.w; k < end; k++) {
        const differs = px[k] ^ committed[k], from = label_of(committed[k]), to = label_of(px[k]);
        if (differs !== value) { lengths.push(run); values.push(value); run = 0; value = differs; }
        run++;
        if (!differs) continue;
        committed[k] = px[k];
        if (from === to) continue;
        drawn = true;
        count_pixel(from, k, -1);
        count_pixel(to, k, 1);
    }
    if (value) { lengths.push(run); values.push(value); }
    if (drawn) slice_view.version++;
    return lengths.length ? {box, lengths: Uint32Array.from(lengths), values: Uint16Array.from(values)} : null;
};
const size_of = step => 6 * step.lengths.length + 100;
const push_step = box => {
    const step = box && commit_step(box), {undo, redo} = slice_view;
    if (!step) return;
    redo.length = 0;
    undo.push(step);
    for (let room = undo.reduce((sum, one) => sum + size_of(one), 0); undo.length > 1 && (undo.length > STEPS || room > ROOM);) room -= size_of(undo.shift());
    return step;
};
const flip = ({box, lengths, values}) => {
    const {px, width} = slice_view;
    let at = 0;
    for (let i = 0; i < lengths.length; at += lengths[i++]) if (values[i]) for (let j = at; j < at + lengths[i]; j++) {
        px[(box.y + Math.floor(j / box.w)) * width + box.x + j % box.w] ^= values[i];
    }
    commit_step(box);
};
// Take the last step back, or do it again, with those that belong to it: the box that changed, or null.
const apply_step = (from, to) => {
    const gesture = from.at(-1)?.gesture;
    let box = null;
    do {
        const step = from.pop();
        if (!step) return box;
        flip(step);
        to.push(step);
        box = union_box(box, step.box);
    } while (gesture && from.at(-1)?.gesture === gesture);
    return box;
};
// Throw away what was drawn since the last step.
const discard_stroke = box => {
    for (let y = box.y; y < box.y + box.h; y++) {
        const k = y * slice_view.width + box.x;
        slice_view.px.set(slice_view.committed.subarray(k, k + box.w), k);
    }
};

// What the tools do to a pixel. What is drawn takes it from another structure; the eraser leaves others alone.
const MARKS = {
    brush: bits => with_label(bits, structure) | HAND,
    eraser: bits => (bits & MASK && label_of(bits) !== structure ? bits : with_label(bits, 0) | HAND),
    lesion: bits => bits & ~(GROUND | STROKE) | stroke_of(LESION, structure),
    background: bits => bits & ~(LESION | STROKE) | stroke_of(GROUND, structure),
};
// A round brush drawn from a to b. A pixel is marked when its centre lies within half the size of the line between them, in
// widths of a pixel as seen on screen; and so is each pixel that the line runs through, which alone counts for size 1.
const capsule = (a, b, size, mark) => {
    const {width, aspect, px} = slice_view, r = size / 2, dx = b.x - a.x, dy = (b.y - a.y) * aspect, long = dx * dx + dy * dy;
    const reach = Math.max(r, 1), tall = Math.max(r / aspect, 1);
    const box = clip_box(Math.min(a.x, b.x) - reach, Math.min(a.y, b.y) - tall, Math.max(a.x, b.x) + reach, Math.max(a.y, b.y) + tall);
    if (!box) return null;
    if (size > 1) for (let j = box.y; j < box.y + box.h; j++) {
        const y = (j + .5 - a.y) * aspect;
        const [t, u] = dy ? [(y - r) / dy, (y + r) / dy].sort((p, q) => p - q).map(v => Math.min(1, Math.max(0, v))) : [0, 1];
        const from = Math.max(box.x, Math.floor(a.x + Math.min(t * dx, u * dx) - r - 1));
        const to = Math.min(box.x + box.w, Math.ceil(a.x + Math.max(t * dx, u * dx) + r + 1));
        for (let i = from; i < to; i++) {
            const x = i + .5 - a.x, along = long ? Math.min(1, Math.max(0, (x * dx + y * dy) / long)) : 0;
            if ((x - along * dx) ** 2 + (y - along * dy) ** 2 <= r * r) px[j * width + i] = mark(px[j * width + i]);
        }
    }
    const steps = Math.ceil(2 * Math.max(Math.abs(dx), Math.abs(b.y - a.y)));
    for (let s = 0; s <= steps; s++) {
        const part = steps ? s / steps : 0, x = Math.floor(a.x + part * dx), y = Math.floor(a.y + part * (b.y - a.y));
        if (inside(x, y)) px[y * width + x] = mark(px[y * width + x]);
    }
    return box;
};
// The pixels whose centres lie in a polygon, by the even-odd rule.
const polygon = (points, mark) => {
    const {width, px} = slice_view, xs = points.map(p => p.x), ys = points.map(p => p.y);
    const box = clip_box(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys));
    if (!box) return null;
    for (let y = box.y; y < box.y + box.h; y++) {
        const crossed = [];
        points.forEach((a, i) => {
            const b = points[(i + 1) % points.length];
            if (a.y <= y + .5 !== b.y <= y + .5) crossed.push(a.x + (y + .5 - a.y) * (b.x - a.x) / (b.y - a.y));
        });
        crossed.sort((p, q) => p - q);
        for (let i = 0; i + 1 < crossed.length; i += 2) {
            const to = Math.min(width, Math.ceil(crossed[i + 1] - .5));
            for (let x = Math.max(0, Math.ceil(crossed[i] - .5)); x < to; x++) px[y * width + x] = mark(px[y * width + x]);
        }
    }
    return box;
};
// All pixels connected to one where `same` holds, over four neighbours or eight: their box, and whether they reach the edge of the image.
const flood_fill = (x, y, same, eight) => {
    const {width, height} = slice_view, seen = new Uint8Array(width * height), stack = [y * width + x];
    let left = x, right = x, top = y, bottom = y;
    const visit = (i, j) => {
        const k = j * width + i;
        if (!inside(i, j) || seen[k] || !same(k)) return;
        seen[k] = 1;
        stack.push(k);
    };
    seen[stack[0]] = 1;
    while (stack.length) {
        const k = stack.pop(), j = Math.floor(k / width), i = k - j * width;
        left = Math.min(left, i); right = Math.max(right, i); top = Math.min(top, j); bottom = Math.max(bottom, j);
        visit(i - 1, j); visit(i + 1, j); visit(i, j - 1); visit(i, j + 1);
        if (eight) { visit(i - 1, j - 1); visit(i + 1, j - 1); visit(i - 1, j + 1); visit(i + 1, j + 1); }
    }
    return {seen, edge: left === 0 || top === 0 || right === width - 1 || bottom === height - 1, box: {x: left, y: top, w: right - left + 1, h: bottom - top + 1}};
};
const over = (box, test, mark) => {
    let count = 0;
    for (let y = box.y; y < box.y + box.h; y++) for (let k = y * slice_view.width + box.x, end = k + box.w; k < end; k++) if (test(k)) { slice_view.px[k] = mark(slice_view.px[k]); count++; }
    return count;
};
// The pixels of an island's box that cannot be reached from outside it.
const holes = island => {
    const {box, seen} = island, {width} = slice_view, w = box.w + 2, h = box.h + 2, out = new Uint8Array(w * h), stack = [0];
    const wall = k => { const x = k % w - 1, y = Math.floor(k / w) - 1; return x >= 0 && y >= 0 && x < box.w && y < box.h && seen[(box.y + y) * width + box.x + x]; };
    out[0] = 1;
    while (stack.length) {
        const k = stack.pop(), x = k % w;
        for (const [next, there] of [[k - 1, x > 0], [k + 1, x < w - 1], [k - w, k >= w], [k + w, k < w * h - w]]) if (there && !out[next] && !wall(next)) { out[next] = 1; stack.push(next); }
    }
    return k => { const y = Math.floor(k / width); return !seen[k] && !out[(y - box.y + 1) * w + k - y * width - box.x + 1]; };
};
const holes_in = (region, empty) => { const is_hole = holes(region); return k => empty(k) && is_hole(k); };
// Fill what is enclosed at a pixel, or erase the island there: the box that changed, or a sentence why nothing did.
// Other structures stay as they are.
const fill = (x, y, erase) => {
    const {px} = slice_view, drawn = k => label_of(px[k]) === structure, empty = k => !(px[k] & MASK), start = y * slice_view.width + x, on = drawn(start);
    if (erase && !on) return 'Nothing is drawn there.';
    if (!on && !empty(start)) return 'Another structure is drawn there.';
    const region = flood_fill(x, y, on ? drawn : empty, on);
    if (erase) over(region.box, k => region.seen[k], MARKS.eraser);
    else if (!on && region.edge) return 'That region reaches the edge of the image. Close the outline first.';
    else if (!on) over(region.box, k => region.seen[k], MARKS.brush);
    else if (!over(region.box, holes_in(region, empty), MARKS.brush)) return 'That region has no holes.';
    return region.box;
};

// A label map of the server in place of what is drawn. After scribbles, what the hand painted as the structure, or erased, stays; else all begins anew.
// scribbled: also the step of the scribble, with which it is undone. Steps are differences, so their order does not matter.
const replace_mask = (text, scribbled, label = structure) => {
    const {px, width, height} = slice_view, next = unpack_labels(text, width, height), is_own = bits => bits & HAND && [0, label].includes(label_of(bits));
    for (let k = 0; k < px.length; k++) if (!scribbled) px[k] = bits_of(next[k]); else if (!is_own(px[k])) px[k] = with_label(px[k], next[k]) & (label_of(px[k]) === next[k] ? ~0 : ~HAND);
    const step = push_step(whole()), {undo} = slice_view, at = undo.indexOf(scribbled);
    if (!step || at < 0) return;
    step.gesture = scribbled.gesture ||= {};
    undo.splice(at + 1, 0, undo.pop());
};

// Sheets that were left, with their steps, the last twelve; what is drawn is kept as one step from nothing.
const stored_slices = new Map();
const store_slice = () => {
    const {key, width, height, undo, redo, version, saved_version} = slice_view;
    slice_view.committed.fill(0);
    stored_slices.delete(key);
    stored_slices.set(key, {width, height, drawn: commit_step(whole()), undo, redo, version, saved_version});
    if (stored_slices.size > 12) stored_slices.delete(stored_slices.keys().next().value);
};
const recount = () => {
    Object.assign(slice_view, {area: 0, added: 0, removed: 0, areas: new Int32Array((LABEL >> SHIFT) + 2)});
    slice_view.px.forEach((bits, k) => count_pixel(label_of(bits), k, 1));
};
const unpack_masks = sent => ({
    ...Object.fromEntries(['proposal', 'truth'].map(name => [name, sent[name] === null ? null : unpack_labels(sent[name], sent.width, sent.height)])),
    readers: (sent.readers || []).map(one => ({...one, mask: unpack_labels(one.mask, sent.width, sent.height)})),
});
// The slice that is on screen once more, with another window or proposal. What is drawn and not yet acknowledged stays.
const refresh_slice = (sent, codes, keep) => {
    Object.assign(slice_view, sent, {picture: null, codes, mask: null, proposal_path: null, truth_path: null}, unpack_masks(sent));
    recount();
    if (keep || pack_labels() === sent.mask) return;
    replace_mask(sent.mask, false);
    slice_view.saved_version = slice_view.version;
};
const load_slice = (sent, codes) => {
    const {width, height} = sent, mask = Uint16Array.from(unpack_labels(sent.mask, width, height), bits_of), before = stored_slices.get(sent.key);
    slice_view = {...sent, ...unpack_masks(sent), picture: null, mask: null, codes, px: mask, committed: new Uint16Array(width * height), areas: new Int32Array((LABEL >> SHIFT) + 2), undo: [], redo: [], version: 0, saved_version: 0};
    if (before && before.width === width && before.height === height) {
        slice_view.px = new Uint16Array(width * height);
        if (before.drawn) flip(before.drawn);
        Object.assign(slice_view, {undo: before.undo, redo: before.redo});
        if (slice_view.px.some((bits, k) => (bits & (MASK | LABEL)) !== mask[k])) replace_mask(sent.mask, false);
    } else slice_view.committed.set(mask);
    recount();
    slice_view.version = slice_view.saved_version = before ? before.version + 1 : 0;
};
