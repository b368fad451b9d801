// The readers of a project: begin as second reader, open the page of a reader, compare all.
const open_reader = name => location.assign('?' + new URLSearchParams({tab: 'annotate', ...(name && {reader: name})}));
element.addEventListener('click', event => {
    const {reader, do: action} = event.target.closest('button')?.dataset || {};
    if (reader !== undefined) open_reader(reader);
    if (action === 'compare') trigger('compare', {});
});
element.addEventListener('submit', event => {
    event.preventDefault();
    trigger('join', {name: element.querySelector('#reader-name').value, blind: element.querySelector('[type=checkbox]').checked});
});
watch('value', () => {
    const next = element.querySelector('[data-go]');
    if (next) open_reader(next.dataset.go);
});
