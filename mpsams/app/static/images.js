// The images of a project without the page: which are shown, in which order, and which rows of a long list are in view.
const OPEN = ['new', 'proposed', 'in work'];  // statuses of what stands in the queue
const FIELDS = ['id', 'number', 'name', 'status', 'priority', 'image_class', 'seconds', 'changed', 'is_empty', 'is_volume'];  // of a row that the server sends

const is_open = image => OPEN.includes(image.status);
const title_of = image => image.name || `Image ${image.number}`;
// The largest priority of the queue, which the others are compared with.
const top_priority = images => images.reduce((top, image) => is_open(image) ? Math.max(top, image.priority || 0) : top, 0);
const doubt_of = (image, top) => image.priority === null || !top ? null : Math.min(1, image.priority / top);
const counts_of = images => {
    const counts = {new: 0, proposed: 0, 'in work': 0, accepted: 0, skipped: 0};
    for (const {status} of images) counts[status]++;
    return counts;
};

// The median of the seconds worked on accepted images; null where none were recorded.
const median_seconds = images => {
    const taken = images.filter(image => image.status === 'accepted' && image.seconds > 0).map(image => image.seconds).sort((a, b) => a - b), half = taken.length >> 1;
    return !taken.length ? null : taken.length % 2 ? taken[half] : (taken[half - 1] + taken[half]) / 2;
};
const STATES = {open: is_open, accepted: image => image.status === 'accepted', skipped: image => image.status === 'skipped', all: () => true};
const DOUBTS = {
    '': () => true, nothing: image => image.is_empty,
    high: (image, top) => !image.is_empty && (doubt_of(image, top) ?? 0) >= .5, low: (image, top) => !image.is_empty && (doubt_of(image, top) ?? 0) < .5,
};
const by_number = (a, b) => a.number - b.number;
const by_name = new Intl.Collator('en', {numeric: true, sensitivity: 'base'}).compare;
// The order of the server's queue: nothing found, then the most doubtful, those without priority last; what is finished after that.
const by_queue = (a, b) => is_open(b) - is_open(a) || (is_open(a) ? b.is_empty - a.is_empty || (b.priority ?? -Infinity) - (a.priority ?? -Infinity) || 0 : 0) || by_number(a, b);
const ORDERS = {
    queue: by_queue, sure: (a, b) => -by_queue(a, b), name: (a, b) => by_name(title_of(a), title_of(b)) || by_number(a, b), added: by_number,
    changed: (a, b) => b.changed.localeCompare(a.changed) || by_number(a, b), seconds: (a, b) => b.seconds - a.seconds || by_number(a, b),
    class: (a, b) => by_name(a.image_class, b.image_class) || by_queue(a, b),
};
// The images that fit filters, in order. search: words that the name holds, all of them, or the image's number. image_class: '' any, '-' none.
const arrange = (images, {search = '', state = 'open', image_class = '', doubt = '', order = 'queue'}) => {
    const words = search.toLowerCase().split(/\s+/).filter(Boolean), top = top_priority(images), has_state = STATES[state], has_doubt = DOUBTS[doubt];
    const is_named = image => { const name = title_of(image).toLowerCase(); return words.every(word => name.includes(word)) || words.length === 1 && words[0] === String(image.number); };
    const is_of_class = image => !image_class || image.image_class === (image_class === '-' ? '' : image_class);
    return images.filter(image => has_state(image) && has_doubt(image, top) && is_of_class(image) && (!words.length || is_named(image))).sort(ORDERS[order]);
};
// The ids from one image to another as they are listed.
const ids_between = (listed, from, to) => {
    const places = [from, to].map(id => listed.findIndex(image => image.id === id)), [first, last] = places[0] < 0 ? [places[1], places[1]] : places.sort((a, b) => a - b);
    return listed.slice(first, last + 1).map(image => image.id);
};
// Numbers of the first row in view and the one behind the last, with some to spare.
const rows_in_view = (scrolled, high, row, count, spare = 6) => {
    const first = Math.max(0, Math.min(count, Math.floor(scrolled / row)) - spare);
    return [first, Math.min(count, Math.ceil((scrolled + high) / row) + spare)];
};
// Take in what the server sent: all images, or those that changed since.
const merge_images = (images, {is_complete, items, removed}) => {
    if (is_complete) images.clear();
    for (const row of items) {
        const image = Object.fromEntries(FIELDS.map((name, i) => [name, row[i]]));
        images.set(image.id, image);
    }
    for (const id of removed) images.delete(id);
};
// The images of a selection that a batch action is about.
const eligible = (action, images) => images.filter({accept: is_open, skip: is_open, reopen: image => !is_open(image), delete: () => true}[action]);
