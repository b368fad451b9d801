// The three planes of a volume without the page: which voxel a place in a picture is, what a slice shows, where an outline runs.
// Axes 0, 1, 2 of a voxel: column (to the patient's left), row (to the back), slice (to the head). Voxels lie in this order, columns first.
const PLANES = {
    axial: {across: 0, down: 1, through: 2, is_flipped: false},
    coronal: {across: 0, down: 2, through: 1, is_flipped: true},  // the head is up
    sagittal: {across: 1, down: 2, through: 0, is_flipped: true},
};
// From a place in the volume, in voxels from its corner, to one in a plane's picture, in pixels from its upper left corner; and back.
const to_plane = ({across, down, is_flipped}, place, shape) => [place[across], is_flipped ? shape[down] - place[down] : place[down]];
const to_place = ({across, down, is_flipped}, x, y, place, shape) => {
    const changed = [...place];
    changed[across] = x;
    changed[down] = is_flipped ? shape[down] - y : y;
    return changed;
};
const voxel_at = (place, shape) => place.map((value, axis) => limit(Math.floor(value), 0, shape[axis] - 1));
const middle_of = voxel => voxel.map(value => value + .5);
const offset_of = (voxel, shape) => (voxel[2] * shape[1] + voxel[1]) * shape[0] + voxel[0];
// The patient's millimetres, RAS, of a voxel's middle. patient: those of the first voxel, and the steps along the axes.
const millimetres_of = (voxel, [first, ...steps]) => first.map((value, i) => value + voxel.reduce((sum, index, axis) => sum + index * steps[axis][i], 0));
const position_text = millimetres => [['R', 'L'], ['A', 'P'], ['S', 'I']].map(([more, less], i) =>
    `${millimetres[i] < 0 ? less : more} ${Math.abs(millimetres[i]).toFixed(1)}`).join(' ') + ' mm';

// One slice of a volume, row after row as the picture shows it.
const cut_slice = (volume, shape, {across, down, through, is_flipped}, index) => {
    const strides = [1, shape[0], shape[0] * shape[1]], wide = shape[across], high = shape[down], out = new Uint8Array(wide * high);
    for (let y = 0, k = 0; y < high; y++) {
        let from = index * strides[through] + (is_flipped ? high - 1 - y : y) * strides[down];
        for (let x = 0; x < wide; x++, k++, from += strides[across]) out[k] = volume[from];
    }
    return out;
};
// The border of a mask's pixels as lines [x, y, x, y] between pixel corners, joined where they go straight on.
const border_lines = (mask, wide, high) => {
    const lines = [], at = (x, y) => x >= 0 && y >= 0 && x < wide && y < high && mask[y * wide + x] > 0;
    for (let y = 0; y <= high; y++) for (let x = 0, from = -1; x <= wide; x++) {
        const is_border = x < wide && at(x, y) !== at(x, y - 1);
        if (is_border && from < 0) from = x;
        if (!is_border && from >= 0) { lines.push([from, y, x, y]); from = -1; }
    }
    for (let x = 0; x <= wide; x++) for (let y = 0, from = -1; y <= high; y++) {
        const is_border = y < high && at(x, y) !== at(x - 1, y);
        if (is_border && from < 0) from = y;
        if (!is_border && from >= 0) { lines.push([x, from, x, y]); from = -1; }
    }
    return lines;
};
const unpack_bits = (bytes, count) => {
    const mask = new Uint8Array(count);
    for (let k = 0; k < count; k++) mask[k] = bytes[k >> 3] >> (k & 7) & 1;
    return mask;
};
// The voxels of a mask: first and last along each axis, and the one nearest to their mean; null of an empty mask.
const extent_of = (mask, shape) => {
    const low = [Infinity, Infinity, Infinity], high = [-1, -1, -1], sum = [0, 0, 0];
    let count = 0, nearest = null, least = Infinity;
    const each = visit => {
        for (let s = 0, k = 0; s < shape[2]; s++) for (let h = 0; h < shape[1]; h++) for (let w = 0; w < shape[0]; w++, k++) if (mask[k]) visit([w, h, s]);
    };
    each(voxel => {
        count++;
        for (let axis = 0; axis < 3; axis++) {
            sum[axis] += voxel[axis];
            low[axis] = Math.min(low[axis], voxel[axis]);
            high[axis] = Math.max(high[axis], voxel[axis]);
        }
    });
    if (!count) return null;
    each(voxel => {
        const far = voxel.reduce((total, value, axis) => total + (value - sum[axis] / count) ** 2, 0);
        if (far < least) { least = far; nearest = voxel; }
    });
    return {low, high, middle: nearest};
};
// The part that is seen, as its middle and the length of a side in millimetres, so that two corners lie within; margin: a share of the side.
const frame_of = (low, high, mm, margin) => {
    const sides = mm.map((length, axis) => (high[axis] + 1 - low[axis]) * length);
    return {middle: mm.map((length, axis) => (low[axis] + high[axis] + 1) / 2 * length), side: Math.max(...sides) * (1 + margin)};
};
// Enlarged by a factor around a place in mm that stays where it is.
const zoom_frame = ({middle, side}, factor, place, [smallest, largest]) => {
    const changed = limit(side / factor, smallest, largest), by = changed / side;
    return {middle: middle.map((value, axis) => place[axis] + (value - place[axis]) * by), side: changed};
};
// Moved as little as needed for a place in mm to be seen.
const keep_in_frame = ({middle, side}, place) => ({middle: middle.map((value, axis) => limit(value, place[axis] - .46 * side, place[axis] + .46 * side)), side});
// Greys, as 32-bit pixels, of codes from 0 to 255 that stand for the values of a span, at a display window.
const grey_table = ([low, high], [black, white]) => Uint32Array.from({length: 256}, (_, code) =>
    (0xff000000 | 0x010101 * Math.round(255 * limit((low + code / 255 * (high - low) - black) / (white - black), 0, 1))) >>> 0);
// A code's value in words; beyond the ends of the span only a limit is known.
const code_text = (code, [low, high], unit) => (code === 0 ? '≤ ' : code === 255 ? '≥ ' : '') + value_text(low + code / 255 * (high - low), low, high, unit);
