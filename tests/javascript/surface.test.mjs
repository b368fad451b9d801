// Surfaces in mpsams/app/static/surface.js: closed, outward, of the right volume in mm, and painted where they are.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import test from 'node:test';

const read = name => fs.readFileSync(new URL(`../../mpsams/app/static/${name}.js`, import.meta.url), 'utf8');
const names = ['surface_of', 'normals_of', 'view_matrix', 'project', 'rasterise', 'paint_surfaces', 'parse_colour', 'offset_of', 'MOST_IN_BOX'];
const made = Function(`${['viewbox', 'planes', 'surface'].map(read).join('; ')}; return {${names.join(', ')}};`)();

const fill = (shape, is_inside) => {
    const mask = new Uint8Array(shape[0] * shape[1] * shape[2]);
    for (let s = 0; s < shape[2]; s++) for (let h = 0; h < shape[1]; h++) for (let w = 0; w < shape[0]; w++) mask[made.offset_of([w, h, s], shape)] = is_inside(w, h, s);
    return mask;
};
const volume_of = ({points, triangles}) => {  // by the divergence theorem, above 0 where triangles are turned outwards
    let sum = 0;
    for (let t = 0; t < triangles.length; t += 3) {
        const [a, b, c] = [0, 1, 2].map(i => [...points.slice(3 * triangles[t + i], 3 * triangles[t + i] + 3)]);
        sum += a[0] * (b[1] * c[2] - b[2] * c[1]) + a[1] * (b[2] * c[0] - b[0] * c[2]) + a[2] * (b[0] * c[1] - b[1] * c[0]);
    }
    return sum / 6;
};
const count_edges = ({triangles}) => {
    const counts = new Map();
    for (let t = 0; t < triangles.length; t += 3) for (let i = 0; i < 3; i++) {
        const edge = `${triangles[t + i]} ${triangles[t + (i + 1) % 3]}`;
        counts.set(edge, (counts.get(edge) || 0) + 1);
    }
    return counts;
};
const ball = fill([30, 30, 12], (w, h, s) => (w - 15) ** 2 + (h - 14) ** 2 + (2.5 * (s - 6)) ** 2 < 144), mm = [.8, .8, 2];

test('a surface is closed, turned outwards and has the volume of its voxels in mm', () => {
    const surface = made.surface_of(ball, [30, 30, 12], mm), edges = count_edges(surface);
    for (const [edge, count] of edges) assert.equal(edges.get(edge.split(' ').reverse().join(' ')), count, edge);
    const voxels = ball.reduce((sum, value) => sum + value) * .8 * .8 * 2, volume = volume_of(surface);
    assert.ok(Math.abs(volume / voxels - 1) < .08, `${volume} of ${voxels}`);
});

test('its points lie around the middle in mm, with normals that point away from it', () => {
    const surface = made.surface_of(ball, [30, 30, 12], mm), normals = made.normals_of(surface), middle = [15.5, 14.5, 6.5].map((value, i) => value * mm[i]);
    for (let k = 0; k < surface.points.length; k += 3) {
        const out = middle.map((value, i) => surface.points[k + i] - value), far = Math.hypot(...out);
        assert.ok(far > 8 && far < 11, `${far}`);
        assert.ok(out.reduce((sum, value, i) => sum + value * normals[k + i], 0) / far > .6);
    }
});

test('a single voxel and one at the corner of the volume have a surface, an empty mask has none', () => {
    const one = made.surface_of(fill([3, 3, 3], (w, h, s) => w + h + s === 0), [3, 3, 3], [1, 1, 1], 0);
    assert.equal(one.points.length / 3, 8);
    assert.equal(one.triangles.length / 3, 12);
    assert.ok(volume_of(one) > 0 && Math.max(...one.points) <= 1 && Math.min(...one.points) >= 0);
    assert.equal(made.surface_of(new Uint8Array(27), [3, 3, 3], [1, 1, 1]).triangles.length, 0);
});

test('of a very large mask fewer voxels are used', () => {
    const shape = [160, 160, 80], surface = made.surface_of(new Uint8Array(shape[0] * shape[1] * shape[2]).fill(1), shape, [1, 1, 2]);
    assert.ok(Math.abs(volume_of(surface) / (160 * 160 * 160) - 1) < .1);
    assert.ok(surface.points.length / 3 < 6 * 128 * 128);
});

test('from the front the left side is on the right and the head up; turned, other sides face the eye', () => {
    const eye = {middle: [0, 0, 0], scale: 1, wide: 100, high: 100}, see = (turn, tilt, place) => made.project({...eye, matrix: made.view_matrix(turn, tilt)}, place).map(value => Math.round(value) + 0);
    assert.deepEqual(see(0, 0, [10, 0, 0]), [60, 50, 0]);
    assert.deepEqual(see(0, 0, [0, 0, 10]), [50, 40, 0]);
    assert.equal(see(0, 0, [0, -10, 0])[2], 10);
    assert.equal(see(-Math.PI / 2, 0, [10, 0, 0])[2], 10);
    assert.equal(see(0, Math.PI / 2, [0, 0, 10])[2], 10);
});

test('the nearer surface hides the other, a clear one lets it through', () => {
    const shape = [40, 40, 40], boxes = [8, 24].map(row => made.surface_of(fill(shape, (w, h, s) => w > 8 && w < 30 && s > 8 && s < 30 && h >= row && h < row + 6), shape, [1, 1, 1]));
    const [front, back] = boxes.map((surface, i) => ({...surface, normals: made.normals_of(surface), rgb: i ? [0, 0, 255] : [255, 0, 0]}));
    const eye = {matrix: made.view_matrix(0, 0), middle: [20, 20, 20], scale: 1, wide: 40, high: 40}, at = (pixels, x, y) => [...pixels.slice(4 * (40 * y + x), 4 * (40 * y + x) + 4)];
    const solid = made.paint_surfaces([{...back, look: 'solid'}, {...front, look: 'solid'}], eye), clear = made.paint_surfaces([{...back, look: 'solid'}, {...front, look: 'clear'}], eye);
    const [red, , blue, alpha] = at(solid, 20, 20), through = at(clear, 20, 20);
    assert.ok(red > 100 && blue < 90 && alpha === 255);
    assert.ok(through[0] > 30 && through[2] > 100 && through[3] === 255);
    assert.deepEqual(at(solid, 2, 2), [0, 0, 0, 0]);
    assert.deepEqual(made.parse_colour('#56b4e9'), [0x56, 0xb4, 0xe9]);
});
