// What is seen of the slice: window, zoom and pan, the layers, outlines, the brush's ring, and the numbers beneath.
const root = element.querySelector('.annotate');
const part = name => root.querySelector(`[data-part="${name}"]`);
const stage = part('stage'), screen = part('screen').getContext('2d'), above = part('above').getContext('2d');
const TILE = 128, SHARP = 3;  // pixels of a tile of outlines; from this enlargement on, pixels are seen as squares
const show = {exact: false, opacity: .45, hidden: false, outline: false, proposal: true, truth: true, readers: true};
const viewport = {scale: 1, left: 0, top: 0, fitted: true};
const layers = {};  // canvases of the image's own size: grey, ink, strokes
let edge_tiles = new Map(), frame_request = 0, pointer = null, open_polygon = [];

const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const text = (name, words) => { const one = part(name); if (one.textContent !== words) one.textContent = words; };
const colour = (name, fallback) => getComputedStyle(root).getPropertyValue(name).trim() || fallback;
const rgba = (name, fallback = '#e69f00') => {
    const dot = document.createElement('canvas').getContext('2d');
    dot.fillStyle = colour(name, fallback);
    dot.fillRect(0, 0, 1, 1);
    return new Uint32Array(dot.getImageData(0, 0, 1, 1).data.buffer)[0];
};
const ink_of = {mask: rgba('--machine'), lesion: rgba('--scribble-lesion'), ground: rgba('--scribble-ground'), gap: rgba('--scribble-gap')};
const new_layer = () => {
    const made = document.createElement('canvas');
    [made.width, made.height] = [slice_view.width, slice_view.height];
    return made.getContext('2d');
};
const strips = (box, most) => Array.from({length: Math.ceil(box.h / most)}, (_, i) => ({...box, y: box.y + i * most, h: Math.min(most, box.h - i * most)}));

// The 16-bit values of the picture that was sent.
const decode_picture = async ({picture, width, height}) => {
    const image = new Image(), codes = new Uint16Array(width * height);
    image.src = picture;
    await image.decode();
    if (image.naturalWidth !== width || image.naturalHeight !== height) throw Error('the picture has another size');
    const rows = Math.min(height, 512), board = document.createElement('canvas');
    [board.width, board.height] = [width, rows];
    const ink = board.getContext('2d', {willReadFrequently: true});
    for (let y = 0; y < height; y += rows) {
        const h = Math.min(rows, height - y);
        ink.drawImage(image, 0, y, width, h, 0, 0, width, h);
        const {data} = ink.getImageData(0, 0, width, h);
        for (let k = 0; k < width * h; k++) codes[y * width + k] = data[4 * k] << 8 | data[4 * k + 1];
    }
    return codes;
};
const value_of = code => slice_view.low + code / 65535 * (slice_view.high - slice_view.low);
const format_value = value => Math.abs(slice_view.high - slice_view.low) >= 20 ? value.toFixed(0) : value.toPrecision(3);
const apply_window = () => {
    const {codes, width, window: [black, white]} = slice_view, grey = new Uint32Array(65536);
    for (let code = 0; code < 65536; code++) grey[code] = 0xff000000 | 0x010101 * Math.round(255 * clamp((value_of(code) - black) / (white - black || 1e-9), 0, 1));
    for (const strip of strips(whole(), 256)) {
        const data = new ImageData(width, strip.h), out = new Uint32Array(data.data.buffer), from = strip.y * width;
        for (let k = 0; k < out.length; k++) out[k] = grey[codes[from + k]];
        layers.grey.putImageData(data, 0, strip.y);
    }
    const unit = slice_view.unit && ' ' + slice_view.unit;
    text('window', `level ${format_value((black + white) / 2)}, width ${format_value(white - black)}${unit}`);
    part('presets').hidden = unit !== ' HU';
    const preset = `${(black + white) / 2} ${white - black}`, choices = root.querySelector('[data-set=preset]');
    choices.value = [...choices.options].some(option => option.value === preset) ? preset : '';
    root.classList.toggle('as-it-came', !unit && slice_view.window === slice_view.reset);
    redraw();
};
// Bring the layers up to date where the pixels changed. Strokes on background are striped, so that no one needs the colours.
const repaint = box => {
    if (!box) return;
    const {px, width} = slice_view;
    for (const strip of strips(box, 512)) {
        const mask = new ImageData(strip.w, strip.h), marks = new ImageData(strip.w, strip.h);
        const on = new Uint32Array(mask.data.buffer), lines = new Uint32Array(marks.data.buffer);
        for (let y = 0, k = 0; y < strip.h; y++) for (let x = 0, at = (strip.y + y) * width + strip.x; x < strip.w; x++, k++, at++) {
            const bits = px[at];
            if (bits & MASK) on[k] = inks[label_of(bits)] ?? ink_of.mask;
            if (bits & LESION) lines[k] = ink_of.lesion;
            if (bits & GROUND) lines[k] = (strip.x + x + strip.y + y) % 6 < 4 ? ink_of.ground : ink_of.gap;
        }
        layers.ink.putImageData(mask, strip.x, strip.y);
        layers.strokes.putImageData(marks, strip.x, strip.y);
    }
    const last = n => Math.floor(Math.max(0, n) / TILE);
    for (let y = last(box.y - 1); y <= last(box.y + box.h); y++) for (let x = last(box.x - 1); x <= last(box.x + box.w); x++) edge_tiles.delete(y * 4096 + x);
    redraw();
};

