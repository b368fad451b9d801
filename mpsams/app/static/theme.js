// Light, dark or as the system: chosen in the header and kept in this browser. gradio reads __theme from the address when the page starts
// (head.html writes it there before anything is painted); here it leaves the address again.
const theme_choice = element.querySelector('[data-theme-choice]');
const prefers_dark = matchMedia('(prefers-color-scheme: dark)');
const show_theme = () => {
    const name = theme_choice.value;
    document.body.classList.toggle('dark', name === 'dark' || (name === 'system' && prefers_dark.matches));
    document.documentElement.dataset.theme = name;
};
const asked_theme = new URLSearchParams(location.search).get('__theme');
theme_choice.value = ['light', 'dark'].includes(asked_theme) ? asked_theme : 'system';
theme_choice.addEventListener('change', () => {
    try { localStorage.setItem('theme', theme_choice.value); } catch { /* a browser that keeps nothing shows the choice until it is closed */ }
    show_theme();
});
prefers_dark.addEventListener('change', () => setTimeout(show_theme));  // after gradio's own listener, which knows no choice
show_theme();
if (asked_theme !== null) {
    const rest = new URLSearchParams(location.search);
    rest.delete('__theme');
    history.replaceState(history.state, '', location.pathname + (rest.size ? '?' + rest : '') + location.hash);
}
