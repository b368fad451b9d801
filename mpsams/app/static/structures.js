// The structures of the project: the bar beside the tools, the one that is chosen, their colours, and the sheet that edits them.
let shown_structures = '', inks = [];
const has_several = () => state.structures.length > 1;
const chosen_structure = () => state.structures.find(one => one.label === structure) || {label: 1, name: 'lesion', elsewhere: state.voxels_elsewhere || 0};
const structure_colour = label => (has_several() && state.structures.find(one => one.label === label)?.colour) || colour('--machine', '#e69f00');
// Voxels of the chosen structure on the other slices.
const elsewhere = () => chosen_structure().elsewhere || 0;

const choose_structure = label => {
    if (label === structure || stroke || !state.structures.some(one => one.label === label)) return;
    if (open_polygon.length) cancel();
    finish_object();
    structure = label;
    if (slice_view) redraw();
    controls();
};
const structure_key = key => {
    const found = has_several() && state.structures.find(one => one.key && one.key === key);
    return found ? () => choose_structure(found.label) : null;
};
const structure_button = ({label, name, colour: paint, key}) => {
    const button = document.createElement('button'), swatch = document.createElement('i'), words = document.createElement('span');
    Object.assign(button, {type: 'button', title: `Draw ${name}: brush, eraser, scribbles, boxes and points are about it${key && ` (${key.toUpperCase()})`}`});
    button.dataset.structure = label;
    swatch.style.background = paint;
    words.textContent = name;
    button.append(swatch, words);
    if (key) button.append(Object.assign(document.createElement('kbd'), {textContent: key.toUpperCase()}));
    return button;
};
// The bar as the project's structures are now. With a single one it is hidden.
const show_structures = () => {
    const words = JSON.stringify([state.structures.map(({label, name, colour: paint, key}) => [label, name, paint, key]), state.can_define]);
    if (words !== shown_structures) {
        shown_structures = words;
        if (!state.structures.some(one => one.label === structure)) structure = state.structures[0]?.label || 1;
        inks = [];
        for (const {label, colour: paint} of has_several() ? state.structures : []) inks[label] = rgba('--none', paint);
        part('structures').replaceChildren(...(has_several() ? state.structures.map(structure_button) : []));
        set_visible('structures', state.can_define);
        text('structures-words', has_several() ? 'Edit structures' : 'Add a structure');
        if (slice_view && layers.ink) repaint(whole());
    }
    part('structures').querySelectorAll('button').forEach(button => button.setAttribute('aria-pressed', Number(button.dataset.structure) === structure));
};
const edit_structures = () => {
    const about = 'What masks may hold. Drawing one takes pixels from the others; the eraser, Keep largest, Fill holes and Smooth change the chosen one only. A structure can be removed while no mask has it.';
    const rows = state.structures.length ? state.structures : [{label: 1, name: 'lesion'}];
    const keys = [...state.free_keys].filter(key => !document.querySelector(`.image-class [data-key="${key}"]`));  // some classes may be newer than the state
    edit_definitions({title: 'Structures of this project', about, rows, noun: 'structure', colours: STRUCTURE_COLOURS, keys, parent: root.closest('.gradio-container') || document.body, save: (...sheets) => {
        const [edited, edited_from] = sheets.map(listed => listed.map(({label = 0, name, colour: paint = '', key = ''}) => ({label, name, colour: paint, key})));
        if (edited.length) request('define', {structures: edited, edited_from});
    }});
};
const STRUCTURE_COLOURS = ['#e69f00', '#56b4e9', '#009e73', '#cc79a7', '#f0e442', '#d55e00', '#7aa6ff', '#c8c8c8'];
