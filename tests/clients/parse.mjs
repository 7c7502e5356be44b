// Prints what eventsource-parser finds in a file: a line of JSON for each event, with its name, id and data.
// However the bytes are cut, it has to find the same.
import { readFileSync } from 'node:fs';
import { createParser } from 'eventsource-parser';

const bytes = readFileSync(process.argv[2]);

function parsed(size) {
  const found = { events: [], retries: [], comments: [] };
  // As the standard has it, an event without an id of its own has the last one.
  let last = '';
  const parser = createParser({
    onEvent(event) {
      last = event.id ?? last;
      found.events.push([event.event ?? 'message', last, event.data]);
    },
    onRetry: (wait) => found.retries.push(wait),
    onComment: (text) => found.comments.push(text),
    onError(error) { throw error; },
  });
  const decoder = new TextDecoder();
  for (let at = 0; at < bytes.length; at += size)
    parser.feed(decoder.decode(bytes.subarray(at, at + size), { stream: true }));
  return found;
}

const found = parsed(bytes.length);
for (const size of [1, 2, 7, 64]) {
  if (JSON.stringify(parsed(size)) !== JSON.stringify(found)) throw new Error(`cut into ${size} bytes it is another one`);
}
if (found.retries[0] !== 2000) throw new Error(`when to come back: ${found.retries}`);
if (found.comments.some((text) => text.trim() !== 'still here')) throw new Error(`comments: ${found.comments}`);
for (const event of found.events) console.log(JSON.stringify(event));
