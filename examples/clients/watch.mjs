// Follows a task on the wire of Django Streaming Coordinator, with EventSource: in a browser, where a page imports
// `watch`, or under node:
//
//     npm install eventsource
//     node watch.mjs 'http://127.0.0.1:7717/stream/CRATE/TASK/ID?ticket=TICKET'
//
// EventSource can't send a token: `POST /v1/tasks/ID/ticket` gives a ticket.

const EventSource = globalThis.EventSource ?? (await import('eventsource')).EventSource;

/** Calls `tell(name, data)` for each event, up to the last one. */
export function watch(url, tell) {
  const source = new EventSource(url);
  source.addEventListener('start', (event) => tell('start', JSON.parse(event.data)));
  source.addEventListener('progress', (event) => tell('progress', JSON.parse(event.data)));
  source.addEventListener('complete', (event) => {
    tell('complete', JSON.parse(event.data));
    source.close();
  });
  source.addEventListener('error', (event) => {
    // Without data it is the connection that broke: EventSource comes back by itself, behind the last event that it has.
    if (event.data === undefined) return;
    tell('error', JSON.parse(event.data));
    source.close();
  });
  return source;
}

if (globalThis.process?.argv[2]) {
  watch(process.argv[2], (name, data) => console.log(`${name}: ${JSON.stringify(data)}`));
}
