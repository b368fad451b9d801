// The exchange with the server: one command at a time, autosave, repeated attempts, and what the page says about saving.
const LEAVING = ['go', 'accept', 'skip', 'open', 'previous', 'reopen_last'], PAUSE = 700, LONGEST = 15000, IDLE = 30000, LEFT = 'mpsams-not-saved';
const inbox = [], unsent = [];  // replies not yet read; masks of slices that were left before they were acknowledged
const abandoned = new Map();  // attempts that got no reply although their command did: request id -> key and version
let queue = [], in_flight = null, request_id = 0, state = {status: '', slice: 0, slices: 1, queue_left: 0, proposal: false, user: '', prompts: false, can_reopen_last: false, voxels_elsewhere: 0, slices_to_undo: 0, propagating: false, structures: [], can_define: false, free_keys: ''};
let save_timer = 0, applying = false, failures = 0, saved_words = '', worked_ms = 0, active_at = 0, last_saved_id = 0, reload_cancelled = false;  // last_saved_id: request id whose mask was saved last

const locked = () => !slice_view || ['accepted', 'skipped'].includes(state.status) || leaving();
const leaving = () => Boolean(in_flight && !in_flight.timed_out && LEAVING.includes(in_flight.command.action));
const changed = () => Boolean(slice_view) && slice_view.version !== slice_view.saved_version;
const unsaved = () => changed() || unsent.length > 0;
// What the server refused to save is sent again only once it has changed.
const rejected = () => changed() && slice_view.rejected_version === slice_view.version;
const has_pending = () => changed() && !rejected() || unsent.length > 0;
const clock = () => new Date().toTimeString().slice(0, 8);
// Time counts while something is done; pauses over half a minute do not.
const count_time = () => {
    const now = performance.now();
    if (now - active_at < IDLE) worked_ms += now - active_at;
    active_at = now;
};

// An object is followed through the volume some slices at a time, until Stop, Escape or another command.
let following = false;
const follow = () => { request('propagate_all'); following = true; controls(); };
const stop_following = () => {
    if (!following) return false;
    following = false;
    queue = queue.filter(command => command.action !== 'propagate_all');
    controls();
    return true;
};
const request = (action, params = {}) => {
    if (!slice_view) return;
    if (!['save', 'go', 'propagate_all'].includes(action)) stop_following();
    const last = queue.at(-1);
    if (action === 'go' && 'step' in params) {
        const from = last && last.action === 'go' ? last.slice : in_flight && in_flight.command.action === 'go' ? in_flight.command.slice : state.slice;
        const slice = clamp(from + params.step, 0, state.slices - 1);
        if (slice === from) return;
        params = {slice};
    } else if (leaving() || queue.some(command => LEAVING.includes(command.action))) return;
    queue = queue.filter(command => command.action !== action && command.action !== 'save');
    queue.push({structure, action, ...params});
    send();
};
const send = () => {
    if (in_flight || !slice_view || applying) return status();
    if (unsent.length && !save_timer) return start_command({action: 'save', ...unsent[0]});
    const command = queue.shift() || (following && state.propagating ? {action: 'propagate_all', resume: true} : null);
    if (command) start_command(command);
    else if (has_pending() && !save_timer) schedule_save();
    status();
};
const start_command = command => {
    clearTimeout(save_timer);
    save_timer = 0;
    command.structure ??= command.object?.structure ?? structure;
    in_flight = {id: new_command_id(), command, key: command.key || slice_view.key, versions: new Map(), first: request_id + 1, seconds: 0, attempts: 0};
    send_attempt();
};
const new_command_id = () => Array.from(crypto.getRandomValues(new Uint32Array(4)), part => part.toString(16).padStart(8, '0')).join('');
// Each attempt has a request id of its own and the newest mask; by the id the server knows that it is the same command.
const send_attempt = () => {
    const here = in_flight.key === slice_view.key, {action, ...params} = in_flight.command;
    if (!here && !params.mask) { finish_command(0); return send(); }
    in_flight.seconds += worked_ms / 1000;
    worked_ms = 0;
    in_flight.timed_out = false;
    in_flight.changed = here ? changed() : true;
    in_flight.versions.set(++request_id, here ? slice_view.version : params.version);
    const command = {...params, action, id: in_flight.id, key: in_flight.key, request_id, mask: here ? pack_labels() : params.mask, changed: in_flight.changed, seconds: Math.round(in_flight.seconds * 10) / 10};
    delete command.version;
    delete command.step_of_undo;
    if (action === 'prompt') Object.assign(command, in_flight.prompt ||= prompt_parts(command.object), {object: undefined});
    if (action === 'scribble') Object.assign(command, Object.fromEntries([['lesion', LESION], ['background', GROUND]].map(([name, bit]) => [name, pack(bit | STROKE, stroke_of(bit, in_flight.command.structure))])));
    in_flight.timer = setTimeout(on_timeout, Number(root.dataset.answerTimeout));
    trigger('act', command);
    status();
};
const on_timeout = () => {
    const mine = in_flight;
    mine.timed_out = true;
    failures++;
    mine.timer = setTimeout(() => in_flight === mine && send_attempt(), Math.min(LONGEST, 1000 * 2 ** mine.attempts++));
    status();
};
const schedule_save = (pause = PAUSE) => {
    clearTimeout(save_timer);
    save_timer = setTimeout(() => { save_timer = 0; if (has_pending() && !in_flight) request('save'); }, pause);
};
// What is drawn has changed.
const on_drawn = () => {
    if (changed()) {
        slice_view.since ||= clock();
        schedule_save();
    }
    status();
    redraw();
};

