// The view of a picture in mpsams/app/static/viewbox.js: zooming keeps a point in place, nothing leaves the image, bars have round lengths.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import test from 'node:test';

const source = fs.readFileSync(new URL('../../mpsams/app/static/viewbox.js', import.meta.url), 'utf8');
const names = ['box_of', 'box_text', 'is_zoomed', 'zoom_box', 'pan_box', 'to_image', 'scale_bar', 'length_text', 'dragged_window', 'value_text', 'SMALLEST'];
const view = Function(`${source}; return {${names.join(', ')}};`)();
const size = {w: 400, h: 300}, whole = {x: 0, y: 0, w: 400, h: 300};
const close = (a, b) => assert.ok(Math.abs(a - b) < 1e-9, `${a} and ${b}`);

test('zooming keeps the point under the cursor where it is', () => {
    const frame = {left: 10, top: 20, width: 800, height: 600}, [x, y] = [333, 222], before = view.to_image(x, y, frame, whole);
    const box = view.zoom_box(whole, 2.5, before, size), after = view.to_image(x, y, frame, box);
    close(box.w, 160);
    close(box.h, 120);
    close(after.x, before.x);
    close(after.y, before.y);
    assert.ok(view.is_zoomed(box, size) && !view.is_zoomed(whole, size));
});

test('zooming out ends at the whole image, zooming in at a few pixels', () => {
    const box = view.zoom_box(whole, 4, {x: 50, y: 50}, size);
    assert.deepEqual(view.zoom_box(box, 1 / 8, {x: 50, y: 50}, size), whole);
    const smallest = view.zoom_box(box, 1e6, {x: 50, y: 50}, size);
    close(Math.min(smallest.w, smallest.h), view.SMALLEST);
    close(smallest.w / smallest.h, 4 / 3);
});

test('the middle of the view stays on the image however far it is dragged', () => {
    for (const [x, y] of [[1e5, 0], [-1e5, 1e5], [0, -1e5]]) {
        const box = view.pan_box({x: 100, y: 100, w: 100, h: 75}, x, y, size), middle = [box.x + box.w / 2, box.y + box.h / 2];
        assert.ok(middle[0] >= 0 && middle[0] <= 400 && middle[1] >= 0 && middle[1] <= 300, String(middle));
    }
});

test('a scale bar is the longest round length that fits', () => {
    for (const mm_per_point of [0.001, 0.03, 0.1, 0.49, 0.5, 2, 7]) {
        const {mm, points} = view.scale_bar(mm_per_point), first = Number((mm / 10 ** Math.floor(Math.log10(mm * (1 + 1e-9)))).toFixed(6));
        assert.ok([1, 2, 5].includes(first), `${mm}`);
        assert.ok(points <= 110.001 && points > 110 / 2.6, `${points}`);
        close(points * mm_per_point, mm);
    }
    assert.deepEqual([50, 5, 0.5].map(view.length_text), ['5 cm', '5 mm', '500 µm']);
});

test('a drag to the right widens the window and one downwards darkens it', () => {
    const [black, white] = view.dragged_window([-160, 240], 250, 0);
    close(white - black, 400 * Math.E);
    close((white + black) / 2, 40);
    const darker = view.dragged_window([-160, 240], 0, 25);
    close((darker[0] + darker[1]) / 2, 80);
    assert.equal(view.value_text(31.7, -1000, 2000, 'HU'), '32 HU');
    assert.equal(view.value_text(0.56291, 0, 1, ''), '0.563');
});
