// The surface of a mask, and a picture of surfaces that needs no graphics card: naive surface nets, then a depth buffer.

// A closed surface around the voxels of a mask, turned outwards: points in mm from the volume's corner, and triangles of their numbers.
// Points start in the middle of the borders near a corner of voxels and are smoothed, but stay within half a voxel of it.
// Of a mask in a large box, every second, third, ... voxel is used.
const MOST_IN_BOX = 2 ** 20;
const surface_of = (mask, shape, mm, rounds = 6) => {
    const extent = extent_of(mask, shape);
    if (!extent) return {points: new Float32Array(0), triangles: new Uint32Array(0)};
    const steps = [1, 1, 1], counts = () => steps.map((step, axis) => Math.ceil((extent.high[axis] + 1 - extent.low[axis]) / step));
    while (counts().reduce((product, count) => product * count) > MOST_IN_BOX) {
        const finest = [0, 1, 2].filter(axis => counts()[axis] > 1).sort((a, b) => mm[a] * steps[a] - mm[b] * steps[b])[0];
        steps[finest]++;
    }
    const [nx, ny, nz] = counts().map(count => count + 2), strides = [1, nx, nx * ny];  // with a border of nothing
    const inside = new Uint8Array(nx * ny * nz), numbers = new Int32Array(nx * ny * nz).fill(-1), cells = [], points = [], triangles = [];
    for (let z = 1; z < nz - 1; z++) for (let y = 1; y < ny - 1; y++) for (let x = 1; x < nx - 1; x++) {
        const voxel = [x, y, z].map((value, axis) => extent.low[axis] + (value - 1) * steps[axis]);
        inside[x + y * nx + z * strides[2]] = mask[offset_of(voxel, shape)];
    }
    for (let z = 0; z < nz - 1; z++) for (let y = 0; y < ny - 1; y++) for (let x = 0; x < nx - 1; x++) {
        const k = x + y * nx + z * strides[2], cell = crossing_middle(inside, k, strides);
        if (!cell) continue;
        numbers[k] = cells.length;
        cells.push([x, y, z]);
        points.push(x + cell[0], y + cell[1], z + cell[2]);
    }
    cells.forEach(cell => {  // a quadrilateral for each border between two voxels, around the edge from this corner
        const k = cell[0] + cell[1] * nx + cell[2] * strides[2];
        for (let axis = 0; axis < 3; axis++) {
            const u = (axis + 1) % 3, v = (axis + 2) % 3;
            if (!cell[u] || !cell[v] || inside[k] === inside[k + strides[axis]]) continue;
            const [a, b, c, d] = [k, k - strides[u], k - strides[u] - strides[v], k - strides[v]].map(corner => numbers[corner]);
            if (inside[k]) triangles.push(a, b, c, a, c, d);
            else triangles.push(a, c, b, a, d, c);
        }
    });
    smooth_points(points, cells, triangles, rounds);
    return {points: Float32Array.from(points, (value, i) => (extent.low[i % 3] + (value - .5) * steps[i % 3]) * mm[i % 3]), triangles: Uint32Array.from(triangles)};
};
const CUBE_EDGES = [0, 1, 2].flatMap(axis => [0, 1, 2, 3].map(i => {
    const start = [0, 0, 0];
    start[(axis + 1) % 3] = i & 1;
    start[(axis + 2) % 3] = i >> 1;
    return {axis, start};
}));
// The mean of the middles of a cube's edges that cross the border; null where none does.
const crossing_middle = (inside, k, strides) => {
    const sum = [0, 0, 0];
    let count = 0;
    for (const {axis, start} of CUBE_EDGES) {
        const from = k + start[0] + start[1] * strides[1] + start[2] * strides[2];
        if (inside[from] === inside[from + strides[axis]]) continue;
        count++;
        for (let i = 0; i < 3; i++) sum[i] += start[i] + (i === axis ? .5 : 0);
    }
    return count ? sum.map(value => value / count) : null;
};
const smooth_points = (points, cells, triangles, rounds) => {
    for (let round = 0; round < rounds; round++) {
        const sums = new Float32Array(points.length), counts = new Uint16Array(cells.length);
        for (let t = 0; t < triangles.length; t += 3) for (let i = 0; i < 3; i++) {
            const a = triangles[t + i], b = triangles[t + (i + 1) % 3];
            for (let axis = 0; axis < 3; axis++) sums[3 * a + axis] += points[3 * b + axis];
            counts[a]++;
        }
        cells.forEach((cell, n) => cell.forEach((corner, axis) => {
            if (counts[n]) points[3 * n + axis] = limit((points[3 * n + axis] + sums[3 * n + axis] / counts[n]) / 2, corner, corner + 1);
        }));
    }
};
// Outward normals of the points, of length 1.
const normals_of = ({points, triangles}) => {
    const normals = new Float32Array(points.length);
    for (let t = 0; t < triangles.length; t += 3) {
        const [a, b, c] = [0, 1, 2].map(i => 3 * triangles[t + i]), u = [0, 1, 2].map(i => points[b + i] - points[a + i]), v = [0, 1, 2].map(i => points[c + i] - points[a + i]);
        const cross = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
        for (const corner of [a, b, c]) for (let i = 0; i < 3; i++) normals[corner + i] += cross[i];
    }
    for (let k = 0; k < normals.length; k += 3) {
        const length = Math.hypot(normals[k], normals[k + 1], normals[k + 2]) || 1;
        for (let i = 0; i < 3; i++) normals[k + i] /= length;
    }
    return normals;
};

