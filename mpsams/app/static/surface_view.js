// The surface of the lesion in the body, turned by drag and keys, and the list of what is shown.
const surface_canvas = section.querySelector('.surface canvas'), far_board = document.createElement('canvas');
const OBLIQUE = [-.6, .3], TURNS = {front: [0, 0], left: [-Math.PI / 2, 0], above: [0, Math.PI / 2], oblique: OBLIQUE};
const EDGES = [0, 1, 2].flatMap(axis => [[0, 0], [0, 1], [1, 0], [1, 1]].map(([u, v]) => [0, 1].map(end => {
    const corner = [0, 0, 0];
    [corner[axis], corner[(axis + 1) % 3], corner[(axis + 2) % 3]] = [end, u, v];
    return corner;
})));
const MOST_ACROSS = 1400;  // pixels of a row that are painted
let turn = OBLIQUE, closeness = 1, turned_by = null, painted = '';

const shown_surfaces = () => {
    const found = (outlines ? [...outlined(), layer('body')] : []).filter(one => one.is_shown && one.extent);
    return found.map((one, i) => ({...one.surface, rgb: parse_colour(one.colour), look: one.kind === 'body' ? 'shell' : i ? 'clear' : 'solid'}));
};
const eye_for = (wide, high) => {
    const sides = shape().map((count, axis) => count * about.mm[axis]), body = layer('body'), lesion = lesion_of();
    const [across, along, up] = body && body.extent ? body.mm.map((length, axis) => length * (body.extent.high[axis] + 1 - body.extent.low[axis])) : sides;
    const widest = Math.hypot(across, along), highest = up * Math.cos(OBLIQUE[1]) + widest * Math.sin(OBLIQUE[1]);
    const middle = closeness > 1.5 && lesion ? place_mm(lesion.extent.middle) : frame_named('body').middle;
    return {matrix: view_matrix(...turn), middle, scale: closeness * Math.min(wide / widest / 1.1, high / highest / 1.15), wide, high, sides};
};
const draw_surface = () => {
    const {wide, high, ratio, ink} = fit_canvas(surface_canvas);
    if (!wide) return;
    const eye = eye_for(wide, high), surfaces = shown_surfaces();
    const key = JSON.stringify([turn, closeness, wide, high, surfaces.map(one => one.rgb), outlines && outlines.key, Boolean(turned_by)]);
    if (surface_canvas.dataset.drawn === `${key} ${view.at}`) return;
    ink.clearRect(0, 0, wide, high);
    Object.assign(ink, {strokeStyle: '#ffffff38', lineWidth: ratio});
    ink.beginPath();
    for (const ends of EDGES) ends.forEach((corner, i) => ink[i ? 'lineTo' : 'moveTo'](...project(eye, corner.map((end, axis) => end * eye.sides[axis]))));
    ink.stroke();
    ink.strokeStyle = '#ffffff60';
    ink.beginPath();
    for (let axis = 0; axis < 3; axis++) for (const end of [0, 1]) {
        const place = place_mm(view.at);
        place[axis] = end * eye.sides[axis];
        ink[end ? 'lineTo' : 'moveTo'](...project(eye, place));
    }
    ink.stroke();
    const finer = Math.min(turned_by ? 1 / ratio : 2 / ratio, MOST_ACROSS / wide), [across, down] = [Math.round(wide * finer), Math.round(high * finer)];
    if (painted !== key) {  // a cross-hair that moves needs no other picture of the surfaces
        Object.assign(far_board, {width: across, height: down});
        far_board.getContext('2d').putImageData(new ImageData(paint_surfaces(surfaces, {...eye, wide: across, high: down, scale: eye.scale * finer}), across, down), 0, 0);
        painted = key;
    }
    Object.assign(ink, {imageSmoothingEnabled: true, imageSmoothingQuality: 'high'});
    ink.drawImage(far_board, 0, 0, wide, high);
    draw_letters(ink, eye, ratio);
    surface_canvas.dataset.drawn = `${key} ${view.at}`;
    surface_canvas.setAttribute('aria-label', `Surface of ${surfaces.length ? describe_layers() : 'nothing'}; turned by ${degrees(turn[0])}°, tilted by ${degrees(turn[1])}°`);
};
const degrees = angle => Math.round(angle * 180 / Math.PI);
const draw_letters = (ink, eye, ratio) => {
    const {axial, coronal} = about.letters, letters = [axial.slice(0, 2), axial.slice(2), [coronal[3], coronal[2]]];  // at the ends of the three axes
    Object.assign(ink, {font: `600 ${13 * ratio}px ui-sans-serif, system-ui, sans-serif`, fillStyle: '#fff', textAlign: 'center', textBaseline: 'middle', shadowColor: '#000', shadowBlur: 3 * ratio});
    letters.forEach((pair, axis) => pair.forEach((letter, end) => {
        const place = eye.sides.map(side => side / 2), away = 12 * ratio / eye.scale;
        place[axis] = end ? eye.sides[axis] + away : -away;
        ink.fillText(letter, ...project(eye, place).slice(0, 2));
    }));
    ink.shadowBlur = 0;
};