const mark_saved = (key, version, where) => {
    clear_unsent(key, version);
    if (slice_view && slice_view.key === key) {
        slice_view.saved_version = Math.max(slice_view.saved_version, version);
        if (!changed()) slice_view.since = '';
    }
    saved_words = where === 'disk' ? `saved on disk ${clock()}` : 'kept in this tab';
};
const clear_unsent = (key, version) => {
    const position = unsent.findIndex(one => one.key === key && one.version <= version);
    if (position >= 0) unsent.splice(position, 1);
    failures = 0;
};
const mark_rejected = (key, version) => {
    clear_unsent(key, version);
    if (slice_view && slice_view.key === key) slice_view.rejected_version = version;
};
const status = () => {
    const is_rejected = rejected() && !unsent.length && !in_flight, is_retrying = failures && (unsaved() || in_flight);
    const since = slice_view && slice_view.since ? `: what was drawn since ${slice_view.since}` : '', away = reload_cancelled || Boolean(in_flight) && in_flight.attempts > 3;
    let words = saved_words || (slice_view ? 'no changes yet' : '');
    if (is_rejected) words = `not saved${since}`;
    else if (is_retrying && unsaved() && state.status && away) words = `not saved${since}. Reload the page (Ctrl+R): it is kept, and saved then`;
    else if (is_retrying) words = unsaved() ? 'not saved yet, trying again' : 'no answer yet, trying again';
    else if (unsaved()) words = 'saving\u2026';
    root.dataset.saved = is_rejected || is_retrying ? 'trouble' : unsaved() ? 'waiting' : saved_words && 'kept';
    text('saved', words);
    root.classList.toggle('busy', Boolean(in_flight && !['save', 'preview'].includes(in_flight.command.action)) || applying);
    controls();
};

