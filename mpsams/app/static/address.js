// The address of the page: its query names the tab, the image on screen and the tab's settings (mpsams/app/address.py reads it).
// Another tab, image or step that a user chose is a new entry of the browser's history; other changes replace the entry.
const IMAGE = ['sample', 'image', 'plane', 'slice', 'selector', 'seed'], ENTRY = ['tab', 'sample', 'image', 'step'];
const parse = query => Object.fromEntries(new URLSearchParams(query));
const pick = (values, keep) => Object.fromEntries(Object.entries(values).filter(([key, value]) => keep(key) && value !== ''));
const in_image = key => IMAGE.includes(key);
const tab_in_front = () => document.querySelector('[role=tab][aria-selected=true]')?.dataset.tabId;
const image_on_screen = () => parse(document.querySelector('#shown [data-address]')?.dataset.address || '');
const main = () => document.querySelector('#main');
const settings = {};  // of each tab
const reader = pick(parse(location.search), key => key === 'reader');  // whose page this is, as long as it is open
let image = image_on_screen(), current = null, opening = true, timer = 0;

const write = () => {
    const tab = tab_in_front();
    if (opening || !tab) return;
    const values = {tab, ...reader, ...image, ...settings[tab]}, query = '?' + new URLSearchParams(values);
    if (current === query) return;
    const before = parse(current || ''), chosen = navigator.userActivation?.hasBeenActive ?? true;
    const is_entry = chosen && ENTRY.some(key => before[key] !== String(values[key] ?? '') && (key in before || key in values));
    if (current === null && !chosen) history.replaceState({query}, '');  // a plain address stays plain until something is chosen
    else history[is_entry && current !== null ? 'pushState' : 'replaceState']({query}, '', query);
    current = query;
};
const changed = () => { clearTimeout(timer); timer = setTimeout(write, 250); };
const start = () => { opening = true; main()?.classList.add('opening'); setTimeout(done, 20000); };
const done = () => {
    opening = false;
    main()?.classList.remove('opening');
    const bar = document.querySelector('#tabs .tab-container'), tab = bar?.querySelector('[aria-selected=true]');
    if (tab) bar.scrollLeft = tab.offsetLeft - (bar.clientWidth - tab.offsetWidth) / 2;  // on a phone the tabs are wider than the page
    changed();
};

window.address = {
    changed,
    note_image() {
        image = image_on_screen();
        changed();
    },
    note(tab, values) {
        const text = Object.entries(values).map(([key, value]) => [key, String(value ?? '')]);
        settings[tab] = pick({...settings[tab], ...Object.fromEntries(text)}, () => true);
        changed();
    },
    note_query(tab, query) {
        settings[tab] = pick(parse(query), key => !in_image(key));
        changed();
    },
    // The server has opened a query; "" where there was none, or it was refused.
    opened(query) {
        const values = parse(query), linked = pick(values, in_image);
        if (Object.keys(linked).length) image = linked;  // on screen in a moment
        if (query) settings[values.tab || 'learn'] = pick(values, key => !in_image(key) && key !== 'tab');
        else window.address.note_query('learn', document.querySelector('.learn')?.dataset.link || '');
        if (query && current === null) current = location.search;
        done();
    },
};
addEventListener('popstate', event => {
    const query = event.state?.query || location.search;
    current = query;
    start();
    trigger('visit', {query});
});
// A link within the page is opened without loading the page again.
document.addEventListener('click', event => {
    const link = event.target.closest('a[href^="?"]');
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    const query = '?' + new URLSearchParams({tab: tab_in_front(), ...reader, ...parse(link.getAttribute('href'))});
    history.pushState({query}, '', query);
    current = query;
    start();
    trigger('visit', {query});
});
if (location.search) start();
