// The list of a project's images without the page: filters, orders, ranges, rows in view, and taking in what changed.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import test from 'node:test';

const source = fs.readFileSync(new URL('../../mpsams/app/static/images.js', import.meta.url), 'utf8');
const names = ['arrange', 'counts_of', 'ids_between', 'rows_in_view', 'merge_images', 'eligible', 'median_seconds'];
const list = Function(`${source}; return {${names.join(', ')}};`)();

const row = (number, fields = {}) => ({id: `id${number}`, number, name: `scan ${number}.png`, status: 'proposed', priority: null, image_class: '', seconds: 0, changed: `2026-11-${10 + number}`, is_empty: 0, is_volume: 0, ...fields});
const sent = image => [image.id, image.number, image.name, image.status, image.priority, image.image_class, image.seconds, image.changed, image.is_empty, image.is_volume];
const all = [
    row(1, {priority: .2, image_class: 'benign'}), row(2, {priority: .8, name: 'Left breast 10.png', seconds: 30}), row(3, {is_empty: 1, priority: 0}),
    row(4, {status: 'accepted', priority: .9, image_class: 'malignant'}), row(5, {status: 'skipped', name: ''}), row(6, {status: 'in work', name: 'Left breast 9.png'}),
];
const numbers = filters => list.arrange(all, filters).map(image => image.number);

test('the queue has nothing found first, then the most doubtful, and what is finished last', () => {
    assert.deepEqual(numbers({}), [3, 2, 1, 6]);
    assert.deepEqual(numbers({state: 'all'}), [3, 2, 1, 6, 4, 5]);
    assert.deepEqual(numbers({state: 'accepted'}), [4]);
    assert.deepEqual(numbers({state: 'skipped'}), [5]);
});

test('search looks for all words in the name, or for the number', () => {
    assert.deepEqual(numbers({search: 'BREAST left', order: 'name'}), [6, 2]);
    assert.deepEqual(numbers({search: '3', state: 'all'}), [3]);
    assert.deepEqual(numbers({search: 'image 5', state: 'all'}), [5]);
    assert.deepEqual(numbers({search: 'nowhere', state: 'all'}), []);
});

test('filters by class and doubt', () => {
    assert.deepEqual(numbers({image_class: 'benign'}), [1]);
    assert.deepEqual(numbers({image_class: '-', state: 'all', order: 'added'}), [2, 3, 5, 6]);
    assert.deepEqual(numbers({doubt: 'nothing'}), [3]);
    assert.deepEqual(numbers({doubt: 'high'}), [2]);
    assert.deepEqual(numbers({doubt: 'low'}), [1, 6]);
});

test('orders', () => {
    assert.deepEqual(numbers({order: 'sure'}), [6, 1, 2, 3]);
    assert.deepEqual(numbers({order: 'changed', state: 'all'}), [6, 5, 4, 3, 2, 1]);
    assert.equal(numbers({order: 'seconds'})[0], 2);
    assert.deepEqual(numbers({order: 'class', state: 'all'}), [3, 2, 6, 5, 1, 4]);
});

test('a range goes from one row to another in either direction', () => {
    const shown = list.arrange(all, {order: 'added', state: 'all'});
    assert.deepEqual(list.ids_between(shown, 'id2', 'id4'), ['id2', 'id3', 'id4']);
    assert.deepEqual(list.ids_between(shown, 'id4', 'id2'), ['id2', 'id3', 'id4']);
    assert.deepEqual(list.ids_between(shown, 'gone', 'id4'), ['id4']);
});

test('the rows in view of a long list are few and within it', () => {
    assert.deepEqual(list.rows_in_view(0, 540, 54, 5000, 6), [0, 16]);
    assert.deepEqual(list.rows_in_view(54 * 4990, 540, 54, 5000, 6), [4984, 5000]);
    assert.deepEqual(list.rows_in_view(54 * 100, 540, 54, 3, 6), [0, 3]);
    assert.deepEqual(list.rows_in_view(0, 540, 54, 0, 6), [0, 0]);
});

test('what changed is taken in, what is gone is left out, and counts follow', () => {
    const images = new Map();
    list.merge_images(images, {is_complete: true, items: all.map(sent), removed: []});
    assert.deepEqual([...images.values()], all);
    list.merge_images(images, {is_complete: false, items: [sent({...all[0], status: 'accepted'})], removed: ['id2']});
    assert.equal(images.size, 5);
    assert.deepEqual(list.counts_of([...images.values()]), {new: 0, proposed: 1, 'in work': 1, accepted: 2, skipped: 1});
    list.merge_images(images, {is_complete: true, items: [], removed: []});
    assert.equal(images.size, 0);
});

test('the median time is that of accepted images', () => {
    const taken = seconds => row(1, {status: 'accepted', seconds});
    assert.equal(list.median_seconds(all), null);
    assert.equal(list.median_seconds([taken(4), taken(0), taken(10), ...all]), 7);
    assert.equal(list.median_seconds([taken(4), taken(6), taken(100)]), 6);
});

test('a batch action is about the images it can change', () => {
    const of = action => list.eligible(action, all).map(image => image.number);
    assert.deepEqual([of('accept'), of('skip'), of('reopen'), of('delete').length], [[1, 2, 3, 6], [1, 2, 3, 6], [4, 5], 6]);
});