// The borders of the structures within one tile, in pixels: pairs of label and path.
const edge_paths = (column, row) => {
    const {px, width} = slice_view, tile = clip_box(column * TILE - 1, row * TILE - 1, (column + 1) * TILE, (row + 1) * TILE), labels = new Set();
    for (let y = tile.y; y < tile.y + tile.h; y++) for (let x = tile.x; x < tile.x + tile.w; x++) labels.add(label_of(px[y * width + x]));
    labels.delete(0);
    return [...labels].map(label => [label, edge_path(column, row, label)]).filter(([, path]) => path);
};
const edge_path = (column, row, label) => {
    const {px, width, height} = slice_view, path = new Path2D(), on = (x, y) => inside(x, y) && label_of(px[y * width + x]) === label;
    const x0 = column * TILE, y0 = row * TILE, x1 = Math.min(width, x0 + TILE), y1 = Math.min(height, y0 + TILE);
    let any = false;
    const line = (fixed, from, to, upright) => {
        for (let i = from, start = -1; i <= to; i++) {
            const edge = i < to && (upright ? on(fixed - 1, i) !== on(fixed, i) : on(i, fixed - 1) !== on(i, fixed));
            if (edge && start < 0) start = i;
            if (edge || start < 0) continue;
            upright ? path.moveTo(fixed, start) : path.moveTo(start, fixed);
            upright ? path.lineTo(fixed, i) : path.lineTo(i, fixed);
            start = -1;
            any = true;
        }
    };
    for (let y = y0; y < (y1 === height ? y1 + 1 : y1); y++) line(y, x0, x1, false);
    for (let x = x0; x < (x1 === width ? x1 + 1 : x1); x++) line(x, y0, y1, true);
    return any ? path : null;
};
// The borders of all structures of a label map.
const trace_labels = labels => {
    const path = new Path2D();
    for (const label of new Set(labels)) if (label) path.addPath(trace_outline(labels.map(one => (one === label ? 1 : 0))));
    return path;
};
// The border of a mask as closed lines, so that it can be dashed: walk along the edges with the mask on the right.
const trace_outline = mask => {
    const {width, height} = slice_view, path = new Path2D(), wide = width + 1, ways = new Map(), on = (x, y) => inside(x, y) && mask[y * width + x];
    const add = (x, y, way) => { const k = y * wide + x; ways.set(k, (ways.get(k) || 0) | 1 << way); };  // 0 right, 1 down, 2 left, 3 up
    for (let y = 0; y < height; y++) for (let x = 0; x < width; x++) if (mask[y * width + x]) {
        if (!on(x, y - 1)) add(x, y, 0);
        if (!on(x + 1, y)) add(x + 1, y, 1);
        if (!on(x, y + 1)) add(x + 1, y + 1, 2);
        if (!on(x - 1, y)) add(x, y + 1, 3);
    }
    for (const first of ways.keys()) while (ways.get(first)) {
        let k = first, way = -1;
        while (ways.get(k)) {
            const there = ways.get(k), next = way < 0 ? [0, 1, 2, 3].find(w => there >> w & 1) : [1, 0, 3].map(request_id => (way + request_id) % 4).find(w => there >> w & 1);
            if (way < 0) path.moveTo(k % wide, Math.floor(k / wide));
            else if (next !== way) path.lineTo(k % wide, Math.floor(k / wide));
            ways.set(k, there & ~(1 << next));
            way = next;
            k += [1, wide, -1, -wide][way];
        }
        path.closePath();
    }
    return path;
};

