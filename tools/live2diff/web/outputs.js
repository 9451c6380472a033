// SPDX-License-Identifier: Apache-2.0
// The outputs of a run: how each is doing, a box to add one, and a button to take one away.

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function describe(output) {
  return [output.state, output.up && output.latency_ms.p95 && `${output.latency_ms.p95.toFixed(0)} ms`,
    output.dropped && `${output.dropped} dropped`].filter(Boolean).join(' · ');
}

// Rows stay the same elements, so that a button that is about to be pressed does.
function buildRow(output, remove) {
  const [name, state, reason] = ['name', 'state', 'reason'].map((className) => make('span', { className }));
  const button = make('button', { type: 'button', className: 'remove', textContent: '×' });
  const element = make('li', {}, make('span', { className: 'dot' }), name, state, button, reason);
  button.addEventListener('click', () => remove(output.id, button));
  return {
    element,
    update(now) {
      element.className = now.recording && now.up ? 'up recording' : now.up ? 'up' : 'down';
      name.textContent = name.title = now.name;
      state.textContent = describe(now);
      reason.textContent = now.state === 'running' ? '' : now.reason;
      button.title = `Finish ${now.name} and take it away`;
      button.setAttribute('aria-label', button.title);
      button.hidden = now.state === 'finishing';
    },
  };
}

export function buildOutputs(list, form, ask) {
  const rows = new Map();
  const input = form.querySelector('input'), submit = form.querySelector('button');
  const said = form.querySelector('[role="status"]');
  const say = (text, bad = false) => {
    said.textContent = text;
    said.toggleAttribute('data-bad', bad);
  };

  async function remove(id, button) {
    button.disabled = true;
    try {
      await ask(`/api/outputs/${id}`, { method: 'DELETE' });
      say('');
    } catch (error) {
      say(error.message, true);
    }
    button.disabled = false;
  }

  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    submit.disabled = true;
    say('Opening …');
    try {
      const answer = await (await ask('/api/outputs', {
        method: 'POST', headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ url: input.value.trim() }),
      })).json();
      say(answer.state === 'running' ? '' : 'It does not answer yet; the list tells what becomes of it.');
      input.value = '';
    } catch (error) {
      say(error.message, true);
    }
    submit.disabled = false;
  });

  return {
    say,
    update(outputs) {
      const ids = new Set(outputs.map((output) => output.id));
      for (const [id, row] of rows)
        if (!ids.has(id)) {
          row.element.remove();
          rows.delete(id);
        }
      for (const output of outputs) {
        if (!rows.has(output.id)) {
          rows.set(output.id, buildRow(output, remove));
          list.append(rows.get(output.id).element);
        }
        rows.get(output.id).update(output);
      }
    },
  };
}
