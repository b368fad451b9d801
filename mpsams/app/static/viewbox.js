// The part of an image that a picture shows, as a box {x, y, w, h} in the picture's own units: zoom, pan, scale bar, display window.
const SMALLEST = 8;  // units of the smallest side that can be seen
const limit = (value, low, high) => Math.min(high, Math.max(low, value));
const box_of = ([x, y, w, h]) => ({x, y, w, h});
const box_text = ({x, y, w, h}) => [x, y, w, h].map(value => Math.round(value * 1000) / 1000).join(' ');
const is_zoomed = (box, size) => box.w < size.w * .999 || box.h < size.h * .999;
// The box moved so that its middle lies on the image.
const keep_on_image = (box, size) => ({...box, x: limit(box.x, -box.w / 2, size.w - box.w / 2), y: limit(box.y, -box.h / 2, size.h - box.h / 2)});
// Enlarged by a factor around a point that stays where it is; the whole image where that would show more than it.
const zoom_box = (box, factor, point, size) => {
    const by = limit(1 / factor, SMALLEST / Math.min(box.w, box.h), Infinity), w = box.w * by, h = box.h * by;
    if (w >= size.w && h >= size.h) return {x: 0, y: 0, ...size};
    return keep_on_image({x: point.x - (point.x - box.x) * by, y: point.y - (point.y - box.y) * by, w, h}, size);
};
const pan_box = (box, x, y, size) => keep_on_image({...box, x: box.x + x, y: box.y + y}, size);
// From a place on the screen to a place on the image. frame: where the picture lies on the screen.
const to_image = (x, y, frame, box) => ({x: box.x + (x - frame.left) / frame.width * box.w, y: box.y + (y - frame.top) / frame.height * box.h});
// The longest of 1, 2, 5, 10, ... millimetres that takes at most this many points of the screen.
const scale_bar = (mm_per_point, most = 110) => {
    const power = 10 ** Math.floor(Math.log10(most * mm_per_point));
    const mm = [5, 2, 1].map(step => step * power).find(length => length <= most * mm_per_point * (1 + 1e-9));
    return {mm, points: mm / mm_per_point};
};
const length_text = mm => mm >= 10 ? `${mm / 10} cm` : mm >= 1 ? `${mm} mm` : `${Math.round(mm * 1000)} µm`;
// A window after a drag by x and y points: to the right is wider, downwards is darker.
const dragged_window = ([black, white], x, y) => {
    const width = (white - black) * Math.exp(x / 250), level = (black + white) / 2 + y * (white - black) / 250;
    return [level - width / 2, level + width / 2];
};
const value_text = (value, low, high, unit) => (Math.abs(high - low) >= 20 ? value.toFixed(0) : value.toPrecision(3)) + (unit && ' ' + unit);