const receive = reply => {
    inbox.push(reply);
    process_replies();
};
// Answers are read in the order they came, and never in the middle of a stroke.
const process_replies = async () => {
    if (applying || stroke) return;
    applying = true;
    try {
        while (inbox.length && !stroke) await apply_reply(inbox.shift());
    } catch (error) {
        console.error(error);
        note('The page could not read the last answer.', true);
    }
    applying = false;
    send();
};
const apply_reply = async words => {
    if (!words) return;
    const reply = JSON.parse(words), mine = in_flight && in_flight.versions.has(reply.request_id) ? in_flight : null, late = abandoned.get(reply.request_id), fresh = !late;
    abandoned.delete(reply.request_id);
    request_id = Math.max(request_id, reply.request_id);
    if (reply.saved && late) mark_saved(late.key, late.version, reply.saved);
    if (reply.saved && mine) mark_saved(mine.key, mine.versions.get(reply.request_id), reply.saved);
    if (reply.saved && (mine || late)) last_saved_id = Math.max(last_saved_id, reply.request_id);
    if (mine) clearTimeout(mine.timer);
    try {
        if (fresh && reply.slice_view) await open_slice(reply);
        else if (fresh && slice_view && reply.key === slice_view.key) {
            state = reply.state;
            // What is accepted is what was seen: a reply to scribbles comes too late then.
            if (reply.mask !== null && mine && mine.dropped) { slice_view.version++; on_drawn(); }
            else if (reply.mask !== null && !queue.some(command => command.action === 'accept')) apply_mask(reply, mine);
            show_preview(reply.preview);
            if (reply.error && mine && mine.command.action === 'prompt' && !mine.dropped) pop_gesture(mine.command.object);
        }
    } finally {
        if (mine) finish_command(reply.request_id);
    }
    const followed = mine && mine.command.action === 'propagate_all', stopped = followed && !following;
    if (fresh && (reply.error || reply.message)) note(stopped ? `Stopped. ${reply.message}`.replace(' Esc stops.', '') : reply.error || reply.message, Boolean(reply.error));
    if (followed && (reply.error || !state.propagating)) stop_following();
    if (stopped && state.propagating) request('save');  // what was found since the last time
    if (!mine || !mine.changed || reply.saved) return;
    if (reply.error) return mark_rejected(mine.key, mine.versions.get(reply.request_id));
    failures++;
    schedule_save(Math.min(LONGEST, PAUSE * 2 ** failures));
};
const finish_command = answered => {
    for (const [one, version] of in_flight.versions) if (one !== answered) abandoned.set(one, {key: in_flight.key, version});
    in_flight = null;
};
// What a reply says about saving holds for the mask it brings; what the hand kept beside that is not saved yet.
const apply_mask = ({mask, saved}, mine) => {
    replace_mask(mask, mine && (mine.command.action === 'scribble' ? mine.command.step_of_undo : mine.command.action === 'prompt'), mine ? mine.command.structure : structure);
    if (saved && pack_labels() === mask) slice_view.saved_version = slice_view.version;
    repaint(whole());
};
const open_slice = async reply => {
    const codes = await decode_picture(reply.slice_view), before = slice_view;
    if (slice_view && slice_view.key === reply.slice_view.key && slice_view.width === reply.slice_view.width && slice_view.height === reply.slice_view.height) {
        const {aspect} = slice_view;
        refresh_slice(reply.slice_view, codes, changed() || Boolean(stroke) || reply.request_id < last_saved_id);  // or it was made before what was saved since
        state = reply.state;
        return show_slice(aspect === slice_view.aspect);
    }
    end_stroke(true);
    if (slice_view && changed() && !rejected()) unsent.push({key: slice_view.key, version: slice_view.version, mask: pack_labels()});
    if (slice_view) store_slice();
    saved_words = '';
    queue = queue.filter(command => command.action === 'go');
    if (slice_view && image_of(slice_view) !== image_of(reply.slice_view)) stop_following();
    load_slice(reply.slice_view, codes);
    state = reply.state;
    open_polygon = [];
    object = dragging = null;
    note('');
    take_focus();
    if (state.status && (!before || image_of(before) !== image_of(slice_view))) fetch_ahead();
    show_slice(before && before.width === slice_view.width && before.height === slice_view.height && before.aspect === slice_view.aspect);
};
const image_of = ({key}) => key.split('.')[0];
// Once an image is there, the app prepares the next one, so that it comes at once.
const AHEAD = 300;  // milliseconds after an image was shown
let ahead_timer = 0;
const fetch_ahead = () => { clearTimeout(ahead_timer); ahead_timer = setTimeout(() => trigger('ahead', {}), AHEAD); };
// Keys are for the image once it is there, unless something else was chosen meanwhile.
const take_focus = () => {
    const now = document.activeElement, is_free = now === document.body || now.closest('#annotate-queue');
    if (is_free && root.checkVisibility() && !document.querySelector('dialog[open]')) stage.focus({preventScroll: true});
};
const show_slice = same_size => {
    slice_view.reset = slice_view.window;
    root.classList.add('open');
    text('title', slice_view.title);
    show_readers();
    rebuild_layers(same_size);
};
// What is not saved outlasts a reload of this tab, as gradio's when the app was started again; then it is sent when the first slice is there.
const restore_unsent = () => {
    try {
        const left = JSON.parse(sessionStorage.getItem(LEFT) || '[]');
        sessionStorage.removeItem(LEFT);
        unsent.push(...left.map(({key, mask}) => ({key, mask, version: 0})));
    } catch (error) { console.error(error); }
};
window.addEventListener('pagehide', () => {
    if (!element.isConnected) return;
    const here = changed() ? [{key: slice_view.key, mask: pack_labels()}] : [];
    try { sessionStorage.setItem(LEFT, JSON.stringify([...unsent.map(({key, mask}) => ({key, mask})), ...here])); } catch (error) { console.error(error); }
});
window.addEventListener('pageshow', () => sessionStorage.removeItem(LEFT));
restore_unsent();
window.addEventListener('beforeunload', event => {
    if (!element.isConnected || !unsaved()) return;
    event.preventDefault();
    setTimeout(() => { reload_cancelled = true; status(); }, 500);  // gradio sends nothing any more from a page that it wanted to load again
});
document.addEventListener('visibilitychange', () => { if (document.hidden && changed() && !in_flight) request('save'); });
