// SPDX-License-Identifier: Apache-2.0
// The page of a run: speaks the interface of docs/control.md and builds its controls from the
// parameters that the run says it has.
import { Chart } from './charts.js';
import { buildOutputs } from './outputs.js';
import { buildParams } from './params.js';
import { watchEvents, watchPictures } from './streams.js';

const HISTORY = 'live2diff.history', WIPE = 'live2diff.wipe', TOKEN = 'live2diff.token';
const MAX_HISTORY = 12;

const $ = (id) => document.getElementById(id);
const stored = (key, otherwise) => {
  try {
    return JSON.parse(localStorage.getItem(key)) ?? otherwise;
  } catch {
    return otherwise;
  }
};

// --- asking the run

let token = sessionStorage.getItem(TOKEN) || '';

function takeTokenFromAddress() {
  const url = new URL(location.href);
  const given = url.searchParams.get('token');
  if (!given)
    return;
  token = given;
  sessionStorage.setItem(TOKEN, token);
  url.searchParams.delete('token');
  history.replaceState(null, '', url);
}

const headers = () => (token ? { Authorization: `Bearer ${token}` } : {});

class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { ...headers(), ...options.headers }, cache: 'no-store' });
  if (answer.ok)
    return answer;
  const { error } = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, error || `the server answers with status ${answer.status}`);
}

async function change(params) {
  const answer = await ask('/api/params', {
    method: 'PATCH', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(params),
  });
  return answer.json();
}

// --- the picture

const picture = $('picture'), stage = $('stage'), wipe = $('wipe');
let fit = 'cover', comparing = false, watching = null;
const newest = { result: null, source: null };

// Where a picture of w x h lies in W x H, as the run lays its input into its output.
function place(w, h, W, H) {
  if (fit === 'stretch')
    return [0, 0, W, H];
  const scale = fit === 'contain' ? Math.min(W / w, H / h) : Math.max(W / w, H / h);
  return [(W - w * scale) / 2, (H - h * scale) / 2, w * scale, h * scale];
}

function drawPicture() {
  const { result, source } = newest;
  if (!result)
    return;
  if (picture.width !== result.width || picture.height !== result.height) {
    picture.width = result.width;
    picture.height = result.height;
    placeWipe();
  }
  const c = picture.getContext('2d');
  c.drawImage(result, 0, 0);
  if (!comparing || !source)
    return;
  c.save();
  c.beginPath();
  c.rect(0, 0, picture.width * wipe.value / 100, picture.height);
  c.clip();
  if (fit === 'contain') {
    c.fillStyle = '#000';
    c.fillRect(0, 0, picture.width, picture.height);
  }
  c.drawImage(source, ...place(source.width, source.height, picture.width, picture.height));
  c.restore();
}

// The canvas shows its picture with bars where the shapes differ; the wipe lies on the picture.
function placeWipe() {
  const shown = Math.min(picture.clientWidth, picture.clientHeight * picture.width / picture.height);
  stage.style.setProperty('--picture-width', `${shown}px`);
  stage.style.setProperty('--wipe', `${wipe.value}%`);
}

async function onPicture(view, bytes) {
  const bitmap = await createImageBitmap(new Blob([bytes], { type: 'image/jpeg' }));
  if (newest[view])
    newest[view].close();
  newest[view] = bitmap;
  if (view === 'result') {
    $('empty').hidden = true;
    drawPicture();
  }
}

function watch() {
  watching?.abort();
  watching = new AbortController();
  watchPictures(`/preview.mjpeg?view=${comparing ? 'both' : 'result'}`, headers, watching.signal, onPicture);
}

function setComparing(on) {
  comparing = on;
  $('compare').setAttribute('aria-pressed', String(on));
  $('compare-layer').hidden = !on;
  placeWipe();
  watch();
}

