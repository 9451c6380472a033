// SPDX-License-Identifier: Apache-2.0
// Controls for the parameters that a run says it has; none is known here by name.

const TOO_MANY_STOPS = 10000;   // a range that no slider can be set exactly in: a seed

function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const title = (name) => name[0].toUpperCase() + name.slice(1).replaceAll('_', ' ');

// A control is { body, show(value) }; send(value) changes the parameter.
const builders = {
  text(row, id, send) {
    const input = make('input', { type: 'text', id, autocomplete: 'off', spellcheck: false });
    input.addEventListener('change', () => send(input.value));
    return { body: [input], show: (value) => { if (document.activeElement !== input) input.value = value; } };
  },

  number(row, id, send) {
    if ((row.max - row.min) / row.step > TOO_MANY_STOPS)
      return builders.entry(row, id, send);
    const input = make('input', { type: 'range', id, min: row.min, max: row.max, step: row.step });
    const output = make('output');
    const show = (value) => {
      input.value = value;
      output.textContent = `${+Number(value).toFixed(3)}${row.unit ? ` ${row.unit}` : ''}`;
      input.style.setProperty('--part', `${100 * (input.value - row.min) / (row.max - row.min || 1)}%`);
    };
    input.addEventListener('input', () => {
      show(input.value);
      send(Number(input.value));
    });
    return { head: [output], body: [input], show };
  },

  entry(row, id, send) {
    const input = make('input', { type: 'number', id, min: row.min, max: row.max, step: row.step });
    const dice = make('button', { type: 'button', textContent: 'Random' });
    input.addEventListener('change', () => send(Number(input.value)));
    dice.addEventListener('click', () => {
      const most = Math.min(row.max, row.min + 999999);
      input.value = row.min + Math.floor(Math.random() * (most - row.min + 1));
      send(Number(input.value));
    });
    return {
      body: [make('div', { className: 'entry' }, input, dice)],
      show: (value) => { if (document.activeElement !== input) input.value = value; },
    };
  },

  flag(row, id, send) {
    const input = make('input', { type: 'checkbox', id, className: 'switch', role: 'switch' });
    input.addEventListener('change', () => send(input.checked));
    return { head: [input], body: [], show: (value) => { input.checked = value; } };
  },

  choice(row, id, send) {
    const buttons = row.choices.map((word) => make('button', { type: 'button', textContent: word, role: 'radio' }));
    const group = make('div', { className: 'segments', id, role: 'radiogroup' }, ...buttons);
    const show = (value) => buttons.forEach((button) => {
      const on = button.textContent === value;
      button.setAttribute('aria-checked', String(on));
      button.tabIndex = on ? 0 : -1;
    });
    const choose = (button) => {
      show(button.textContent);
      button.focus();
      send(button.textContent);
    };
    buttons.forEach((button, i) => {
      button.addEventListener('click', () => choose(button));
      button.addEventListener('keydown', (event) => {
        const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!by)
          return;
        event.preventDefault();
        choose(buttons[(i + by + buttons.length) % buttons.length]);
      });
    });
    return { body: [group], show, group };
  },

  action(row, id, send) {
    const button = make('button', { type: 'button', id, textContent: title(row.name) });
    button.addEventListener('click', () => send(true));
    return { body: [button], show: () => {}, named: true };
  },
};
builders.int = builders.real = builders.number;

// One request at a time, and of what was set meanwhile the last.
function sender(row, change, onError) {
  let next = [], busy = false;
  return async (value) => {
    next = [value];
    if (busy)
      return;
    busy = true;
    while (next.length) {
      try {
        await change({ [row.name]: next.shift() });
        onError('');
      } catch (error) {
        onError(error.message);
      }
    }
    busy = false;
  };
}

function buildParam(row, change) {
  const id = `param-${row.name}`;
  const bad = make('p', { className: 'param-bad', hidden: true });
  let sent = 0;
  const send = sender(row, change, (message) => {
    bad.textContent = message;
    bad.hidden = !message;
  });
  const control = builders[row.kind](row, id, (value) => {
    sent = Date.now();
    send(value);
  });
  const name = control.group ? make('span', { className: 'param-name', textContent: title(row.name), id: `${id}-name` })
    : make('label', { htmlFor: id, textContent: title(row.name) });
  control.group?.setAttribute('aria-labelledby', `${id}-name`);
  const parts = control.named ? [] : [make('div', { className: 'param-head' }, name, ...(control.head || []))];
  parts.push(...control.body, make('p', { className: 'param-doc', textContent: row.doc }), bad);
  if (row.value !== undefined)
    control.show(row.value);
  return {
    element: make('div', { className: 'param' }, ...parts),
    // What was just set by hand may be older in a state that is on its way.
    update: (value) => { if (Date.now() - sent > 1200) control.show(value); },
  };
}

export function buildParams(into, table, change) {
  const controls = Object.fromEntries(table.map((row) => [row.name, buildParam(row, change)]));
  into.replaceChildren(...Object.values(controls).map((control) => control.element));
  return {
    update(values) {
      for (const [name, value] of Object.entries(values))
        controls[name]?.update(value);
    },
  };
}