// --- a picture of it

// Rows of a rotation from the volume's axes to the screen: right, up, towards the eye. turn: around the body's long axis, tilt: of the eye above it, in radians.
// At 0, 0 the patient is seen from the front, with the left side on the right.
const view_matrix = (turn, tilt) => {
    const [c, s, d, e] = [Math.cos(turn), Math.sin(turn), Math.cos(tilt), Math.sin(tilt)];
    return [[c, -s, 0], [e * s, e * c, d], [-d * s, -d * c, e]];
};
// Where a place in mm is on the screen, and how near. eye: {matrix, middle, scale, wide, high}.
const project = ({matrix, middle, scale, wide, high}, place) => {
    const [x, y, z] = matrix.map(row => row[0] * (place[0] - middle[0]) + row[1] * (place[1] - middle[1]) + row[2] * (place[2] - middle[2]));
    return [wide / 2 + scale * x, high / 2 - scale * y, scale * z];
};
// The nearest surface of each pixel that faces the eye: its nearness (-Infinity for none) and the normal's share towards the eye and towards the light.
const rasterise = ({points, normals, triangles}, eye) => {
    const {wide, high, matrix} = eye, count = points.length / 3, places = new Float32Array(5 * count);
    for (let k = 0; k < count; k++) {
        places.set(project(eye, [points[3 * k], points[3 * k + 1], points[3 * k + 2]]), 5 * k);
        const [x, y, z] = matrix.map(row => row[0] * normals[3 * k] + row[1] * normals[3 * k + 1] + row[2] * normals[3 * k + 2]);
        places[5 * k + 3] = z;
        places[5 * k + 4] = -.45 * x + .55 * y + .7 * z;  // from above, over the left shoulder
    }
    const near = new Float32Array(wide * high).fill(-Infinity), facing = new Float32Array(wide * high), lit = new Float32Array(wide * high);
    for (let t = 0; t < triangles.length; t += 3) {
        const a = 5 * triangles[t], b = 5 * triangles[t + 1], c = 5 * triangles[t + 2];
        const ax = places[a], ay = places[a + 1], bx = places[b], by = places[b + 1], cx = places[c], cy = places[c + 1];
        const area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax);
        if (area >= 0) continue;  // y runs down the screen, so what faces the eye runs clockwise in numbers
        const left = Math.max(0, Math.ceil(Math.min(ax, bx, cx) - .5)), right = Math.min(wide - 1, Math.floor(Math.max(ax, bx, cx) - .5));
        const top = Math.max(0, Math.ceil(Math.min(ay, by, cy) - .5)), bottom = Math.min(high - 1, Math.floor(Math.max(ay, by, cy) - .5));
        for (let y = top; y <= bottom; y++) for (let x = left; x <= right; x++) {
            const u = ((bx - x - .5) * (cy - y - .5) - (by - y - .5) * (cx - x - .5)) / area, v = ((cx - x - .5) * (ay - y - .5) - (cy - y - .5) * (ax - x - .5)) / area, w = 1 - u - v;
            if (u < 0 || v < 0 || w < 0) continue;
            const k = y * wide + x, z = u * places[a + 2] + v * places[b + 2] + w * places[c + 2];
            if (z <= near[k]) continue;
            near[k] = z;
            facing[k] = u * places[a + 3] + v * places[b + 3] + w * places[c + 3];
            lit[k] = u * places[a + 4] + v * places[b + 4] + w * places[c + 4];
        }
    }
    return {near, facing, lit};
};
// Pixels (RGBA) of surfaces over one another: solid ones hide what is behind them, clear ones and shells (seen at their rim) let it through.
// surfaces: {points, normals, triangles, rgb, look: "solid", "clear" or "shell"}, the solid ones first.
const paint_surfaces = (surfaces, eye) => {
    const count = eye.wide * eye.high, out = new Uint8ClampedArray(4 * count), hidden = new Float32Array(count).fill(-Infinity);
    for (const surface of surfaces) {
        const {near, facing, lit} = rasterise(surface, eye), {rgb, look} = surface;
        for (let k = 0; k < count; k++) {
            if (near[k] <= hidden[k]) continue;
            const rim = 1 - Math.min(1, Math.max(0, facing[k])), light = Math.max(0, lit[k]);
            const cover = look === 'solid' ? 1 : look === 'clear' ? .3 + .6 * rim * rim : .06 + .6 * rim * rim * rim, before = out[4 * k + 3] / 255;
            const shade = look === 'shell' ? 1 : .38 + .62 * light, shine = look === 'shell' ? 0 : 70 * light ** 24, alpha = cover + before * (1 - cover);
            for (let i = 0; i < 3; i++) out[4 * k + i] = ((rgb[i] * shade + shine) * cover + out[4 * k + i] * before * (1 - cover)) / alpha;
            out[4 * k + 3] = 255 * alpha;
            if (look === 'solid') hidden[k] = near[k];
        }
    }
    return out;
};
const parse_colour = text => [1, 3, 5].map(i => parseInt(text.slice(i, i + 2), 16));