// From places on the screen to places on the slice (0 is the left edge of the first pixel), and back.
const across = () => viewport.scale, down = () => viewport.scale * slice_view.aspect;
const at = event => {
    const box = stage.getBoundingClientRect();
    return {x: (event.clientX - box.left - viewport.left) / across(), y: (event.clientY - box.top - viewport.top) / down()};
};
const on_screen = ({x, y}) => ({x: viewport.left + x * across(), y: viewport.top + y * down()});
const fit_scale = () => Math.min(stage.clientWidth / slice_view.width, stage.clientHeight / (slice_view.height * slice_view.aspect)) * .97;
const fit = () => {
    if (!slice_view || !stage.clientWidth) return;
    viewport.scale = fit_scale();
    viewport.left = (stage.clientWidth - slice_view.width * across()) / 2;
    viewport.top = (stage.clientHeight - slice_view.height * down()) / 2;
    viewport.fitted = true;
    redraw();
};
const pan = (x, y) => {
    viewport.left = clamp(viewport.left + x, 60 - slice_view.width * across(), stage.clientWidth - 60);
    viewport.top = clamp(viewport.top + y, 60 - slice_view.height * down(), stage.clientHeight - 60);
    viewport.fitted = false;
    redraw();
};
const zoom = (factor, x = stage.clientWidth / 2, y = stage.clientHeight / 2) => {
    const scale = clamp(viewport.scale * factor, Math.min(fit_scale() / 2, 1), Math.max(64, fit_scale())), by = scale / viewport.scale;
    viewport.scale = scale;
    pan((x - viewport.left) * (1 - by), (y - viewport.top) * (1 - by));
};