async function save() {
  try {
    const answer = await ask('/api/snapshot', { method: 'POST' });
    const link = document.createElement('a');
    link.href = URL.createObjectURL(await answer.blob());
    link.download = `live2diff-${answer.headers.get('X-Frame')}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  } catch (error) {
    say(error.message, true);
  }
}

function setUpPicture() {
  wipe.value = stored(WIPE, 50);
  wipe.addEventListener('input', () => {
    placeWipe();
    drawPicture();
    localStorage.setItem(WIPE, wipe.value);
  });
  new ResizeObserver(placeWipe).observe(picture);
  $('compare').addEventListener('click', () => setComparing(!comparing));
  $('snapshot').addEventListener('click', save);
  $('record').addEventListener('click', toggleRecording);
  $('full').addEventListener('click', () => (document.fullscreenElement ? document.exitFullscreen()
    : stage.requestFullscreen?.()));
  document.addEventListener('visibilitychange', () => (document.hidden ? watching?.abort() : watch()));
}

// --- the prompt

let knownPrompt = null, presets = [];
let lastReceipt = 0, awaited = Infinity;        // numbers of changes

function say(text, bad = false) {
  $('said').textContent = text;
  $('said').toggleAttribute('data-bad', bad);
}

async function applyPrompt(text) {
  const prompt = text.trim();
  try {
    awaited = lastReceipt + 1;
    await change({ prompt });
    knownPrompt = prompt;
    $('prompt').value = prompt;
    say('On its way …');
    remember(prompt);
    showPresets();
  } catch (error) {
    say(error.message, true);
  }
}

// The run says with which frame a change took effect, some time after it has accepted it.
function showReceipts(receipts) {
  for (const { number, param, state, frame, why } of receipts) {
    if (param === 'prompt' && number >= awaited && state !== 'waiting') {
      say(state === 'done' ? `In effect from frame ${frame}.` : why, state !== 'done');
      awaited = Infinity;
    }
    lastReceipt = Math.max(lastReceipt, number);
  }
}

function remember(prompt) {
  const list = stored(HISTORY, []).filter((other) => other !== prompt);
  if (prompt)
    list.unshift(prompt);
  localStorage.setItem(HISTORY, JSON.stringify(list.slice(0, MAX_HISTORY)));
  showHistory();
}

function chip(text, onClick) {
  const button = document.createElement('button');
  button.type = 'button';
  button.textContent = text;
  button.addEventListener('click', onClick);
  return button;
}

function showHistory() {
  const list = stored(HISTORY, []);
  $('history').hidden = list.length === 0;
  $('recent').replaceChildren(...list.map((prompt) => chip(prompt, () => applyPrompt(prompt))));
}

const partsOf = (prompt) => prompt.split(',').map((part) => part.trim()).filter(Boolean);

// One phrase of each group: another one takes its place, the same again takes it away. What was
// typed besides stays.
function togglePhrase(index, phrase) {
  const parts = partsOf($('prompt').value);
  const rest = parts.filter((part) => !presets[index].phrases.includes(part));
  if (!parts.includes(phrase))
    rest.splice(index === 0 ? 0 : rest.length, 0, phrase);
  applyPrompt(rest.join(', '));
}

function showPresets() {
  const parts = partsOf($('prompt').value);
  for (const button of $('presets').querySelectorAll('button'))
    button.setAttribute('aria-pressed', String(parts.includes(button.textContent)));
}

async function setUpPrompt(model) {
  const table = await (await ask('/presets.json')).json();
  presets = table[model] || table[''];
  $('presets').replaceChildren(...presets.map(({ name, phrases }, index) => {
    const [row, title, chips] = ['div', 'span', 'div'].map((tag) => document.createElement(tag));
    row.className = 'chips-row';
    title.className = 'chips-name';
    title.textContent = name;
    chips.className = 'chips';
    chips.setAttribute('role', 'group');
    chips.setAttribute('aria-label', name);
    chips.append(...phrases.map((phrase) => chip(phrase, () => togglePhrase(index, phrase))));
    row.append(title, chips);
    return row;
  }));
  $('composer').addEventListener('submit', (event) => {
    event.preventDefault();
    applyPrompt($('prompt').value);
  });
  $('prompt').addEventListener('input', showPresets);
  $('composer').hidden = false;
  showHistory();
}

// --- measurements

const charts = {
  fps: new Chart($('fps-chart'), { series: [{ color: '--accent', fill: true }] }),
  latency: new Chart($('latency-chart'), {
    series: [{ color: '--accent', fill: true }, { color: '--soft', dash: [4, 3] }], least: 10,
    format: (ms) => (ms >= 1000 ? `${+(ms / 1000).toPrecision(2)} s` : `${+ms.toPrecision(3)}`),
  }),
  fates: new Chart($('fates-chart'), {
    series: [{ color: '--accent' }, { color: '--blue' }, { color: '--bad' }], stacked: true,
  }),
};
const RATE_SAMPLES = 4;         // two seconds: at less than that, slow models make combs of bars
const recentCounts = [];

const sum = (object) => Object.values(object).reduce((a, b) => a + b, 0);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;
const short = (ms) => (ms >= 1000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms)} ms`);

function setReading(name, text) {
  $(`${name}-now`).textContent = text;
  $(`${name}-chart`).setAttribute('aria-label', `${name}: ${text}`);
}

function showFates(state) {
  const { frames } = state;
  const copied = frames.similar + frames.moved;
  const counts = [frames.out - copied, copied, sum(frames.dropped)];
  const [before] = recentCounts;
  if (before) {
    const seconds = Math.max(state.uptime_s - before.uptime_s, 0.1);
    charts.fates.add(counts.map((count, i) => Math.max(count - before.counts[i], 0) / seconds));
  }
  recentCounts.push({ uptime_s: state.uptime_s, counts });
  if (recentCounts.length > RATE_SAMPLES)
    recentCounts.shift();
  setReading('fates', `${frames.in.toLocaleString('en')} read`);
  const names = [['drawn', 'drawn'], ['similar', frames.moved ? 'moved along' : 'repeated'], ['dropped', 'dropped']];
  $('fates-legend').replaceChildren(...names.flatMap(([key, name], i) => {
    if (i === 1 && !counts[1])
      return [];
    const item = document.createElement('li'), mark = document.createElement('i');
    mark.className = `key-${key}`;
    const reasons = key === 'dropped' ? Object.entries(frames.dropped).filter(([, n]) => n) : [];
    const why = reasons.map(([reason, n]) => `${n.toLocaleString('en')} ${reason}`).join(', ');
    item.append(mark, `${counts[i].toLocaleString('en')} ${name}${why ? ` (${why})` : ''}`);
    return [item];
  }));
}

function showMeasurements(state) {
  const { p50, p95 } = state.latency_ms;
  charts.fps.add([state.fps]);
  charts.latency.add([p50, p95]);
  setReading('fps', state.fps.toFixed(1));
  setReading('latency', state.latency_ms.count ? `${short(p50)} · p95 ${short(p95)}` : '–');
  showFates(state);
}

function showList(state) {
  const { engine } = state;
  const rows = {
    Model: engine.model || 'none', Device: engine.device, Size: `${engine.width} × ${engine.height}`,
    Steps: engine.steps || '–', Precision: engine.precision,
    Memory: `${megabytes(engine.gpu_memory_bytes)} GPU, ${megabytes(state.peak_rss_bytes)} host`,
    Running: `${Math.floor(state.uptime_s / 60)} min ${Math.floor(state.uptime_s % 60)} s`,
  };
  $('engine').replaceChildren(...Object.entries(rows).flatMap(([name, value]) => {
    const dt = document.createElement('dt'), dd = document.createElement('dd');
    dt.textContent = name;
    dd.textContent = dd.title = value;
    return [dt, dd];
  }));
  outputs.update(state.outputs);
}

// --- recording

function showRecording(on) {
  $('record').hidden = on === undefined;
  $('record').setAttribute('aria-pressed', String(Boolean(on)));
  $('record').querySelector('span').textContent = on ? 'Stop' : 'Record';
}

async function toggleRecording() {
  const record = $('record').getAttribute('aria-pressed') !== 'true';
  try {
    showRecording((await change({ record })).params.record);
  } catch (error) {
    outputs.say(error.message, true);
  }
}

// --- all together

const outputs = buildOutputs($('outputs'), $('add-output'), ask);
let panel = null;

function onState(state) {
  fit = state.engine.fit;
  const input = state.source.state;
  setPulse(input === 'retrying' ? 'gone' : 'live',
    input === 'running' ? `${state.fps.toFixed(1)} fps` : `input ${input}`);
  $('pulse').title = input === 'retrying' ? state.source.reason : '';
  $('what').textContent = `${state.input} → ${state.outputs.map((output) => output.name).join(', ')}`;
  const { prompt } = state.params;
  if (prompt !== undefined && prompt !== knownPrompt) {
    const untouched = knownPrompt === null || $('prompt').value === knownPrompt;
    knownPrompt = prompt;
    if (untouched || document.activeElement !== $('prompt'))
      $('prompt').value = prompt;
    showPresets();
  }
  showReceipts(state.receipts);
  panel?.update(state.params);
  showRecording(state.params.record);
  showMeasurements(state);
  showList(state);
}

function setPulse(state, text) {
  $('pulse').dataset.state = state;
  $('pulse-text').textContent = text;
}

function askForToken() {
  $('gate').showModal();
  return new Promise((resolve) => {
    $('gate-form').onsubmit = async (event) => {
      event.preventDefault();
      token = $('token').value.trim();
      try {
        await ask('/api/state');
        sessionStorage.setItem(TOKEN, token);
        $('gate').close();
        resolve();
      } catch (error) {
        $('gate-said').textContent = error.status === 401 ? 'That is not the token.' : error.message;
      }
    };
    $('gate').oncancel = (event) => event.preventDefault();
  });
}

async function firstState() {
  try {
    return await (await ask('/api/state')).json();
  } catch (error) {
    if (error.status !== 401)
      throw error;
    await askForToken();
    return firstState();
  }
}

function setUpKeys() {
  const keys = { c: $('compare'), s: $('snapshot'), r: $('record'), f: $('full') };
  document.addEventListener('keydown', (event) => {
    const typing = event.target.closest?.('input:not([type="range"]), textarea, select, dialog');
    if (event.ctrlKey || event.metaKey || event.altKey || typing)
      return;
    if (event.key === '/') {
      event.preventDefault();
      $('prompt').focus();
    } else {
      keys[event.key.toLowerCase()]?.click();
    }
  });
}

async function begin() {
  takeTokenFromAddress();
  const state = await firstState();
  const table = await (await ask('/api/params')).json();
  if (table.some((row) => row.name === 'prompt'))
    await setUpPrompt(state.engine.model);
  const rest = table.filter((row) => row.name !== 'prompt' && row.name !== 'record');
  panel = buildParams($('params'), rest, change);
  $('params-panel').hidden = rest.length === 0;
  setUpPicture();
  setUpKeys();
  onState(state);
  watch();
  watchEvents('/api/events', headers, onState, () => setPulse('gone', 'not connected'));
}

begin().catch((error) => setPulse('gone', error.message));
