// The files of the Annotate tab in mpsams/app/static are parts of one script, so a part sees what the others declare.
import fs from 'node:fs';
import path from 'node:path';
import js from '@eslint/js';
import * as espree from 'espree';
import globals from 'globals';

const folder = 'mpsams/app/static';
const names = pattern => pattern.type === 'ObjectPattern' ? pattern.properties.map(property => property.value.name)
    : pattern.type === 'ArrayPattern' ? pattern.elements.map(element => element.name) : [pattern.name];
const declared = file => espree.parse(fs.readFileSync(file, 'utf8'), {ecmaVersion: 'latest'}).body
    .flatMap(line => line.type === 'VariableDeclaration' ? line.declarations.flatMap(({id}) => names(id)) : line.id ? [line.id.name] : []);
const parts = fs.readdirSync(folder).filter(name => name.endsWith('.js') && name !== 'learn.js').map(name => path.join(folder, name));
const shared = Object.fromEntries(parts.flatMap(declared).map(name => [name, 'writable']));
const gradio = {element: 'readonly', props: 'readonly', server: 'readonly', trigger: 'readonly', watch: 'readonly'};

export default [
    js.configs.recommended,
    {
        files: [`${folder}/*.js`],
        languageOptions: {sourceType: 'script', globals: {...globals.browser, ...gradio}},
        rules: {'no-unused-vars': ['error', {vars: 'local'}], 'no-redeclare': ['error', {builtinGlobals: false}]},
    },
    {files: parts, languageOptions: {globals: shared}},
    {files: ['tests/javascript/*.mjs'], languageOptions: {globals: globals.node}},
];
