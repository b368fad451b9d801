// The initials for the log are remembered in this browser.
const INITIALS = 'mpsams-initials', FIELD = '#annotate-side .initials :is(input, textarea)';
const remembered = () => { try { return localStorage.getItem(INITIALS) || ''; } catch { return ''; } };  // some browsers keep nothing
let is_typed = false;
// The page sets its fields again when it has been opened, so an empty one is filled in for a while.
const restore_initials = tries => {
    const field = document.querySelector(FIELD);
    if (field && !field.disabled && !field.value && remembered() && document.activeElement !== field) {
        field.value = remembered();
        field.dispatchEvent(new Event('input', {bubbles: true}));
    }
    if (tries && !is_typed) setTimeout(restore_initials, 300, tries - 1);
};
document.addEventListener('input', event => {
    if (!event.isTrusted || !event.target.matches(FIELD)) return;
    is_typed = true;
    try { localStorage.setItem(INITIALS, event.target.value.trim()); } catch (error) { console.error(error); }
});
restore_initials(100);
