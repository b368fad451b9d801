// The three linked planes of a volume and the surface of what is outlined in it, drawn from voxels that are sent once.
const panel = element.closest('[role=tabpanel]') || document.body, section = element.querySelector('.planes');
const part = name => section.querySelector(`[data-part="${name}"]`);
const names = Object.keys(PLANES), figures = Object.fromEntries(names.map(name => [name, section.querySelector(`[data-plane=${name}]`)]));
const canvas_of = name => figures[name].querySelector('canvas');
let about = {}, stated = '', asked = '', volume = null, outlines = null, is_seen = false;
let view = null, window_now = null, squares = false, has_outlines = true, frame_request = 0;
const cuts = new Map();

const shape = () => about.shape;
const place_mm = voxel => middle_of(voxel).map((value, axis) => value * about.mm[axis]);
const layer = kind => outlines && outlines.layers.find(one => one.kind === kind);
const outlined = () => outlines.layers.filter(one => one.kind !== 'body');
const above = one => ['truth', 'network'].indexOf(one.kind);  // -1 for other structures, which lie below
const lesion_of = () => outlines && outlined().find(one => one.extent);
const largest_side = () => 2 * Math.max(...shape().map((count, axis) => count * about.mm[axis]));

// --- what is sent

const inflate = async text => {
    const packed = Uint8Array.from(atob(text), letter => letter.charCodeAt(0));
    return new Uint8Array(await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer());
};
const take_volume = async sent => {
    const codes = await inflate(sent.codes);
    if (!sent.key.startsWith(about.image) || codes.length !== shape().reduce((product, count) => product * count)) return;
    volume = {image: about.image, key: sent.key, window: sent.window, codes};
    cuts.clear();
    redraw();
};
const take_outlines = async sent => {
    for (const one of sent.layers) {
        one.mask = unpack_bits(await inflate(one.bits), one.shape.reduce((product, count) => product * count));
        one.mm = about.mm.map((length, axis) => length / about.step[axis] * one.step[axis]);
        one.extent = extent_of(one.mask, one.shape);
        one.surface = surface_of(one.mask, one.shape, one.mm);
        one.surface.normals = normals_of(one.surface);
        one.is_shown = !(outlines && outlines.layers.some(before => before.kind === one.kind && !before.is_shown));
    }
    if (sent.key !== about.outlines) return;
    const is_first = !outlines || outlines.image !== about.image;
    outlines = {image: about.image, key: sent.key, layers: sent.layers};
    cuts.clear();
    list_layers();
    if (is_first && !view.is_moved) start_view();
    redraw();
};
const ask = () => {  // again when another image, window, truth or network is on screen; only while the section is in sight
    if (!is_seen || !about.volume) return;
    const wanted = {volume: !volume || volume.key !== about.volume, outlines: !outlines || outlines.key !== about.outlines};
    const name = `${about.volume}|${about.outlines}`;
    if (asked === name || !wanted.volume && !wanted.outlines) return;
    asked = name;
    trigger('ask', wanted);
};
const read_about = () => {
    const source = panel.querySelector('[data-planes]');
    if (!source || source.dataset.planes === stated) return;
    stated = source.dataset.planes;
    const before = about;
    about = JSON.parse(stated);
    section.hidden = !about.volume && !about.sentence;
    part('pictures').hidden = !about.volume;
    [part('sentence').hidden, part('sentence').textContent] = [!about.sentence, about.sentence || ''];
    [part('note').hidden, part('note').textContent] = [!about.note, about.note || ''];
    if (!about.volume) return;
    window_now = null;
    if (about.image !== before.image) {
        [volume, outlines, view, asked] = [null, null, null, ''];
        cuts.clear();
        list_layers();
        start_view();
    } else if (String(about.page) !== String(before.page)) move_axis(...about.page);
    ask();
    redraw();
};

// --- where it is looked at

const whole_frame = () => frame_of([0, 0, 0], shape().map(count => count - 1), about.mm, 0);
const frame_named = name => {
    const found = name === 'lesion' ? lesion_of() : name === 'body' ? layer('body') : null;
    return found && found.extent ? frame_of(found.extent.low, found.extent.high, found.mm, name === 'lesion' ? 1.4 : .06) : whole_frame();
};
const start_view = () => {
    const at = shape().map(count => count >> 1), lesion = lesion_of();
    if (lesion) lesion.extent.middle.forEach((value, axis) => { at[axis] = value; });
    at[about.page[0]] = Math.min(about.page[1], shape()[about.page[0]] - 1);
    view = {at, frame: frame_named('body'), named: 'body'};
};
const set_frame = (frame, named = '') => { Object.assign(view, {frame, named}); redraw(); };
const move_to = at => {
    Object.assign(view, {at, frame: keep_in_frame(view.frame, place_mm(at)), is_moved: true});
    redraw();
};
const move_axis = (axis, index) => {
    if (!view) return;
    const at = [...view.at];
    at[axis] = limit(index, 0, shape()[axis] - 1);
    move_to(at);
};
const go_to = name => {
    const lesion = name === 'lesion' && lesion_of();
    if (lesion) view.at = [...lesion.extent.middle];
    set_frame(frame_named(name), name);
    if (name === 'body') move_to(view.at);
};
const zoom = (factor, place = place_mm(view.at)) => set_frame(zoom_frame(view.frame, factor, place, [8 * Math.min(...about.mm), largest_side()]));

// --- the planes

