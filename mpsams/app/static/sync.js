// What the page says to the server and hears from it: one wish at a time, autosave, tries again, and what is true about saving.
const LEAVING = ['go', 'accept', 'skip', 'open'], PAUSE = 700, LONGEST = 15000, IDLE = 30000, LEFT = 'mpsams-not-saved';
const inbox = [], owed = [];  // answers not yet read; masks of sheets that were left before they were acknowledged
const given_up = new Map();  // tries that got no answer although their wish did: turn -> key and version
let queue = [], flight = null, turn = 0, state = {status: '', slice: 0, slices: 1, queue_left: 0, proposal: false, who: '', prompts: false};
let resting = 0, reading = false, trouble = 0, kept = '', worked = 0, active_at = 0, newest = 0, stayed = false;  // newest: turn whose mask was saved last

const locked = () => !sheet || ['accepted', 'skipped'].includes(state.status) || leaving();
const leaving = () => Boolean(flight && !flight.lost && LEAVING.includes(flight.wish.do));
const changed = () => Boolean(sheet) && sheet.version !== sheet.acked;
const unsaved = () => changed() || owed.length > 0;
// What the server refused to save is sent again only once it has changed.
const refused = () => changed() && sheet.refused === sheet.version;
const due = () => changed() && !refused() || owed.length > 0;
const clock = () => new Date().toTimeString().slice(0, 8);
// Time counts while something is done; pauses over half a minute do not.
const active = () => {
    const now = performance.now();
    if (now - active_at < IDLE) worked += now - active_at;
    active_at = now;
};

const ask = (wished, more = {}) => {
    if (!sheet) return;
    const last = queue.at(-1);
    if (wished === 'go' && 'step' in more) {
        const from = last && last.do === 'go' ? last.slice : flight && flight.wish.do === 'go' ? flight.wish.slice : state.slice;
        const slice = clamp(from + more.step, 0, state.slices - 1);
        if (slice === from) return;
        more = {slice};
    } else if (leaving() || queue.some(wish => LEAVING.includes(wish.do))) return;
    queue = queue.filter(wish => wish.do !== wished && wish.do !== 'save');
    queue.push({do: wished, ...more});
    send();
};
const send = () => {
    if (flight || !sheet || reading) return status();
    if (owed.length && !resting) return fly({do: 'save', ...owed[0]});
    const wish = queue.shift();
    if (wish) fly(wish);
    else if (due() && !resting) rest();
    status();
};
const fly = wish => {
    clearTimeout(resting);
    resting = 0;
    flight = {id: name_of_wish(), wish, key: wish.key || sheet.key, versions: new Map(), first: turn + 1, seconds: 0, tries: 0};
    launch();
};
const name_of_wish = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), part => part.toString(16).padStart(8, '0')).join('');
// Every try has a turn of its own and the newest mask; by the id the server knows that it is the same wish.
const launch = () => {
    const here = flight.key === sheet.key, {do: wished, ...more} = flight.wish;
    if (!here && !more.mask) { end(0); return send(); }
    flight.seconds += worked / 1000;
    worked = 0;
    flight.lost = false;
    flight.changed = here ? changed() : true;
    flight.versions.set(++turn, here ? sheet.version : more.version);
    const wish = {...more, do: wished, id: flight.id, key: flight.key, turn, mask: here ? pack(MASK) : more.mask, changed: flight.changed, seconds: Math.round(flight.seconds * 10) / 10};
    delete wish.version;
    if (wished === 'prompt') Object.assign(wish, flight.prompt ||= prompt_parts(wish.object), {object: undefined});
    if (wished === 'scribble') Object.assign(wish, {lesion: pack(LESION), background: pack(GROUND)});
    flight.timer = setTimeout(lost, Number(root.dataset.patience));
    trigger('act', wish);
    status();
};
const lost = () => {
    const mine = flight;
    mine.lost = true;
    trouble++;
    mine.timer = setTimeout(() => flight === mine && launch(), Math.min(LONGEST, 1000 * 2 ** mine.tries++));
    status();
};
const rest = (pause = PAUSE) => {
    clearTimeout(resting);
    resting = setTimeout(() => { resting = 0; if (due() && !flight) ask('save'); }, pause);
};
// What is drawn has changed.
const drawn = () => {
    if (changed()) {
        sheet.since ||= clock();
        rest();
    }
    status();
    redraw();
};

const acknowledged = (key, version, where) => {
    settled(key, version);
    if (sheet && sheet.key === key) {
        sheet.acked = Math.max(sheet.acked, version);
        if (!changed()) sheet.since = '';
    }
    kept = where === 'disk' ? `saved on disk ${clock()}` : 'kept in this tab';
};
const settled = (key, version) => {
    const at_once = owed.findIndex(one => one.key === key && one.version <= version);
    if (at_once >= 0) owed.splice(at_once, 1);
    trouble = 0;
};
const not_taken = (key, version) => {
    settled(key, version);
    if (sheet && sheet.key === key) sheet.refused = version;
};
const status = () => {
    const stuck = refused() && !owed.length && !flight, again = trouble && (unsaved() || flight);
    const since = sheet && sheet.since ? `: what was drawn since ${sheet.since}` : '', away = stayed || Boolean(flight) && flight.tries > 3;
    let words = kept || (sheet ? 'no changes yet' : '');
    if (stuck) words = `not saved${since}`;
    else if (again && unsaved() && state.status && away) words = `not saved${since}. Reload the page (Ctrl+R): it is kept, and saved then`;
    else if (again) words = unsaved() ? 'not saved yet, trying again' : 'no answer yet, trying again';
    else if (unsaved()) words = 'saving\u2026';
    root.dataset.saved = stuck || again ? 'trouble' : unsaved() ? 'waiting' : kept && 'kept';
    text('saved', words);
    root.classList.toggle('busy', Boolean(flight && !['save', 'preview'].includes(flight.wish.do)) || reading);
    controls();
};