// --- what is shown

const describe_layers = () => outlines.layers.filter(one => one.is_shown && one.extent).map(one => one.title.toLowerCase() + (one.ml === null ? '' : ` (${millilitre_text(one.ml)})`)).join(', ');
const millilitre_text = ml => `${ml >= 100 ? ml.toFixed(0) : ml >= 10 ? ml.toFixed(1) : ml.toFixed(2)} ml`;
const list_layers = () => {
    const layers = outlines ? [...outlined(), layer('body')] : [];
    part('layers').replaceChildren(...layers.map(one => {
        const line = document.createElement('label'), box = Object.assign(document.createElement('input'), {type: 'checkbox', checked: one.is_shown});
        box.dataset.layer = one.kind;
        const swatch = document.createElement('i'), title = document.createElement('span'), ml = document.createElement('b');
        swatch.style.background = one.colour;
        title.textContent = one.title;
        ml.textContent = one.ml === null ? '' : one.extent ? millilitre_text(one.ml) : 'nothing';
        line.append(box, swatch, title, ml);
        return line;
    }));
    part('missing').hidden = !outlines || layers.length > 1;
};
part('layers').addEventListener('change', event => {
    layer(event.target.dataset.layer).is_shown = event.target.checked;
    redraw();
});

// --- how it is turned

const turn_to = (around, tilt) => { turn = [around, limit(tilt, -Math.PI / 2, Math.PI / 2)]; redraw(); };
const come_closer = factor => { closeness = limit(closeness * factor, .5, 12); redraw(); };
surface_canvas.addEventListener('pointerdown', event => {
    if (!view || event.button !== 0 || turned_by) return;
    turned_by = {id: event.pointerId, x: event.clientX, y: event.clientY, turn};
    surface_canvas.setPointerCapture(event.pointerId);
});
surface_canvas.addEventListener('pointermove', event => {
    if (!turned_by || turned_by.id !== event.pointerId) return;
    turn_to(turned_by.turn[0] - (event.clientX - turned_by.x) / 140, turned_by.turn[1] + (event.clientY - turned_by.y) / 140);
});
for (const name of ['pointerup', 'pointercancel']) surface_canvas.addEventListener(name, event => {
    if (turned_by && turned_by.id === event.pointerId) turned_by = null;
    redraw();
});
surface_canvas.addEventListener('keydown', event => {
    const [around, tilt] = turn, step = Math.PI / 12;
    const actions = {
        ArrowLeft: () => turn_to(around + step, tilt), ArrowRight: () => turn_to(around - step, tilt), ArrowUp: () => turn_to(around, tilt - step), ArrowDown: () => turn_to(around, tilt + step),
        '+': () => come_closer(1.25), '=': () => come_closer(1.25), '-': () => come_closer(.8), 0: () => { closeness = 1; turn_to(...OBLIQUE); },
    };
    if (!view || !actions[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    actions[event.key]();
    event.preventDefault();
});
