// The class of the image on screen: buttons, keys, and the sheet in which the classes of a project are edited.
const bar = () => element.querySelector('.image-class');
const canvas = () => document.querySelector('#annotate .annotate');
// What is pressed while the next image is on its way is meant for that one.
const is_on_screen = () => {
    const shown = canvas(), snapshot = shown && shown.parentElement.snapshot && shown.parentElement.snapshot();
    return Boolean(snapshot) && !shown.classList.contains('busy') && snapshot.key.startsWith(bar().dataset.item);
};
const choose_class = (name, tries = 100) => {
    if (!bar()) return;
    if (!is_on_screen()) { if (tries) setTimeout(choose_class, 50, name, tries - 1); return; }
    const pressed = [...bar().querySelectorAll('[data-class]')].some(one => one.dataset.class === name && one.getAttribute('aria-pressed') === 'true');
    trigger('act', {action: 'classify', item: bar().dataset.item, image_class: pressed ? '' : name});
};
const colours = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#7f7f7f', '#8c564b'];
const edit_classes = () => {
    const about = 'Each image has one of them or none. Keys 5 to 9 are free, and letters that the canvas does not use. Images keep the class they have.';
    const rows = JSON.parse(bar().dataset.defined);
    edit_definitions({title: 'Classes of this project', about, rows, noun: 'class', colours, keys: bar().dataset.freeKeys, parent: element.closest('.gradio-container'), save: (classes, edited_from) => trigger('act', {action: 'define', classes, edited_from})});
};
element.addEventListener('click', event => {
    const button = event.target.closest('button');
    if (!button) return;
    if (button.dataset.class) choose_class(button.dataset.class);
    else if (button.dataset.do === 'edit') edit_classes();
    else if (button.dataset.do === 'undo') trigger('act', {action: 'undo', item: bar().dataset.item});
});
// Keys that the canvas uses stay its own: it has taken the event by then.
const is_typing = target => target.closest('textarea, select, [contenteditable=""], [contenteditable=true], input:not([type=range], [type=checkbox], [type=radio], [type=button])');
document.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || !element.isConnected || !bar() || !element.checkVisibility()) return;
    if (is_typing(event.target) || document.querySelector('dialog[open]')) return;
    setTimeout(() => {
        const button = [...bar().querySelectorAll('[data-key]')].find(one => one.dataset.key && one.dataset.key === event.key.toLowerCase());
        if (button && !button.disabled && !event.defaultPrevented) choose_class(button.dataset.class);
    });
});
