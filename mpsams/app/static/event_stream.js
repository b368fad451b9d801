// The exchange of events with gradio's queue, in the page's head: events enter the queue in the order in which they happened, and none stays unanswered.
//
// gradio opens a stream of answers with the first event and ends it when all events are answered. Its client opens no other stream for an event that
// enters the queue before it has read that end, so such an event would never be answered. Here the end is passed on only if no event waits; else the
// stream is opened once more and goes on.
const JOIN_SECONDS = 1, END_SECONDS = 1;  // longest waits: for the event before, and for gradio to read the end of a stream
const HEAD_OF_MESSAGE = /^data: ?\{"msg": ?"(\w+)"(?:, ?"event_id": ?"(\w+)")?/;

// Returns a fetch that does this. send: the browser's own. show_idle: called with true when all events are answered, and with false when one is sent.
const ordered_fetch = (send, show_idle) => {
    const waiting = new Set(), answered = new Set(), joins = new Set();  // ids of events in the queue, of those answered before their id was known; requests under way
    let before = Promise.resolve(), closing = Promise.resolve();
    const note_idle = () => show_idle(!joins.size && !waiting.size);
    const at_most = (seconds, promise) => Promise.race([promise, new Promise(resolve => setTimeout(resolve, 1000 * seconds))]);

    const join = async request => {
        await before;
        const answer = await send(...request), {event_id} = await answer.clone().json().catch(() => ({}));
        if (event_id && !answered.delete(event_id)) waiting.add(event_id);
        return answer;
    };
    const join_in_order = async request => {
        const joined = join(request), done = joined.catch(() => null);
        before = at_most(JOIN_SECONDS, done);
        joins.add(done);
        note_idle();
        done.then(() => { joins.delete(done); note_idle(); });
        const answer = await joined;
        await closing;
        return answer;
    };
    const note_answer = message => {
        const [, kind, event_id] = HEAD_OF_MESSAGE.exec(message) || [];
        if (kind === 'process_completed' && !waiting.delete(event_id)) answered.add(event_id);
        note_idle();
        return kind;
    };
    // Passes the messages of a stream on; the last one, if it is the end, is returned instead.
    const pass_on = async (stream, controller) => {
        const reader = stream.pipeThrough(new TextDecoderStream()).getReader(), encoder = new TextEncoder();
        let text = '';
        for (;;) {
            const {done, value} = await reader.read();
            const messages = (text + (value || '')).split('\n\n');
            text = messages.pop();
            for (const message of messages) {
                if (note_answer(message) === 'close_stream') return encoder.encode(`${message}\n\n`);
                controller.enqueue(encoder.encode(`${message}\n\n`));
            }
            if (done) return null;
        }
    };
    const answers = async ([request, options]) => {
        const asked = new Request(request, options), again = () => send(asked.clone());
        const first = await again();
        if (!first.ok || !first.body) return first;
        const start = async controller => {
            try {
                for (let response = first; ; response = await again()) {
                    const end = await pass_on(response.body, controller);
                    while (end && joins.size) await Promise.all(joins);
                    if (end && waiting.size) continue;
                    if (end) {
                        closing = at_most(END_SECONDS, new Promise(resolve => asked.signal.addEventListener('abort', resolve)));
                        controller.enqueue(end);
                    }
                    return controller.close();
                }
            } catch (error) {
                controller.error(error);
            }
        };
        return new Response(new ReadableStream({start}), {status: first.status, headers: first.headers});
    };
    return (...request) => {
        const address = String(request[0].url || request[0]);
        return address.includes('/queue/join') ? join_in_order(request) : address.includes('/queue/data') ? answers(request) : send(...request);
    };
};
