// The list of a project's images beside the canvas: only the rows in view are in the page, and the server sends what changed.
const root = element.querySelector('.images'), box = root.querySelector('.queue'), rows = root.querySelector('.rows');
const part = name => root.querySelector(`[data-part="${name}"]`);
const ROW = 54, LOT = 24, POLL = 10000;  // height of a row in pixels; thumbnails asked for at once; milliseconds between questions for news
const reader = new URLSearchParams(location.search).get('reader') || '';  // whose masks and states are listed; "" is the first
const images = new Map(), thumbnails = new Map(), selected = new Set();
const filters = {search: '', state: 'open', image_class: '', doubt: '', order: 'queue'};
let shown = [], version = -1, wanted = -1, asking = false, current = '', active = '', anchor = '', asked_thumbnails = false, pending = null;

const make = (tag, properties = {}, ...children) => {
    const one = Object.assign(document.createElement(tag), properties);
    one.append(...children);
    return one;
};
const plural = count => `${count} image${count === 1 ? '' : 's'}`;

// Ask for what changed since; one question at a time.
const refresh = async () => {
    if (asking) return;
    asking = true;
    try {
        do {
            const news = await server.items({since: version, reader});
            if (!news) break;  // there is no such reader, as the page says
            if (news.is_complete || news.version > version) {
                version = news.version;
                merge_images(images, news);
                if (news.is_complete || news.items.length || news.removed.length) show();
            }
        } while (version < wanted && wanted !== Infinity);
    } catch (error) { console.error(error); }
    asking = false;
};
const receive = () => {
    const value = JSON.parse(props.value || '{}');
    if (value.version === undefined) return;
    if (value.current !== current) { current = active = value.current; show(); reveal(current); }
    wanted = value.version;
    if (wanted !== version) refresh().then(() => reveal(current));
};

const show = () => {
    const all = [...images.values()];
    shown = arrange(all, filters);
    for (const id of selected) if (!images.has(id)) selected.delete(id);
    show_counts(counts_of(all), all.length);
    show_classes(all);
    root.querySelector('.first-steps').hidden = version < 0 || all.length > 0;
    for (const one of root.querySelectorAll('[data-for=images]')) one.hidden = !all.length;
    part('none').hidden = !all.length || shown.length > 0;
    part('none').firstElementChild.innerHTML = is_filtered() ? '' : part('none').dataset[filters.state] || '';
    part('reset').hidden = !is_filtered();
    part('total').textContent = shown.length === all.length || !shown.length ? '' : `${shown.length} of ${plural(all.length)} shown`;
    box.hidden = !shown.length;
    rows.style.height = `${ROW * shown.length}px`;
    draw();
};
const is_filtered = () => Boolean(filters.search || filters.image_class || filters.doubt);
const median_time = () => {
    const median = median_seconds([...images.values()]);
    return median === null ? [] : `median ${Math.round(median)} s per accepted image`;
};
const show_counts = (counts, total) => {
    const {accepted, skipped} = counts, left = total - accepted - skipped, share = total ? accepted / total : 0;
    part('share').style.width = `${100 * share}%`;
    part('share').parentElement.setAttribute('aria-valuenow', Math.round(100 * share));
    part('done').textContent = `${accepted} of ${total} accepted`;
    part('rest').textContent = Object.entries(counts).filter(([status, count]) => count && status !== 'accepted').map(([status, count]) => `${count} ${status}`).concat(median_time()).join(', ');
    for (const [state, count] of Object.entries({open: left, accepted, skipped, all: total})) part(`count-${state}`).textContent = count;
    window.dispatchEvent(new CustomEvent('annotation-counts', {detail: {left}}));
};
const show_classes = all => {
    const names = [...new Set(all.map(image => image.image_class).filter(Boolean))].sort(by_name), select = root.querySelector('[data-set=image_class]');
    select.hidden = !names.length;
    if (select.dataset.names === names.join('|')) return;
    select.dataset.names = names.join('|');
    select.replaceChildren(...[['', 'Any class'], ...names.map(name => [name, name]), ['-', 'Without class']].map(([value, text]) => make('option', {value, text})));
    filters.image_class = select.value = names.includes(filters.image_class) || filters.image_class === '-' ? filters.image_class : '';
};

