// Which view the address asks for: #/VIEW/ID?filters; the same view is told of a new address, not built anew.
import { h } from './dom.js';

const view = h('main', { id: 'main', tabindex: '-1' });
const views = new Map();
let shown = null;
let changed = () => {};

export const main = view;

export function parse(hash = location.hash) {
  const [path, search = ''] = hash.replace(/^#\/?/, '').split('?');
  const parts = path.split('/').map((part) => {
    try {
      return decodeURIComponent(part);
    } catch {
      return part;
    }
  });
  return { name: parts[0] || 'alarms', id: parts[1] || null, query: new URLSearchParams(search) };
}

export function address(name, id = null, query = null) {
  const search = query ? String(query) : '';
  return `#/${name}${id ? `/${encodeURIComponent(id)}` : ''}${search ? `?${search}` : ''}`;
}

// `make` gives {node, show(route), close(), keys} each time the view is entered.
export const define = (name, make) => views.set(name, make);
export const onChange = (listener) => { changed = listener; };

export const go = (hash) => { location.hash = hash; };

// Changes the address, but neither the history nor the view.
export const rewrite = (hash) => history.replaceState(null, '', hash);

export function show() {
  const route = parse();
  if (!views.has(route.name)) {
    location.replace('#/alarms');
    return;
  }
  if (shown?.name === route.name) {
    shown.view.show(route);
  } else {
    leave();
    const made = views.get(route.name)();
    shown = { name: route.name, view: made };
    view.className = `view view-${route.name}`;
    view.replaceChildren(made.node);
    view.scrollTop = 0;
    made.show(route);
  }
  changed(route);
}

function leave() {
  shown?.view.close?.();
  shown = null;
  view.replaceChildren();
}

export const current = () => shown?.view ?? null;
