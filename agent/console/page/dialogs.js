// Questions asked in a modal dialog: a form, or yes and no; Esc closes, the focus returns to where it was.
import { h, unique } from './dom.js';
import { t } from './i18n.js';
import { house } from './notices.js';

export const isOpen = () => document.querySelector('dialog[open]') !== null;

// `title` is a function; `build(close)` gives the content.
export function dialog(title, build, { wide = false, hook = null } = {}) {
  const id = unique('dialog');
  const close = () => node.close();
  const node = h('dialog', { class: wide ? 'wide' : null, 'aria-labelledby': id, 'data-test': hook },
    h('header', null,
      h('h2', { id }, title),
      h('button', { type: 'button', class: 'icon', 'aria-label': () => t('close'), onclick: close }, '✕')));
  node.append(build(close));
  node.addEventListener('close', () => {
    node.remove();
    house();
  });
  node.addEventListener('pointerdown', (event) => event.target === node && close());
  document.body.append(node);
  node.showModal();
  house();
  return node;
}

// A form of `fields` (nodes); `submit` may throw, and its words are then shown in the form.
export function form(title, fields, submit, { action, hook = null, danger = false, note = null } = {}) {
  return dialog(title, (close) => {
    const error = h('p', { class: 'form-error', role: 'alert', hidden: true });
    const button = h('button', { class: danger ? 'danger' : 'primary', 'data-test': hook }, action);
    return h('form', {
      onsubmit: async (event) => {
        event.preventDefault();
        button.disabled = true;
        error.hidden = true;
        try {
          await submit();
          close();
        } catch (problem) {
          error.textContent = problem.message;
          error.hidden = false;
        } finally {
          button.disabled = false;
        }
      },
    },
    note && h('p', { class: 'note' }, note),
    fields,
    error,
    h('div', { class: 'form-actions' }, h('button', { type: 'button', onclick: close }, () => t('cancel')), button));
  });
}

export const confirm = (title, note, action, submit, danger = false) => form(title, [], submit, {
  action, note, danger, hook: 'confirm',
});

// A labelled control; `hint` says what goes in.
export function field(label, control, hint = null) {
  const id = unique('field');
  control.id = id;
  if (hint) control.setAttribute('aria-describedby', `${id}-hint`);
  return h('div', { class: 'field' }, h('label', { for: id }, label), control, hint && h('small', { id: `${id}-hint` }, hint));
}

export function select(options, props = {}) {
  return h('select', props, options.map(([value, words]) => h('option', { value }, words)));
}
