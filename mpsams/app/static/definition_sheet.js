// The sheet in which names, colours and keys are edited: of classes of images and of structures.
const values_of = row => ({name: row.children[1].value.trim(), colour: row.children[0].value, key: row.children[2].value.trim().toLowerCase()});
// keys: free for those of this kind. save: gets what was edited and what it was before.
const edit_definitions = ({title, about, rows: given, noun, colours, keys, parent, save}) => {
    const sheet = document.createElement('dialog');
    sheet.className = 'class-sheet';
    sheet.setAttribute('aria-label', title);
    sheet.innerHTML = '<form method="dialog"><h4></h4><p></p><div class="rows"></div><footer><button type="button" data-do="add"></button><span></span><button type="button" data-do="cancel">Cancel</button><button value="save">Save</button></footer></form>';
    const rows = sheet.querySelector('.rows'), kept = new Map();  // of each row what it was before
    const add_row = (one = {}) => {
        const row = document.createElement('div');
        row.innerHTML = '<input type="color" aria-label="Colour"><input class="name" maxlength="64" placeholder="Name" aria-label="Name"><input class="key" maxlength="1" placeholder="Key" aria-label="Key"><button type="button">\u00d7</button>';
        const [paint, name, letter, remove] = row.children, used = [...rows.children].map(other => other.children[0].value);
        paint.value = one.colour || colours.find(each => !used.includes(each)) || colours[rows.children.length % colours.length];
        name.value = one.name || '';
        letter.value = one.key || '';
        remove.setAttribute('aria-label', `Remove this ${noun}`);
        remove.onclick = () => { row.remove(); check(); };
        kept.set(row, one);
        rows.append(row);
        return name;
    };
    // The browser shows a message at a field, and does not save, for a name or a key that two have, a key that is not free.
    const check = () => {
        for (const row of rows.children) {
            const mine = values_of(row), others = [...rows.children].filter(other => other !== row).map(values_of).filter(one => one.name);
            const has_twin = field => Boolean(mine.name && mine[field]) && others.some(one => one[field].toLowerCase() === mine[field].toLowerCase());
            const is_free = !mine.key || keys.includes(mine.key) || mine.key === kept.get(row).key;
            row.children[1].setCustomValidity(has_twin('name') ? 'Two have this name.' : '');
            row.children[2].setCustomValidity(!is_free ? `Free keys: ${[...keys].join(' ')}` : has_twin('key') ? 'Two have this key.' : '');
        }
    };
    rows.oninput = check;
    sheet.querySelector('h4').textContent = title;
    sheet.querySelector('p').textContent = about;
    sheet.querySelector('[data-do=add]').textContent = `Add a ${noun}`;
    for (const one of given) add_row(one);
    sheet.querySelector('[data-do=add]').onclick = () => add_row().focus();
    sheet.querySelector('[data-do=cancel]').onclick = () => sheet.close();
    sheet.onclose = () => {
        const found = [...rows.children].map(row => ({...kept.get(row), ...values_of(row)})).filter(one => one.name);
        if (sheet.returnValue === 'save') save(found, given);
        sheet.remove();
    };
    parent.append(sheet);
    sheet.showModal();
};