// The rows in view.
const draw = () => {
    const [first, last] = rows_in_view(box.scrollTop, box.clientHeight || 400, ROW, shown.length), top = top_priority([...images.values()]);
    rows.replaceChildren(...shown.slice(first, last).map((image, i) => row_of(image, first + i, top)));
    box.setAttribute('aria-activedescendant', active && images.has(active) ? `image-${active}` : '');
    part('picked').hidden = !selected.size;
    if (selected.size) show_selection();
    ask_thumbnails();
};
const row_of = (image, place, top) => {
    const doubt = is_open(image) && !image.is_empty ? doubt_of(image, top) : null, picture = thumbnails.get(image.id);
    const details = [image.image_class, image.is_volume && 'volume', image.seconds >= 1 && `${Math.round(image.seconds)} s`].filter(Boolean).join(' \u00b7 ');
    const chip = make('em', {className: 'chip', textContent: image.is_empty ? 'nothing found' : image.status});
    chip.dataset.status = image.is_empty ? 'nothing found' : image.status;
    const row = make('div', {className: 'row', id: `image-${image.id}`, title: title_of(image) + (doubt === null ? '' : `. Doubt ${Math.round(100 * doubt)} of 100, compared with the most doubtful image.`)},
        make('i', {className: 'thumbnail', style: picture ? `background-image: url(${picture})` : ''}, make('i', {className: 'tick', title: 'Select'})),
        make('b', {textContent: image.number}), make('span', {textContent: title_of(image)}), chip, make('small', {textContent: details}));
    if (doubt !== null) row.append(make('s', {}, make('i', {style: `width: ${100 * doubt}%`})));
    row.style.top = `${ROW * place}px`;
    row.dataset.item = image.id;
    for (const [name, value] of [['role', 'option'], ['aria-selected', selected.has(image.id)], ['aria-setsize', shown.length], ['aria-posinset', place + 1]]) row.setAttribute(name, value);
    if (image.id === current) row.setAttribute('aria-current', 'true');
    row.classList.toggle('active', image.id === active);
    return row;
};
const reveal = id => {
    const place = shown.findIndex(image => image.id === id), above = place * ROW;
    if (place < 0) return;
    if (above < box.scrollTop || above + ROW > box.scrollTop + box.clientHeight) box.scrollTop = above - (box.clientHeight - ROW) / 2;
    draw();
};
const ask_thumbnails = () => {
    if (asked_thumbnails) return;
    asked_thumbnails = true;
    setTimeout(async () => {
        const missing = [...rows.children].map(row => row.dataset.item).filter(id => !thumbnails.has(id)).slice(0, LOT);
        try {
            if (missing.length && root.checkVisibility()) {
                const found = await server.thumbnails(missing);
                for (const id of missing) thumbnails.set(id, found[id] || '');
                for (const row of rows.children) if (found[row.dataset.item]) row.firstElementChild.style.backgroundImage = `url(${found[row.dataset.item]})`;
            }
        } catch (error) { console.error(error); }
        asked_thumbnails = false;
        if (missing.length && [...rows.children].some(row => !thumbnails.has(row.dataset.item)) && root.checkVisibility()) ask_thumbnails();
    }, 60);
};

// Choosing and selecting, as in a file manager: a click opens, with Ctrl or Shift it selects.
// Keys are for an image once it is there; of the one on screen that is now.
const open = id => {
    if (!id) return;
    active = anchor = id;
    draw();
    if (id === current) document.querySelector('#annotate [data-part=stage]')?.focus({preventScroll: true});
    trigger('pick', {item: id});
};
const toggle = id => { selected.delete(id) || selected.add(id); active = anchor = id; draw(); };
const extend = id => {
    selected.clear();
    for (const one of ids_between(shown, anchor || active || current, id)) selected.add(one);
    active = id;
    draw();
};
const move = (by, extends_selection) => {
    const place = shown.findIndex(image => image.id === active), next = shown[Math.max(0, Math.min(shown.length - 1, place < 0 ? 0 : place + by))];
    if (!next) return;
    if (extends_selection) { anchor ||= active; extend(next.id); }
    else active = anchor = next.id;
    reveal(active);
    draw();
};
box.addEventListener('click', event => {
    const row = event.target.closest('[data-item]');
    if (!row) return;
    const id = row.dataset.item;
    if (event.shiftKey) extend(id);
    else if (event.ctrlKey || event.metaKey || event.target.closest('.tick')) toggle(id);
    else { selected.clear(); open(id); }
});
const page_rows = () => Math.max(1, Math.floor(box.clientHeight / ROW) - 1);
const LIST_KEYS = {
    ArrowDown: event => move(1, event.shiftKey), ArrowUp: event => move(-1, event.shiftKey), Home: event => move(-Infinity, event.shiftKey), End: event => move(Infinity, event.shiftKey),
    PageDown: event => move(page_rows(), event.shiftKey), PageUp: event => move(-page_rows(), event.shiftKey), Enter: () => open(active), ' ': () => active && toggle(active),
    Delete: () => selected.size && confirm_batch('delete'), Escape: () => { selected.clear(); draw(); },
};
box.addEventListener('keydown', event => {
    const all = event.key === 'a' && (event.ctrlKey || event.metaKey), act = all ? select_all : event.ctrlKey || event.metaKey || event.altKey ? null : LIST_KEYS[event.key];
    if (!act) return;
    event.preventDefault();
    event.stopPropagation();
    act(event);
});
const select_all = () => { for (const image of shown) selected.add(image.id); draw(); };

