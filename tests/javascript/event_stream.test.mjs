// The exchange of events with gradio's queue, with a server that the tests control.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import test from 'node:test';

const source = fs.readFileSync(new URL('../../mpsams/app/static/event_stream.js', import.meta.url), 'utf8');
const ordered_fetch = Function(`${source}; return ordered_fetch;`)();
const JOIN = 'http://app/gradio_api/queue/join?', DATA = 'http://app/gradio_api/queue/data?session_hash=a';
const message = (msg, event_id = null) => `data: ${JSON.stringify({msg, event_id})}\n\n`;
// Returns when all that can go on has: after turns of the event loop, not after a time.
const all_idle = async () => { for (let turn = 0; turn < 50; turn++) await new Promise(resolve => setImmediate(resolve)); };

// A server whose answers to joins and whose streams are given out by the test.
const server = () => {
    const joins = [], streams = [];
    const send = (request, options) => {
        const address = String(request.url || request);
        if (address.includes('/other')) return Promise.resolve(new Response('other'));
        if (address.includes('/join')) return new Promise(resolve => joins.push({body: options.body, answer: event_id => resolve(Response.json({event_id}))}));
        let controller;
        const body = new ReadableStream({start: one => { controller = one; }});
        streams.push({say: text => controller.enqueue(new TextEncoder().encode(text)), end: () => controller.close()});
        return Promise.resolve(new Response(body, {headers: {'content-type': 'text/event-stream'}}));
    };
    const idle = [];
    return {joins, streams, idle, fetch: ordered_fetch(send, one => idle.push(one))};
};
const read_all = async (response, seen = []) => {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
        const {done, value} = await reader.read();
        if (done) return seen;
        seen.push(...value.split('\n\n').filter(Boolean).map(line => JSON.parse(line.slice(6))));
    }
};

test('an event is sent when the one before is in the queue', async () => {
    const {joins, fetch} = server();
    const both = ['first', 'second'].map(body => fetch(JOIN, {method: 'POST', body}));
    await all_idle();
    assert.deepEqual(joins.map(join => join.body), ['first']);
    joins[0].answer('a1');
    await all_idle();
    assert.deepEqual(joins.map(join => join.body), ['first', 'second']);
    joins[1].answer('a2');
    assert.deepEqual(await Promise.all(both.map(async one => (await (await one).json()).event_id)), ['a1', 'a2']);
});

test('an event that enters the queue while the stream ends is answered by a stream that goes on', async () => {
    const {joins, streams, fetch} = server(), stop = new AbortController();
    const first = fetch(JOIN, {method: 'POST', body: 'first'});
    await all_idle();
    joins[0].answer('a1');
    await first;
    const seen = [], reading = read_all(await fetch(DATA, {signal: stop.signal}), seen);
    const second = fetch(JOIN, {method: 'POST', body: 'second'});
    streams[0].say(message('process_completed', 'a1') + message('close_stream'));
    streams[0].end();
    await all_idle();
    assert.deepEqual(seen.map(one => one.msg), ['process_completed']);  // the end is held while an event is on its way
    joins[1].answer('a2');
    await second;
    await all_idle();
    assert.equal(streams.length, 2);
    streams[1].say(message('process_completed', 'a2').slice(0, 25));
    streams[1].say(message('process_completed', 'a2').slice(25) + message('close_stream'));
    await reading;
    assert.deepEqual(seen, [
        {msg: 'process_completed', event_id: 'a1'}, {msg: 'process_completed', event_id: 'a2'}, {msg: 'close_stream', event_id: null},
    ]);
});

test('a stream ends when all events are answered, also those answered before their number was known; the next event waits until that is read', async () => {
    const {joins, streams, idle, fetch} = server(), stop = new AbortController();
    const first = fetch(JOIN, {method: 'POST', body: 'first'}), reading = read_all(await fetch(DATA, {signal: stop.signal}));
    await all_idle();
    streams[0].say(message('process_completed', 'a1'));
    await all_idle();
    joins[0].answer('a1');
    await first;
    streams[0].say(message('close_stream'));
    assert.equal((await reading).at(-1).msg, 'close_stream');
    assert.deepEqual([idle[0], idle.at(-1)], [false, true]);
    let is_known = false;
    const second = fetch(JOIN, {method: 'POST', body: 'second'}).then(() => { is_known = true; });
    await all_idle();
    joins[1].answer('a2');
    await all_idle();
    assert.deepEqual([is_known, idle.at(-1)], [false, false]);
    stop.abort();  // as gradio does when it has read the end
    await second;
    assert.equal(streams.length, 1);
});

test('other requests pass unchanged', async () => {
    assert.equal(await (await server().fetch('http://app/other')).text(), 'other');
});
