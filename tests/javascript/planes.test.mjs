// The three planes of a volume in mpsams/app/static/planes.js: one voxel in all of them, slices as pictures show them, outlines, frames.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import test from 'node:test';

const read = name => fs.readFileSync(new URL(`../../mpsams/app/static/${name}.js`, import.meta.url), 'utf8');
const names = ['PLANES', 'to_plane', 'to_place', 'voxel_at', 'middle_of', 'offset_of', 'millimetres_of', 'position_text', 'cut_slice', 'border_lines', 'unpack_bits', 'extent_of',
    'frame_of', 'zoom_frame', 'keep_in_frame', 'grey_table', 'code_text'];
const planes = Function(`${read('viewbox')}; ${read('planes')}; return {${names.join(', ')}};`)();
const shape = [5, 4, 3], volume = Uint8Array.from({length: 60}, (_, k) => k);
const close = (a, b) => assert.ok(Math.abs(a - b) < 1e-9, `${a} and ${b}`);

test('the voxel under the cross-hair is the same in all three planes', () => {
    for (let w = 0; w < 5; w++) for (let h = 0; h < 4; h++) for (let s = 0; s < 3; s++) {
        const voxel = [w, h, s], value = volume[planes.offset_of(voxel, shape)];
        for (const plane of Object.values(planes.PLANES)) {
            const [x, y] = planes.to_plane(plane, planes.middle_of(voxel), shape), cut = planes.cut_slice(volume, shape, plane, voxel[plane.through]);
            assert.equal(cut[Math.floor(y) * shape[plane.across] + Math.floor(x)], value);
            const elsewhere = planes.middle_of(voxel.map((index, axis) => axis === plane.through ? index : 0));
            assert.deepEqual(planes.voxel_at(planes.to_place(plane, x, y, elsewhere, shape), shape), voxel);
        }
    }
});

test('coronal and sagittal slices have the head up', () => {
    assert.deepEqual([...planes.cut_slice(volume, shape, planes.PLANES.coronal, 1)], [45, 46, 47, 48, 49, 25, 26, 27, 28, 29, 5, 6, 7, 8, 9]);
    assert.deepEqual([...planes.cut_slice(volume, shape, planes.PLANES.sagittal, 2)], [42, 47, 52, 57, 22, 27, 32, 37, 2, 7, 12, 17]);
});

test('a place outside the volume is its nearest voxel', () => {
    assert.deepEqual(planes.voxel_at([-3, 9, 1.2], shape), [0, 3, 1]);
});

test('millimetres follow the steps of an oblique volume', () => {
    const patient = [[10, -20, 5], [-1.5, .2, 0], [0, -2, .5], [.1, 0, 4]];
    const found = planes.millimetres_of([2, 1, 3], patient);
    [10 - 3 + .3, -20 + .4 - 2, 5 + .5 + 12].forEach((value, i) => close(found[i], value));
    assert.equal(planes.position_text(found), 'R 7.3 P 21.6 S 17.5 mm');
});

test('the border of a mask is closed and joined where it goes straight on', () => {
    const mask = [0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1], lines = planes.border_lines(mask, 4, 4), ends = {};
    for (const [a, b, c, d] of lines) for (const point of [`${a} ${b}`, `${c} ${d}`]) ends[point] = (ends[point] || 0) + 1;
    assert.ok(Object.values(ends).every(count => count % 2 === 0));
    close(lines.reduce((sum, [a, b, c, d]) => sum + Math.abs(c - a) + Math.abs(d - b), 0), 12);
    assert.ok(lines.some(line => String(line) === '1,1,3,1'));
});

test('the extent of a mask has its corners and the voxel nearest to its mean', () => {
    const mask = new Uint8Array(60);
    for (const voxel of [[1, 1, 0], [3, 1, 0], [3, 3, 2]]) mask[planes.offset_of(voxel, shape)] = 1;
    assert.deepEqual(planes.extent_of(mask, shape), {low: [1, 1, 0], high: [3, 3, 2], middle: [3, 1, 0]});
    assert.equal(planes.extent_of(new Uint8Array(60), shape), null);
    assert.deepEqual([...planes.unpack_bits([0b10000101, 0b1], 10)], [1, 0, 1, 0, 0, 0, 0, 1, 1, 0]);
});

test('zooming keeps a place where it is and a frame holds the cross-hair', () => {
    const frame = planes.frame_of([0, 0, 0], [4, 3, 2], [1, 2, 5], 0);
    assert.deepEqual(frame, {middle: [2.5, 4, 7.5], side: 15});
    const place = [1, 3, 9], nearer = planes.zoom_frame(frame, 3, place, [2, 40]);
    close(nearer.side, 5);
    place.forEach((value, axis) => close((value - nearer.middle[axis]) / nearer.side, (value - frame.middle[axis]) / frame.side));
    close(planes.zoom_frame(frame, 100, place, [2, 40]).side, 2);
    const moved = planes.keep_in_frame(nearer, [4.9, 3, 9]);
    assert.ok(Math.abs(4.9 - moved.middle[0]) <= moved.side / 2 && moved.middle[1] === nearer.middle[1]);
});

test('greys follow the display window and values beyond the span are limits', () => {
    const greys = planes.grey_table([-160, 240], [-160, 240]), narrower = planes.grey_table([-160, 240], [40, 240]);
    assert.deepEqual([greys[0], greys[51], greys[255]], [0xff000000, 0xff333333, 0xffffffff]);
    assert.equal(narrower[127], 0xff000000);
    assert.deepEqual([0, 128, 255].map(code => planes.code_text(code, [-160, 240], 'HU')), ['≤ -160 HU', '41 HU', '≥ 240 HU']);
});