const hear = said => {
    inbox.push(said);
    listen();
};
// Answers are read in the order they came, and never in the middle of a stroke.
const listen = async () => {
    if (reading || stroke) return;
    reading = true;
    try {
        while (inbox.length && !stroke) await read(inbox.shift());
    } catch (error) {
        console.error(error);
        note('The page could not read the last answer.', true);
    }
    reading = false;
    send();
};
const read = async words => {
    if (!words) return;
    const said = JSON.parse(words), mine = flight && flight.versions.has(said.turn) ? flight : null, late = given_up.get(said.turn), fresh = !late;
    given_up.delete(said.turn);
    turn = Math.max(turn, said.turn);
    if (said.saved && late) acknowledged(late.key, late.version, said.saved);
    if (said.saved && mine) acknowledged(mine.key, mine.versions.get(said.turn), said.saved);
    if (said.saved && (mine || late)) newest = Math.max(newest, said.turn);
    if (mine) clearTimeout(mine.timer);
    try {
        if (fresh && said.sheet) await begin(said);
        else if (fresh && sheet && said.key === sheet.key) {
            state = said.state;
            // What is accepted is what was seen: an answer to scribbles comes too late then.
            if (said.mask !== null && mine && mine.dropped) { sheet.version++; drawn(); }
            else if (said.mask !== null && !queue.some(wish => wish.do === 'accept')) replace(said, mine);
            preview_shown(said.preview);
            if (said.refused && mine && mine.wish.do === 'prompt' && !mine.dropped) pop_gesture(mine.wish.object);
        }
    } finally {
        if (mine) end(said.turn);
    }
    if (fresh && (said.refused || said.told)) note(said.refused || said.told, Boolean(said.refused));
    if (!mine || !mine.changed || said.saved) return;
    if (said.refused) return not_taken(mine.key, mine.versions.get(said.turn));
    trouble++;
    rest(Math.min(LONGEST, PAUSE * 2 ** trouble));
};
const end = answered => {
    for (const [one, version] of flight.versions) if (one !== answered) given_up.set(one, {key: flight.key, version});
    flight = null;
};
// What an answer says about saving holds for the mask it brings; what the hand kept beside that is not saved yet.
const replace = ({mask, saved}, mine) => {
    take(mask, mine && ['scribble', 'prompt'].includes(mine.wish.do));
    if (saved && pack(MASK) === mask) sheet.acked = sheet.version;
    stain(whole());
};
const begin = async said => {
    const codes = await decoded(said.sheet), before = sheet;
    if (sheet && sheet.key === said.sheet.key && sheet.width === said.sheet.width && sheet.height === said.sheet.height) {
        const {aspect} = sheet;
        renew(said.sheet, codes, changed() || Boolean(stroke) || said.turn < newest);  // or it was made before what was saved since
        state = said.state;
        return opened(aspect === sheet.aspect);
    }
    end_stroke(true);
    if (sheet && changed() && !refused()) owed.push({key: sheet.key, version: sheet.version, mask: pack(MASK)});
    if (sheet) leave();
    kept = '';
    queue = queue.filter(wish => wish.do === 'go');
    enter(said.sheet, codes);
    state = said.state;
    open_polygon = [];
    object = dragging = null;
    note('');
    opened(before && before.width === sheet.width && before.height === sheet.height && before.aspect === sheet.aspect);
};
const opened = same_size => {
    sheet.reset = sheet.window;
    root.classList.add('open');
    text('title', sheet.title);
    spread(same_size);
};
// What is not saved outlasts a reload of this tab, as gradio's when the app was started again; then it is sent when the first sheet is there.
const regain = () => {
    try {
        const left = JSON.parse(sessionStorage.getItem(LEFT) || '[]');
        sessionStorage.removeItem(LEFT);
        owed.push(...left.map(({key, mask}) => ({key, mask, version: 0})));
    } catch (error) { console.error(error); }
};
window.addEventListener('pagehide', () => {
    if (!element.isConnected) return;
    const here = changed() ? [{key: sheet.key, mask: pack(MASK)}] : [];
    try { sessionStorage.setItem(LEFT, JSON.stringify([...owed.map(({key, mask}) => ({key, mask})), ...here])); } catch (error) { console.error(error); }
});
window.addEventListener('pageshow', () => sessionStorage.removeItem(LEFT));
regain();
window.addEventListener('beforeunload', event => {
    if (!element.isConnected || !unsaved()) return;
    event.preventDefault();
    setTimeout(() => { stayed = true; status(); }, 500);  // gradio sends nothing any more from a page that it wanted to load again
});
document.addEventListener('visibilitychange', () => { if (document.hidden && changed() && !flight) ask('save'); });