// Actions on all that is selected, after a question that says how many.
const BATCH = {
    accept: ['Accept', 'Their saved masks, else the proposals, are accepted as they are. Images in which nothing is outlined are left out.'],
    skip: ['Skip', 'They leave the queue; their masks stay. \u201cReopen\u201d brings them back.'],
    reopen: ['Reopen', 'They go back into the queue; their masks stay.'],
    delete: ['Delete', 'The images with their masks, proposals and names are removed from the project\u2019s folder, for everyone. This cannot be undone.'],
};
const chosen = () => [...selected].map(id => images.get(id)).filter(Boolean);
const show_selection = () => {
    part('selected').textContent = `${selected.size} selected`;
    for (const button of root.querySelectorAll('[data-batch]')) button.disabled = !eligible(button.dataset.batch, chosen()).length;
};
const confirm_batch = action => {
    const ids = eligible(action, chosen()).map(image => image.id), [verb, text] = BATCH[action], left = selected.size - ids.length;
    if (!ids.length) return;
    pending = {action, items: ids};
    part('question').textContent = `${verb} ${plural(ids.length)}?`;
    part('explanation').textContent = text + (left ? ` ${left} other selected ${left === 1 ? 'image is' : 'images are'} left as ${left === 1 ? 'it is' : 'they are'}.` : '');
    part('yes').textContent = `${verb} ${plural(ids.length)}`;
    part('yes').classList.toggle('danger', action === 'delete');
    part('confirm').showModal();
};
part('confirm').addEventListener('close', () => {
    if (part('confirm').returnValue === 'yes' && pending) { selected.clear(); draw(); trigger('batch', pending); }
    pending = null;
    part('confirm').returnValue = '';
});
root.addEventListener('click', event => {
    const {batch, action} = event.target.closest('button')?.dataset || {};
    if (batch) confirm_batch(batch);
    else if (action === 'all') select_all();
    else if (action === 'none') { selected.clear(); draw(); }
    else if (action === 'reset') {
        Object.assign(filters, {search: '', image_class: '', doubt: ''});
        for (const name of ['search', 'image_class', 'doubt']) root.querySelector(`[data-set=${name}]`).value = '';
        show();
    }
});
root.addEventListener('input', event => {
    const name = event.target.dataset.set;
    if (!name) return;
    filters[name] = event.target.value;
    box.scrollTop = 0;
    show();
});
root.querySelector('[data-set=search]').addEventListener('keydown', event => {
    if (event.key === 'Enter' && shown.length) open(shown[0].id);
    if (event.key === 'ArrowDown' && shown.length) { event.preventDefault(); box.focus(); active = shown[0].id; draw(); }
});
box.addEventListener('scroll', () => requestAnimationFrame(draw));
new ResizeObserver(() => draw()).observe(box);
const poll = () => { if (element.isConnected && !document.hidden && root.checkVisibility()) refresh(); };
setInterval(poll, POLL);
document.addEventListener('visibilitychange', poll);
window.addEventListener('focus', poll);

element.listing = () => ({version, shown: shown.map(image => image.id), selected: [...selected], images: images.size});
watch('value', receive);
receive();