const fit_canvas = canvas => {
    const ratio = Math.min(devicePixelRatio || 1, 2), wide = Math.round(canvas.clientWidth * ratio), high = Math.round(canvas.clientHeight * ratio);
    if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, {width: wide, height: high});
    return {wide, high, ratio, ink: canvas.getContext('2d')};
};
// Of a plane: pixels of the screen to a millimetre, and where the volume's upper left corner lies on it.
const placed = (name, wide) => {
    const plane = PLANES[name], scale = wide / view.frame.side, [across, down] = [plane.across, plane.down];
    const middle = to_plane(plane, view.frame.middle.map((value, axis) => value / about.mm[axis]), shape());
    return {scale: [scale * about.mm[across], scale * about.mm[down]], left: wide / 2 - middle[0] * scale * about.mm[across], top: wide / 2 - middle[1] * scale * about.mm[down]};
};
const cut_of = (name, index) => {  // what was cut last of a plane
    const kept = cuts.get(name), plane = PLANES[name];
    if (kept && kept.index === index) return kept;
    const made = {index, codes: volume && cut_slice(volume.codes, shape(), plane, index), paths: []};
    for (const one of outlines ? outlined().sort((a, b) => above(a) - above(b)) : []) {
        const path = new Path2D(), lines = border_lines(cut_slice(one.mask, shape(), plane, index), shape()[plane.across], shape()[plane.down]);
        for (const [a, b, c, d] of lines) { path.moveTo(a, b); path.lineTo(c, d); }
        made.paths.push({path, layer: one});
    }
    cuts.set(name, made);
    return made;
};
const board = document.createElement('canvas');
const draw_plane = name => {
    const canvas = canvas_of(name), plane = PLANES[name], {wide, high, ratio, ink} = fit_canvas(canvas), count = shape()[plane.through];
    const number = view.at[plane.through] * about.step[plane.through] + 1, title = `slice ${number} of ${about.whole[plane.through]}`;
    figures[name].querySelector('[data-part=slice]').textContent = title;
    canvas.setAttribute('aria-label', `${figures[name].querySelector('h4').firstChild.textContent.trim()} plane, ${title}`);
    const range = figures[name].querySelector('input');
    Object.assign(range, {max: count, value: view.at[plane.through] + 1});
    range.setAttribute('aria-valuetext', title);
    figures[name].querySelectorAll('b').forEach((letter, i) => { letter.textContent = about.letters[name][i]; });
    if (!wide) return;
    ink.setTransform(1, 0, 0, 1, 0, 0);
    ink.clearRect(0, 0, wide, high);
    const {scale, left, top} = placed(name, wide), cut = cut_of(name, view.at[plane.through]), columns = shape()[plane.across], rows = shape()[plane.down];
    if (cut.codes) {
        Object.assign(board, {width: columns, height: rows});
        const greys = grey_table(volume.window, window_now || about.window), pixels = new ImageData(columns, rows), out = new Uint32Array(pixels.data.buffer);
        for (let k = 0; k < out.length; k++) out[k] = greys[cut.codes[k]];
        board.getContext('2d').putImageData(pixels, 0, 0);
        Object.assign(ink, {imageSmoothingEnabled: !squares, imageSmoothingQuality: 'high'});
        ink.drawImage(board, left, top, columns * scale[0], rows * scale[1]);
    }
    if (has_outlines) for (const {path, layer: one} of cut.paths) {
        if (!one.is_shown) continue;
        const on_screen = new Path2D();
        on_screen.addPath(path, new DOMMatrix([scale[0], 0, 0, scale[1], left, top]));
        Object.assign(ink, {strokeStyle: one.colour, lineWidth: 2 * ratio, lineCap: 'round'});
        ink.stroke(on_screen);
    }
    const [x, y] = to_plane(plane, middle_of(view.at), shape()).map((value, i) => Math.floor((i ? top : left) + value * scale[i]) + ratio % 2 / 2), gap = 12 * ratio;
    Object.assign(ink, {strokeStyle: '#ffffffb0', lineWidth: ratio, lineCap: 'butt'});
    ink.beginPath();
    for (const [from, to] of [[0, x - gap], [x + gap, wide]]) { ink.moveTo(from, y); ink.lineTo(to, y); }
    for (const [from, to] of [[0, y - gap], [y + gap, high]]) { ink.moveTo(x, from); ink.lineTo(x, to); }
    ink.stroke();
    draw_bar(canvas);
};
const draw_bar = canvas => {
    const light = canvas.parentElement, {mm, points} = scale_bar(view.frame.side / canvas.clientWidth, 80);
    let bar = light.querySelector('.scale-bar');
    if (!bar) light.append(bar = Object.assign(document.createElement('span'), {className: 'scale-bar'}));
    bar.style.width = `${points}px`;
    bar.textContent = length_text(mm);
};
const draw = () => {
    frame_request = 0;
    if (!about.volume || !view || section.hidden) return;
    names.forEach(draw_plane);
    const words = [position_text(millimetres_of(view.at, about.patient))];
    if (volume) words.unshift(code_text(volume.codes[offset_of(view.at, shape())], volume.window, about.unit));
    part('position').textContent = words.join(' · ');
    for (const button of section.querySelectorAll('[data-frame]')) {
        button.hidden = button.dataset.frame === 'lesion' && !lesion_of();
        button.setAttribute('aria-pressed', button.dataset.frame === view.named);
    }
    section.dataset.at = view.at;
    section.dataset.ready = Boolean(volume && outlines && volume.key === about.volume && outlines.key === about.outlines);
    draw_surface();
};
const redraw = () => { frame_request ||= requestAnimationFrame(draw); };
