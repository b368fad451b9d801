// The pure parts of mpsams/app/static/pixels.js against slow versions: run lengths, brushes, polygons, filling, undo.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import test from 'node:test';

const source = fs.readFileSync(new URL('../../mpsams/app/static/pixels.js', import.meta.url), 'utf8');
const names = ['MASK', 'HAND', 'LESION', 'STROKE', 'MARKS', 'stroke_of', 'unpack', 'pack', 'union_box', 'clip_box', 'capsule', 'polygon', 'fill', 'push_step', 'apply_step', 'load_slice', 'whole', 'pack_labels', 'label_of', 'replace_mask'];
const open = () => Function(`${source}; return {${names.join(', ')}, slice: () => slice_view, choose: label => { structure = label; }};`)();

const sent = (width, height, mask = String(width * height)) => ({key: 'a:0', width, height, aspect: 1, mask, proposal: null, truth: null});
const loaded = (width, height, mask) => {
    const page = open();
    page.load_slice(sent(width, height, mask), new Uint16Array(width * height));
    return page;
};
const drawn = page => Array.from(page.slice().px, bits => bits & page.MASK);
const random = seed => () => (seed = (seed * 1664525 + 1013904223) >>> 0) / 2 ** 32;

test('run lengths go down the columns, background first', () => {
    const {unpack} = open();
    assert.deepEqual([...unpack('1 2 3', 3, 2)], [0, 1, 0, 1, 0, 0]);
    assert.deepEqual([...unpack('0 6', 3, 2)], [1, 1, 1, 1, 1, 1]);
    for (const wrong of ['5', '7', '1 2', '']) assert.throws(() => unpack(wrong, 3, 2), /do not fill/);
});

test('what is packed is what was unpacked', () => {
    const next = random(1);
    for (const share of [0, .02, .5, 1]) {
        const [width, height] = [13, 9], on = Array.from({length: width * height}, () => next() < share ? 1 : 0), counts = [];
        let value = 0, run = 0;
        for (let x = 0; x < width; x++) for (let y = 0; y < height; y++) {
            if (on[y * width + x] !== value) { counts.push(run); run = 0; value = 1 - value; }
            run++;
        }
        const text = [...counts, run].join(' '), page = loaded(width, height, text);
        assert.deepEqual(drawn(page), on);
        assert.equal(page.pack(page.MASK), text);
    }
});

test('a box is clipped to the image, and two boxes are united', () => {
    const {clip_box, union_box} = loaded(10, 8);
    assert.deepEqual(clip_box(-3.2, 1.5, 4.1, 99), {x: 0, y: 1, w: 5, h: 7});
    assert.equal(clip_box(10, 0, 12, 3), null);
    assert.deepEqual(union_box({x: 1, y: 1, w: 2, h: 2}, {x: 5, y: 0, w: 1, h: 1}), {x: 1, y: 0, w: 5, h: 3});
    assert.deepEqual(union_box(null, {x: 1, y: 1, w: 2, h: 2}), {x: 1, y: 1, w: 2, h: 2});
});

test('a brush marks the pixels whose centres lie within half its size of the line', () => {
    const next = random(2), [width, height] = [24, 18];
    for (let trial = 0; trial < 20; trial++) {
        const page = loaded(width, height), size = 3 + 6 * next();
        const [a, b] = [0, 1].map(() => ({x: width * next(), y: height * next()}));
        page.capsule(a, b, size, page.MARKS.brush);
        const dx = b.x - a.x, dy = b.y - a.y;
        for (let k = 0; k < width * height; k++) {
            const x = k % width + .5 - a.x, y = Math.floor(k / width) + .5 - a.y;
            const along = Math.min(1, Math.max(0, (x * dx + y * dy) / (dx * dx + dy * dy)));
            const away = Math.hypot(x - along * dx, y - along * dy);
            if (Math.abs(away - size / 2) > 1e-9) assert.equal(drawn(page)[k], away < size / 2 ? 1 : 0, `pixel ${k} of trial ${trial}`);
        }
    }
});

test('a polygon marks the pixels whose centres lie in it by the even-odd rule', () => {
    const page = loaded(12, 10), points = [{x: 1.13, y: 1.21}, {x: 10.87, y: 1.37}, {x: 2.19, y: 8.71}, {x: 6.03, y: -3.3}, {x: 9.91, y: 9.17}];
    page.polygon(points, page.MARKS.brush);
    const within = (x, y) => points.reduce((odd, a, i) => {
        const b = points[(i + 1) % points.length];
        return a.y <= y !== b.y <= y && x > a.x + (y - a.y) * (b.x - a.x) / (b.y - a.y) ? !odd : odd;
    }, false);
    const expected = Array.from({length: 120}, (_, k) => within(k % 12 + .5, Math.floor(k / 12) + .5) ? 1 : 0);
    assert.deepEqual(drawn(page), expected);
    assert.ok(expected.includes(1));
});

