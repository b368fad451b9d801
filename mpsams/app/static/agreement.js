// The agreement of two readers: a click on an image opens it; measure again, download, make the consensus.
const pair = () => Number(element.querySelector('[data-do=pair]')?.value || 0);
element.addEventListener('click', event => {
    const {item, do: action} = event.target.closest('button')?.dataset || {};
    if (item) trigger('pick', {item});
    if (action === 'measure') trigger('measure', {pair: pair()});
    if (action === 'csv') trigger('csv', {pair: pair()});
});
element.addEventListener('change', event => { if (event.target.dataset.do === 'pair') trigger('measure', {pair: pair()}); });
element.addEventListener('submit', event => {
    event.preventDefault();
    trigger('consensus', {method: event.target.querySelector('select').value});
});
