// The tasks of a store, and one of them live. All text is set as text: what tasks say is never markup.
'use strict';

const $ = (selector) => document.querySelector(selector);
const LINES_MAX = 1000;
const PERIOD = 2000;

// The token comes with the address, behind the `#`, which no server is sent, or is typed. It is kept for this tab.
const handed = /^#token=(.+)$/.exec(location.hash);
if (handed) {
  sessionStorage.setItem('qtasks-token', decodeURIComponent(handed[1]));
  history.replaceState(null, '', location.pathname);
}

async function call(path, options = {}) {
  const headers = new Headers(options.headers);
  const token = sessionStorage.getItem('qtasks-token');
  if (token) headers.set('authorization', `Bearer ${token}`);
  if (options.body !== undefined) headers.set('content-type', 'application/json');
  const response = await fetch(path, { ...options, headers });
  if (response.ok) return response;
  if (response.status === 401) {
    $('#login').hidden = false;
    $('main').hidden = true;
    throw new Error('A token is needed: that which `serve` or `dev` has told, and keeps in the file `qtasks/tokens` of your folder for state.');
  }
  const problem = await response.json().catch(() => ({ detail: response.statusText }));
  throw new Error(problem.detail);
}

const post = async (path, body) => (await call(path, { method: 'POST', body: JSON.stringify(body) })).json();

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

function told(problem) {
  $('#problem').textContent = problem ? problem.message : '';
  $('#problem').hidden = !problem;
}

/** Does something, and tells what went wrong. */
const trying = (what) => async (event) => {
  event?.preventDefault?.();
  try {
    await what(event);
    told(null);
  } catch (problem) {
    told(problem);
  }
};

// ---- all tasks

const before = (instant) => {
  const seconds = Math.max(0, (Date.now() - Date.parse(instant)) / 1000);
  for (const [unit, size] of [['d', 86400], ['h', 3600], ['min', 60]])
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  return `${Math.floor(seconds)} s ago`;
};

const shown = () => location.hash.slice(1);
let pages = 1;

async function list() {
  const filter = new FormData($('#filter'));
  const query = new URLSearchParams({ limit: 50 });
  for (const [name, value] of filter) if (value) query.set(name, value);
  const records = [];
  let cursor = null;
  for (let page = 0; page < pages; page++) {
    if (cursor) query.set('cursor', cursor);
    const listed = await (await call(`v1/tasks?${query}`)).json();
    records.push(...listed.tasks);
    cursor = listed.next;
    if (!cursor) break;
  }
  $('#tasks').replaceChildren(...records.map(row));
  $('#none').hidden = records.length > 0;
  $('#more').hidden = !cursor;
}

function row(record) {
  const made = element('tr', '', { 'aria-selected': record.id === shown() });
  const link = element('a', record.name, { href: `#${record.id}` });
  made.append(element('td', ''), element('td', record.status, { class: record.status }), element('td', record.yields));
  made.append(element('td', before(record.created_at), { title: record.created_at }));
  made.append(element('td', record.id.slice(-8), { title: record.id }));
  made.firstChild.append(link);
  made.onclick = () => { location.hash = record.id; };
  return made;
}

/** How many tasks there are, from the gauges. */
async function counts() {
  const text = await (await call('metrics')).text();
  const sums = new Map();
  const queues = new Set();
  for (const [, queue, status, count] of text.matchAll(/^qtasks_tasks\{queue="([^"]*)",status="([^"]*)"\} (\d+)$/gm)) {
    sums.set(status, (sums.get(status) ?? 0) + Number(count));
    queues.add(queue);
  }
  $('#counts').replaceChildren(...[...sums].filter(([, sum]) => sum).map(([status, sum]) => {
    const item = element('li', `${status} `);
    item.append(element('b', sum.toLocaleString('en')));
    return item;
  }));
  const select = $('#filter').elements.queue;
  const known = new Set([...select.options].map((option) => option.value));
  for (const queue of queues) if (!known.has(queue)) select.append(element('option', queue));
}

async function functions() {
  const { tasks } = await (await call('v1/registry')).json();
  const select = $('#add').elements.task;
  select.replaceChildren(...tasks.map((task) => {
    const option = element('option', task.name, { title: task.description ?? '' });
    option.dataset.args = JSON.stringify(Object.fromEntries(task.args.filter((arg) => arg.required).map((arg) => [arg.name, null])));
    return option;
  }));
  $('#add').hidden = tasks.length === 0;
  hint();
}

function hint() {
  const chosen = $('#add').elements.task.selectedOptions[0];
  if (chosen) $('#add').elements.args.placeholder = chosen.dataset.args;
}

// ---- one task

const FIELDS = ['id', 'queue', 'args', 'final_value', 'error', 'cancel_reason', 'attempt', 'failures', 'crashes', 'worker', 'yields',
  'tags', 'created_at', 'due_at', 'started_at', 'completed_at', 'expires_at', 'retry_of', 'parent'];
