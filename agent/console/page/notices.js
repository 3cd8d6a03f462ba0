// Tells people things: toasts to see, announcements to hear; a request that fails is always told.
import { h, text } from './dom.js';
import { t } from './i18n.js';

const SHOWN = 4;
const toasts = h('div', { class: 'toasts' });
const polite = h('div', { class: 'sr-only', 'aria-live': 'polite', 'data-test': 'announce' });
const assertive = h('div', { class: 'sr-only', 'aria-live': 'assertive', 'data-test': 'announce-critical' });

export const regions = [toasts, polite, assertive];

export function announce(words, urgent = false) {
  const region = urgent ? assertive : polite;
  region.replaceChildren(h('p', null, words));
}

// Of a page with a modal dialog only what is inside that can be seen and heard.
export function house() {
  const home = [...document.querySelectorAll('dialog[open]')].at(-1) ?? document.body;
  if (toasts.parentElement !== home) home.append(toasts);
}

// `words`: a text, or a function that says it in the language chosen.
export function toast(words, kind = 'info') {
  const close = () => node.remove();
  const node = h('div', {
    class: `toast toast-${kind}`, role: kind === 'error' ? 'alert' : 'status', 'data-test': 'toast', 'data-kind': kind,
  },
  h('span', { class: 'toast-mark', 'aria-hidden': 'true' }, kind === 'error' ? '!' : kind === 'done' ? '✓' : 'i'),
  h('p', null, words),
  h('button', { type: 'button', class: 'icon', 'aria-label': () => t('close'), onclick: close }, '✕'));
  house();
  toasts.append(node);
  while (toasts.children.length > SHOWN) toasts.firstElementChild.remove();
  let timer = setTimeout(close, kind === 'error' ? 20000 : 6000);
  node.addEventListener('pointerenter', () => clearTimeout(timer));
  node.addEventListener('pointerleave', () => { timer = setTimeout(close, 4000); });
}

export const failed = (error) => {
  if (error?.status !== 401) toast(error?.message ?? String(error), 'error');
};

// Does `work`; a failure is told and gives undefined.
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    failed(error);
    return undefined;
  }
}

// The same for a button, which cannot be pressed meanwhile.
export const busy = (work) => async (event) => {
  const button = event.currentTarget;
  button.disabled = true;
  button.setAttribute('aria-busy', 'true');
  try {
    await attempt(() => work(event));
  } finally {
    button.disabled = false;
    button.removeAttribute('aria-busy');
  }
};

// A place for what is going on in a view: nothing, that it loads, or why it cannot.
export function placeholder(node, words, kind = 'quiet') {
  node.replaceChildren(h('p', { class: `placeholder placeholder-${kind}`, role: kind === 'error' ? 'alert' : null }, text(words)));
}