test('filling closes an outline, and refuses a region that reaches the edge', () => {
    const page = loaded(9, 9), ring = [[2, 2], [6, 2], [6, 6], [2, 6]];
    ring.forEach(([x, y], i) => {
        const [u, v] = ring[(i + 1) % 4];
        page.capsule({x: x + .5, y: y + .5}, {x: u + .5, y: v + .5}, 1, page.MARKS.brush);
    });
    assert.match(page.fill(0, 0, false), /reaches the edge/);
    assert.deepEqual(page.fill(4, 4, false), {x: 3, y: 3, w: 3, h: 3});
    assert.equal(drawn(page).reduce((sum, on) => sum + on, 0), 25);
    assert.match(page.fill(0, 0, true), /Nothing is drawn/);
    page.fill(4, 4, true);
    assert.ok(!drawn(page).includes(1));
});

test('steps are undone and redone, and the area follows', () => {
    const page = loaded(8, 8), states = [drawn(page)];
    for (const x of [2, 5]) {
        page.push_step(page.capsule({x, y: 4}, {x, y: 4}, 3, page.MARKS.brush));
        states.push(drawn(page));
    }
    const {undo, redo} = page.slice();
    assert.equal(undo.length, 2);
    for (const k of [1, 0]) {
        page.apply_step(undo, redo);
        assert.deepEqual(drawn(page), states[k]);
        assert.equal(page.slice().area, states[k].reduce((sum, on) => sum + on, 0));
    }
    for (const k of [1, 2]) {
        page.apply_step(redo, undo);
        assert.deepEqual(drawn(page), states[k]);
    }
    assert.equal(page.apply_step(redo, undo), null);
});

test('a label map is packed as the runs of its structures, and drawing one leaves or takes the others', () => {
    const page = loaded(4, 3, '0 3 9|3 3 6');  // the first column is structure 1, the second structure 2
    const labels = () => Array.from(page.slice().px, page.label_of);
    assert.deepEqual(labels(), [1, 2, 0, 0, 1, 2, 0, 0, 1, 2, 0, 0]);
    assert.equal(page.pack_labels(), '0 3 9|3 3 6');
    assert.equal(page.pack_labels(2), '0 3 9');
    assert.deepEqual([...page.slice().areas].slice(0, 4), [6, 3, 3, 0]);
    page.choose(3);
    page.capsule({x: 1.5, y: .5}, {x: 2.5, y: .5}, 1, page.MARKS.brush);
    page.capsule({x: .5, y: 1.5}, {x: 3.5, y: 1.5}, 1, page.MARKS.eraser);
    page.push_step(page.whole());
    assert.deepEqual(labels(), [1, 3, 3, 0, 1, 2, 0, 0, 1, 2, 0, 0]);
    assert.deepEqual([...page.slice().areas].slice(0, 4), [5, 3, 2, 2]);
    assert.equal(page.pack_labels(), '0 3 9|4 2 6|3 1 2 1 5');
    page.apply_step(page.slice().undo, page.slice().redo);
    assert.equal(page.pack_labels(), '0 3 9|3 3 6');
    assert.deepEqual([page.slice().area, ...page.slice().areas].slice(0, 4), [6, 6, 3, 3]);
});

test('a mask of the server takes what the hand drew of other structures, and leaves that of its own', () => {
    const page = loaded(4, 1, '4');
    page.capsule({x: .5, y: .5}, {x: 1.5, y: .5}, 1, page.MARKS.brush);
    page.choose(2);
    page.capsule({x: 3.5, y: .5}, {x: 3.5, y: .5}, 1, page.MARKS.brush);
    page.push_step(page.whole());
    page.replace_mask('0 1 3|1 2 1', {}, 2);  // structure 2 was found on the second and third pixel
    assert.deepEqual(Array.from(page.slice().px, page.label_of), [1, 2, 2, 2]);
});

test('what a scribble took from another structure, the next one gives back', () => {
    const page = loaded(4, 1, '4');
    page.capsule({x: .5, y: .5}, {x: 2.5, y: .5}, 1, page.MARKS.brush);
    page.push_step(page.whole());
    page.replace_mask('0 1 3|1 2 1', {}, 2);
    page.replace_mask('0 2 2|2 1 1', {}, 2);
    assert.deepEqual(Array.from(page.slice().px, page.label_of), [1, 1, 2, 0]);
});

test('scribbles are of the structure that was chosen when they were drawn', () => {
    const page = loaded(4, 1, '4'), of = label => page.pack(page.LESION | page.STROKE, page.stroke_of(page.LESION, label));
    page.capsule({x: .5, y: .5}, {x: .5, y: .5}, 1, page.MARKS.lesion);
    page.choose(2);
    page.capsule({x: 2.5, y: .5}, {x: 3.5, y: .5}, 1, page.MARKS.lesion);
    assert.deepEqual([of(1), of(2), page.pack(page.LESION)], ['0 1 3', '2 2', '0 1 1 2']);
    page.capsule({x: 3.5, y: .5}, {x: 3.5, y: .5}, 1, page.MARKS.brush);
    assert.deepEqual(Array.from(page.slice().px, page.label_of), [0, 0, 0, 2]);
});
