// The page around the tabs: the sidebar as a drawer on a phone, files dropped anywhere, and the message above everything.
const drawer = () => document.querySelector('#side');
const opener = element.querySelector('[data-open-side]'), backdrop = element.querySelector('.backdrop');
const narrow = matchMedia('(max-width: 820px)');
const others = () => document.querySelectorAll('#main, #end, #top header');

// The drawer: the rest of the page is inert while it is open, and the focus returns to the button that opened it.
const open_drawer = () => {
    drawer().dataset.open = '';
    drawer().setAttribute('role', 'dialog');
    drawer().setAttribute('aria-modal', true);
    drawer().setAttribute('aria-label', 'Image and settings');
    others().forEach(part => part.inert = true);
    opener.setAttribute('aria-expanded', true);
    backdrop.hidden = false;
    drawer().querySelector('[data-close-side]').focus();
};
const close_drawer = () => {
    if (!('open' in drawer().dataset)) return;
    delete drawer().dataset.open;
    ['role', 'aria-modal', 'aria-label'].forEach(name => drawer().removeAttribute(name));
    others().forEach(part => part.inert = false);
    opener.setAttribute('aria-expanded', false);
    backdrop.hidden = true;
    opener.focus();
};
opener.addEventListener('click', open_drawer);
backdrop.addEventListener('click', close_drawer);
narrow.addEventListener('change', close_drawer);
document.addEventListener('click', event => event.target.closest('[data-close-side], [data-sample]') && close_drawer());
document.addEventListener('change', event => event.target.matches('#own input[type=file]') && close_drawer());
document.addEventListener('keydown', event => event.key === 'Escape' && close_drawer());

// The button says which image is on screen.
const label = () => {
    const title = document.querySelector('#shown figcaption strong');
    if (title) opener.querySelector('span').textContent = title.textContent;
    window.address?.note_image();
};
const watch_image = () => {
    const shown = document.querySelector('#shown');
    if (!shown) return setTimeout(watch_image, 50);
    new MutationObserver(label).observe(shown, {childList: true, subtree: true, characterData: true});
    label();
};
watch_image();

// A message can be closed; it also goes when the next image is opened.
document.addEventListener('click', event => {
    event.target.closest('[data-dismiss]')?.closest('.note').remove();
});

// Files dropped anywhere are opened like those of the button, except over a field that takes files itself.
const veil = element.querySelector('.drop-here');
const has_files = event => event.dataTransfer && [...event.dataTransfer.types].includes('Files');
const takes_files = target => target instanceof Element && target.closest('[data-testid=file-upload], .file-preview, input[type=file], .upload-container');
document.addEventListener('dragover', event => {
    if (!has_files(event)) return;
    veil.hidden = Boolean(takes_files(event.target));
    if (!veil.hidden) event.preventDefault();
});
document.addEventListener('dragleave', event => { if (!event.relatedTarget) veil.hidden = true; });
document.addEventListener('drop', event => {
    veil.hidden = true;
    if (!has_files(event) || takes_files(event.target)) return;
    event.preventDefault();
    const input = document.querySelector('#own input[type=file]');
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event('change', {bubbles: true}));
});
