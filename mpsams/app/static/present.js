// The presentation of the Learn tab for a projector: it fills the window, and the screen where the browser allows it. Part of learn.js.
/* global answered, ask, root, wanted */
let was_presenting = false;
const is_presenting = () => Boolean((wanted || answered()).present) && root().checkVisibility();
const enter_fullscreen = () => document.documentElement.requestFullscreen?.().catch(() => {});
const set_presenting = present => {
    if (present) enter_fullscreen();
    ask({present});
    lay_out_presentation();
    root().focus();  // so that the space bar moves on instead of pressing the button again
};

// Clickers send PageUp and PageDown; they change the step wherever the focus is.
const step_of_key = event => {
    if (event.key === ' ' && (event.shiftKey || event.target.closest('button, a, summary'))) return 0;
    const steps = {ArrowLeft: -1, ArrowRight: 1};
    if (is_presenting()) Object.assign(steps, {PageUp: -1, PageDown: 1, ' ': 1});
    return steps[event.key] || 0;
};

// The largest size in pixels at which a part needs no scrolling.
const enlarge = (part, name, high, low) => {
    for (let size = high; size >= low; size -= Math.max(1, size / 40)) {
        document.documentElement.style.setProperty(name, size + 'px');
        if (part.scrollHeight <= part.clientHeight && part.scrollWidth <= part.clientWidth) return;
    }
};
const lay_out_presentation = () => {
    const present = is_presenting();
    root().classList.toggle('presenting', present);
    document.querySelectorAll('#top, #side, #end, #tabs > .tab-wrapper').forEach(part => part.inert = present);
    if (was_presenting && !present && document.fullscreenElement) document.exitFullscreen();
    was_presenting = present;
    if (!present) return;
    const board = root().querySelector('.board');
    enlarge(root().querySelector('.explanation'), '--letters', innerHeight / 24, 13);
    enlarge(board, '--wide', board.clientWidth, 160);
};
document.addEventListener('fullscreenchange', () => {
    if (!document.fullscreenElement && is_presenting()) set_presenting(false);
});
document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey || event.defaultPrevented || !root()?.checkVisibility()) return;
    if (event.key === 'Escape' && is_presenting()) set_presenting(false);
    else if (event.key.toLowerCase() === 'p' && !event.target.closest('input, textarea, select, [contenteditable]')) set_presenting(!is_presenting());
});
addEventListener('resize', lay_out_presentation);
new ResizeObserver(lay_out_presentation).observe(element);  // also when another tab comes to the front
element.addEventListener('toggle', lay_out_presentation, true);
lay_out_presentation();