// Colours of the readers' outlines, told apart by the colour-blind too and from the own mask and the truth.
const READER_COLOURS = ['#00c896', '#e889c4', '#f0e442', '#7aa6ff', '#ff7f50', '#c8c8c8'];
const reader_colour = i => READER_COLOURS[i % READER_COLOURS.length];
const redraw = () => { frame_request ||= requestAnimationFrame(draw); };
const stroke_path = (ink, path, place, style, width, dash = []) => {
    const line = new Path2D();
    line.addPath(path, place);
    ink.setLineDash(dash);
    ink.lineWidth = width;
    ink.strokeStyle = style;
    ink.stroke(line);
};
const draw = () => {
    frame_request = 0;
    const wide = stage.clientWidth, high = stage.clientHeight, dots = window.devicePixelRatio || 1;
    for (const {canvas} of [screen, above]) if (canvas.width !== Math.round(wide * dots) || canvas.height !== Math.round(high * dots)) {
        [canvas.width, canvas.height] = [Math.round(wide * dots), Math.round(high * dots)];
    }
    screen.setTransform(dots, 0, 0, dots, 0, 0);
    screen.clearRect(0, 0, wide, high);
    if (!slice_view || !layers.grey) return;
    stage.dataset.view = JSON.stringify(viewport);
    const seen = clip_box(-viewport.left / across() - 1, -viewport.top / down() - 1, (wide - viewport.left) / across() + 1, (high - viewport.top) / down() + 1);
    if (seen) {
        const paste = (new_layer, sharp) => {
            screen.imageSmoothingEnabled = viewport.scale * dots < sharp;
            screen.imageSmoothingQuality = show.exact ? 'medium' : 'high';
            const {x, y} = on_screen(seen);
            screen.drawImage(new_layer.canvas, seen.x, seen.y, seen.w, seen.h, x, y, seen.w * across(), seen.h * down());
        };
        paste(layers.grey, show.exact ? SHARP : Infinity);
        const place = new DOMMatrix([across(), 0, 0, down(), viewport.left, viewport.top]);
        if (!show.hidden) {
            screen.globalAlpha = show.opacity;
            if (!show.outline) paste(layers.ink, 1);
            screen.globalAlpha = 1;
            const lines = new Map();
            for (let row = Math.floor(seen.y / TILE); row <= (seen.y + seen.h - 1) / TILE; row++) for (let column = Math.floor(seen.x / TILE); column <= (seen.x + seen.w - 1) / TILE; column++) {
                const k = row * 4096 + column;
                if (!edge_tiles.has(k)) edge_tiles.set(k, edge_paths(column, row));
                for (const [label, path] of edge_tiles.get(k)) { if (!lines.has(label)) lines.set(label, new Path2D()); lines.get(label).addPath(path); }
            }
            for (const [label, path] of lines) stroke_path(screen, path, place, structure_colour(label), show.outline ? 2 : 1.3);
        }
        if (!show.hidden && show.truth && slice_view.truth) stroke_path(screen, slice_view.truth_path ||= trace_labels(slice_view.truth), place, colour('--truth', '#56b4e9'), 1.8);
        if (!show.hidden && show.readers) slice_view.readers.forEach((reader, i) => {
            const path = reader.path ||= trace_labels(reader.mask);
            stroke_path(screen, path, place, '#0b1418aa', 3.6);
            stroke_path(screen, path, place, reader_colour(i), 2);
        });
        if (!show.hidden && show.proposal && slice_view.proposal) {
            const path = slice_view.proposal_path ||= trace_labels(slice_view.proposal);
            stroke_path(screen, path, place, '#0b1418aa', 2.6);
            stroke_path(screen, path, place, '#fff', 1.4, [6, 5]);
        }
        if (!show.hidden) paste(layers.strokes, 1);
    }
    hover();
    update_numbers();
};
// The brush's ring, or the polygon that is being drawn.
const hover = () => {
    const dots = window.devicePixelRatio || 1, wide = stage.clientWidth, high = stage.clientHeight;
    above.setTransform(dots, 0, 0, dots, 0, 0);
    above.clearRect(0, 0, wide, high);
    if (!slice_view) return;
    draw_prompt(above);
    if (open_polygon.length) {
        const corners = open_polygon.map(on_screen), path = new Path2D();
        corners.forEach(({x, y}, i) => i ? path.lineTo(x, y) : path.moveTo(x, y));
        if (pointer) { const {x, y} = on_screen(pointer); path.lineTo(x, y); }
        stroke_path(above, path, new DOMMatrix(), '#0b1418', 3.4);
        stroke_path(above, path, new DOMMatrix(), tool.minus ? colour('--scribble-ground') : '#fff', 1.6, tool.minus ? [6, 4] : []);
        corners.forEach(({x, y}, i) => {
            above.setLineDash([]);
            above.beginPath();
            above.arc(x, y, i ? 3.2 : 6, 0, 7);
            above.fillStyle = i ? '#fff' : colour('--machine', '#e69f00');
            above.fill();
            above.stroke();
        });
    }
    if (!pointer || !pointer.ring || locked()) return;
    const ring = new Path2D(), {x, y} = on_screen(pointer);
    if (tool.size > 1) ring.arc(x, y, tool.size / 2 * viewport.scale, 0, 7);
    else { const k = on_screen({x: Math.floor(pointer.x), y: Math.floor(pointer.y)}); ring.rect(k.x, k.y, across(), down()); }
    const style = {brush: '#fff', eraser: '#fff', lesion: colour('--scribble-lesion'), background: colour('--scribble-ground')}[tool.name];
    stroke_path(above, ring, new DOMMatrix(), '#000a', 3);
    stroke_path(above, ring, new DOMMatrix(), style, 1.4, tool.name === 'eraser' || tool.name === 'background' ? [4, 3] : []);
};
const group_digits = n => String(n).replace(/\B(?=(\d{3})+$)/g, '\u202f');
// The area in mm\u00b2 and the volume of all slices in ml, where the spacing is known.
const in_millimetres = area => {
    if (slice_view.pixel_mm2 === null) return '';
    const volume = (area + elsewhere()) * slice_view.voxel_mm3 / 1000;
    return ` \u00b7 ${short_number(area * slice_view.pixel_mm2)} mm\u00b2${state.slices > 1 ? ` \u00b7 ${short_number(volume)} ml` : ''}`;
};
const short_number = value => value >= 100 ? group_digits(Math.round(value)) : String(Number(value.toPrecision(3)));
const update_numbers = () => {
    const {added, removed, proposal, width, height, codes} = slice_view, area = slice_view.areas[structure];
    text('area', `${group_digits(area)} px ${has_several() ? chosen_structure().name : 'drawn'}${in_millimetres(area)}`);
    root.style.setProperty('--structure', structure_colour(structure));
    text('change', proposal ? `+${group_digits(added)} \u2212${group_digits(removed)} against the proposal` : '');
    text('zoom', `${viewport.scale < .1 ? (100 * viewport.scale).toFixed(1) : Math.round(100 * viewport.scale)}%`);
    const x = pointer ? Math.floor(pointer.x) : -1, y = pointer ? Math.floor(pointer.y) : -1;
    text('under', inside(x, y) ? `x ${x}, y ${y}: ${format_value(value_of(codes[y * width + x]))}${slice_view.unit && ' ' + slice_view.unit}` : `${width} \u00d7 ${height} px`);
    const words = `${slice_view.title}, ${width} by ${height} pixels. The mask that is drawn has ${area} pixels${has_several() ? ` of ${chosen_structure().name}` : ''}.`;
    if (stage.getAttribute('aria-label') !== words) stage.setAttribute('aria-label', words);
};
// Everything anew for a slice that has just been entered.
const rebuild_layers = same_size => {
    for (const name of ['grey', 'ink', 'strokes']) layers[name] = new_layer();
    edge_tiles = new Map();
    if (!same_size || viewport.fitted) fit();
    apply_window();
    repaint(whole());
};
new ResizeObserver(() => { viewport.fitted ? fit() : redraw(); }).observe(stage);
// The slice takes what height the window leaves beside what stands above and below it; on small screens the style says.
const fit_height = () => {
    if (!root.clientWidth) return;
    root.classList.toggle('narrow', root.clientWidth < 800);
    const {top, bottom} = stage.getBoundingClientRect(), schedule_save = top + window.scrollY + root.getBoundingClientRect().bottom - bottom;
    root.style.setProperty('--high', `${Math.floor(clamp(window.innerHeight - schedule_save - 14, 360, 1400))}px`);
};
new ResizeObserver(fit_height).observe(root);
window.addEventListener('resize', fit_height);