const ENDED = ['completed', 'failed', 'cancelled'];
let leave = new AbortController();

async function record(id) {
  const of = await (await call(`v1/tasks/${id}`)).json();
  if (id !== shown()) return of;
  $('#name').textContent = of.name;
  $('#status').textContent = of.status;
  $('#status').className = of.status;
  const said = FIELDS.filter((field) => of[field] != null && !(Array.isArray(of[field]) && of[field].length === 0));
  $('#record').replaceChildren(...said.flatMap((field) => {
    const value = typeof of[field] === 'string' ? of[field] : JSON.stringify(of[field]);
    return [element('dt', field), element('dd', value)];
  }));
  const ended = ENDED.includes(of.status);
  $('[data-verb=start]').hidden = of.status !== 'held';
  $('[data-verb=cancel]').hidden = ended;
  $('[data-verb=retry]').hidden = !ended;
  $('#one').hidden = false;
  return of;
}

const SAYS = {
  started: (event) => `by ${event.worker}, attempt ${event.attempt}`,
  yield: (event) => JSON.stringify(event.value),
  event: (event) => `${event.name} ${JSON.stringify(event.data)}`,
  log: (event) => `${event.level} ${event.message}`,
  rewind: (event) => `the first ${event.to} values hold`,
  retry: (event) => `at ${event.due_at}: ${event.error.message}`,
  completed: (event) => (event.final_value == null ? '' : JSON.stringify(event.final_value)),
  failed: (event) => event.error.message,
  cancelled: (event) => event.reason,
};

function line(event) {
  const log = $('#log');
  if (event.kind === 'rewind')
    for (const old of [...log.children]) if (Number(old.dataset.index) >= event.to) old.remove();
  const below = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  const item = element('li', '');
  if (event.kind === 'yield') item.dataset.index = event.index;
  item.append(element('span', event.seq), element('span', event.kind), element('span', SAYS[event.kind]?.(event) ?? ''));
  log.append(item);
  while (log.children.length > LINES_MAX) log.firstChild.remove();
  if (below) log.scrollTop = log.scrollHeight;
}

/** Reads lines of JSON up to the end of a response. */
async function* lines(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const whole = (rest + value).split('\n');
    rest = whole.pop();
    for (const one of whole) yield JSON.parse(one);
  }
}

/** Shows a task, and follows its log, over as many connections as it takes. */
async function watch(id) {
  leave.abort();
  leave = new AbortController();
  const { signal } = leave;
  $('#log').replaceChildren();
  $('#one').hidden = !id;
  if (!id) return;
  await record(id);
  for (let from = 1; !signal.aborted;) {
    try {
      $('#live').textContent = 'live';
      const response = await call(`v1/tasks/${id}/events?format=ndjson&follow=1&from=${from}`, { signal });
      if (response.status === 204) break;
      for await (const event of lines(response)) {
        if (signal.aborted) return;
        line(event);
        from = event.seq + 1;
      }
      if (ENDED.includes((await record(id)).status)) break;
    } catch (problem) {
      if (signal.aborted) return;
      $('#live').textContent = 'not connected';
      told(problem);
      await new Promise((resolve) => setTimeout(resolve, PERIOD));
    }
  }
  if (!signal.aborted) $('#live').textContent = 'ended';
}

// ---- what is done where

async function refresh() {
  await Promise.all([list(), counts()]);
  const id = shown();
  if (id && !ENDED.includes($('#status').textContent)) await record(id);
}

const start = trying(async () => {
  await Promise.all([functions(), refresh()]);
  watch(shown()).catch(told);
});

$('#login').onsubmit = (event) => {
  event.preventDefault();
  sessionStorage.setItem('qtasks-token', $('#login').elements.token.value.trim());
  $('#login').hidden = true;
  $('main').hidden = false;
  start();
};
$('#add').onsubmit = trying(async () => {
  const { task, args } = $('#add').elements;
  const text = args.value.trim() || '{}';
  let given;
  try {
    given = JSON.parse(text);
  } catch {
    throw new Error(`the arguments are no JSON: ${text}`);
  }
  location.hash = (await post('v1/tasks', { task: task.value, args: given })).id;
  await list();
});
$('#add').elements.task.onchange = hint;
$('#filter').onchange = trying(async () => {
  pages = 1;
  await list();
});
$('#more').onclick = trying(async () => {
  pages += 1;
  await list();
});
for (const button of document.querySelectorAll('[data-verb]')) {
  button.onclick = trying(async () => {
    const { verb } = button.dataset;
    const of = await post(`v1/tasks/${shown()}/${verb}`, verb === 'cancel' ? { reason: 'cancelled from the dashboard' } : {});
    if (verb === 'retry') location.hash = of.id;
    await refresh();
  });
}
window.onhashchange = trying(async () => {
  watch(shown()).catch(told);
  await list();
});

start();
const again = trying(refresh);
setInterval(() => {
  if (!document.hidden && $('#login').hidden) again();
}, PERIOD);
